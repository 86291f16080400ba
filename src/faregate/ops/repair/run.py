"""The run of a repair: find, plan, act, and find again, until nothing is left that it can repair.

Each round uses its own findings, and none of an earlier round. So a repair that was killed can be
run again. The first round and the last one are about all users, and those between about users who
were just repaired.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

from faregate.domain.alignment import Alignment, AlignmentRecord, LiveDrift
from faregate.domain.errors import InvalidArgumentError
from faregate.domain.finding import DriftKind, Finding, Verification
from faregate.domain.operator import Operator
from faregate.domain.repair import Favour, LiveChange, RepairEvent, Row, Step, StepAction
from faregate.domain.transaction import TransactionType
from faregate.ops.reconcile import differences, reconcile, verification
from faregate.ops.repair.facts import Sources, gather
from faregate.ops.repair.plan import plan, plan_epochs
from faregate.ops.repair.steps import acceptance
from faregate.ports import Audit

#: How many rounds a repair has at most. One cause shows in few kinds, repaired one after another.
ROUNDS_MAX = 20
#: For how long a drift may be used. Charges do not change it, and of two corrections only one is
#: made.
ALIGNMENT_MS_MAX = 600_000

#: Is told each step right before it is taken, or instead where nothing is to be changed.
OnStep = Callable[[Step], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """The steps of a repair, and the findings that are left."""

    #: In the order in which they were taken, or would be.
    steps: Sequence[Step]
    #: Findings that were asked for and are left.
    left: Sequence[Finding]
    #: Findings that were asked for and are not there any more.
    resolved: Sequence[str]
    #: How many dead letters wait for an operator, who decides about each.
    dead_letter_count: int


#: Takes credits from a user by an adjustment, once for its key, and below zero if need be.
Adjust = Callable[[UUID, int, str, Operator], None]


@dataclass(slots=True)
class Servers:
    """The servers that are checked and repaired."""

    audit: Audit
    sources: Sources
    adjust: Adjust
    #: Make the schema what the migrations make, and a ledger of an empty Redis.
    restore_schema: Callable[[], object]
    rebuild: Callable[[], object]

    def findings(self) -> list[Finding]:
        """Return all findings of reconcile and verify that were not accepted, each once."""
        asked = self.sources.stream, self.sources.balances, self.audit
        return _each([*verification(*asked).findings, *reconcile(*asked).findings])

    def findings_of(self, users: Sequence[UUID]) -> list[Finding]:
        """Return those of some users, in a time that does not grow with all other users."""
        asked = self.sources.stream, self.sources.balances, self.audit
        found = [*self.audit.verify(users), *differences(*asked, users)]
        return _each(Verification.of(found, self.audit.acknowledgements()).findings)

    def plan(
        self, findings: Sequence[Finding], named: frozenset[str], favour: Favour
    ) -> Sequence[Step]:
        """Plan the steps for findings."""
        if any(finding.kind is DriftKind.EPOCH for finding in findings):
            epochs = self.sources.balances.epochs()
            is_installed = (
                any(epoch is not None for epoch in epochs) or self.sources.stream.identity_fields()
            )
            return plan_epochs(findings, named, is_empty=not is_installed)
        return plan(findings, gather(findings, self.sources), favour)

    def take(self, step: Step, who: Operator) -> None:
        """Take a step, between two notes of it."""
        event = _event(step, who)
        if step.drift:
            _align(self.sources, event, step.drift)
            return
        self.sources.repairs.begin(event)
        if step.action is StepAction.ADJUST and step.finding.user_id:
            self.adjust(step.finding.user_id, step.amount or 0, step.finding.id, who)
        elif step.action is StepAction.RESTORE_SCHEMA:
            self.restore_schema()
        elif step.action is StepAction.REBUILD:
            self.rebuild()
        self.sources.repairs.act(event)


def _each(found: Sequence[Finding]) -> list[Finding]:
    return list({finding.id: finding for finding in found}.values())


def _align(sources: Sources, event: RepairEvent, drift: LiveDrift) -> None:
    """Align a live balance with its ledger. If it is refused, the next round measures again.

    A call that was lost and is executed later does no harm: it is refused once the user has been
    aligned by another one.
    """
    record = None
    if event.step.action is StepAction.RECORD:
        signature = {"actor": event.actor, "repair": event.step.finding.id}
        kind = TransactionType.ADMIN_ADJUSTMENT
        record = AlignmentRecord(type=kind, description=event.reason, metadata=signature)
    alignment = Alignment.of(drift, record, for_ms=ALIGNMENT_MS_MAX)
    deadline_at = datetime.fromtimestamp(alignment.deadline_ms / 1_000, UTC)
    sources.repairs.begin(event, deadline_at)
    done = sources.accounts.align(alignment)
    change = LiveChange(
        # The next row follows from the balance that was made; that of the record does, too. Nothing
        # is appended for an amount of 0.
        sequence=done.sequence - bool(record and drift.amount),
        credits_before=done.credits_before,
        credits_after=done.credits,
    )
    sources.repairs.end(event, change if done.is_done else None)


@dataclass(slots=True)
class _Asked:
    """Which findings are repaired: those asked for, and those that show once they are gone."""

    ids: frozenset[str]
    known: set[str] = field(default_factory=set)
    users: set[UUID | None] = field(default_factory=set)

    def has(self, finding: Finding) -> bool:
        if not self.ids or finding.id in self.ids:
            return True
        return finding.user_id in self.users and finding.id not in self.known


def preview(servers: Servers, ids: Sequence[str], favour: Favour) -> Repaired:
    """Plan the first round of a repair. Writes nothing."""
    found, asked = servers.findings(), _Asked(frozenset(ids))
    found.sort(key=lambda finding: not asked.has(finding))
    steps = [one for one in servers.plan(found, asked.ids, favour) if asked.has(one.finding)]
    left = [one.finding for one in steps]
    count = servers.audit.dead_letter_count()
    return Repaired(
        steps=steps, left=left, resolved=_resolved(asked, found), dead_letter_count=count
    )


def repair(
    servers: Servers, ids: Sequence[str], favour: Favour, who: Operator, on_step: OnStep
) -> Repaired:
    """Repair findings, by their ids or all, one user at a time.

    Args:
        servers: The servers to repair, in the role of the owner.
        ids: Of findings; none for all that reconcile and verify find.
        favour: Who gets the benefit, where nothing is proven.
        who: Operator repairs, and why: written into each event and each new row.
        on_step: Is told each step right before it is taken.

    Raises:
        ConfigurationError: Another repair is at work, or the role is not that of the owner.
        LedgerUnavailableError, ArchiveUnavailableError: A server does not answer.
    """
    applied: list[Step] = []
    asked = _Asked(frozenset(ids))
    with servers.sources.repairs.locked():
        found, is_whole = servers.findings(), True
        resolved = _resolved(asked, found)
        asked.known = {finding.id for finding in found}
        for _ in range(ROUNDS_MAX):
            # A step that restores much at once is taken for a finding that was asked for.
            found.sort(key=lambda finding: not asked.has(finding))
            steps = [
                one for one in servers.plan(found, asked.ids, favour) if asked.has(one.finding)
            ]
            doing = _next(steps, applied)
            if not doing and is_whole:
                break
            for step in doing:
                on_step(step)
                servers.take(step, who)
            applied += doing
            asked.users |= {step.finding.user_id for step in doing}
            found, is_whole = _found_again(servers, found, doing)
    left = [finding for finding in found if asked.has(finding)]
    count = servers.audit.dead_letter_count()
    return Repaired(steps=applied, left=left, resolved=resolved, dead_letter_count=count)


def _next(steps: Sequence[Step], applied: Sequence[Step]) -> Sequence[Step]:
    """Return the steps to take. One that something has undone is not taken again."""
    # A script may have been refused.
    before = {(one.finding.id, one.action) for one in applied if not one.drift}
    return [
        one for one in steps if one.action.is_done and (one.finding.id, one.action) not in before
    ]


def _found_again(
    servers: Servers, found: Sequence[Finding], doing: Sequence[Step]
) -> tuple[list[Finding], bool]:
    """Return the findings after some steps, and whether those of all users are new.

    Only the users of the steps are compared again, if there are any.
    """
    users = {user_id for step in doing for user_id in step.users}
    if not users or any(step.finding.user_id is None for step in doing):
        return servers.findings(), True
    others = [finding for finding in found if finding.user_id not in users]
    return [*others, *servers.findings_of(sorted(users))], False


def acknowledge(servers: Servers, ids: Sequence[str], who: Operator) -> Repaired:
    """Accept findings as they are: they are listed, and are no alarm until they change.

    Raises:
        InvalidArgumentError: One of them is not found, or says that Redis cannot serve.
    """
    with servers.sources.repairs.locked():
        found = {finding.id: finding for finding in servers.findings()}
        if resolved := sorted(set(ids) - set(found)):
            raise InvalidArgumentError(f"there is no finding {', '.join(resolved)}")
        steps = [_acceptance(found[one]) for one in dict.fromkeys(ids)]
        for step in steps:
            servers.take(step, who)
    count = servers.audit.dead_letter_count()
    return Repaired(steps=steps, left=(), resolved=(), dead_letter_count=count)


def _acceptance(finding: Finding) -> Step:
    if finding.kind is DriftKind.EPOCH:
        raise InvalidArgumentError(f"{finding.id} cannot be accepted: run `{finding.repair}`")
    says = f"accepts {finding.id}: {finding.detail}"
    return acceptance(finding, says)


def _resolved(asked: _Asked, found: Sequence[Finding]) -> Sequence[str]:
    return sorted(asked.ids - {finding.id for finding in found})


def _event(step: Step, who: Operator) -> RepairEvent:
    """Make an event of a step; a new row gets the id of the event, and says who and why."""
    event = RepairEvent(id=uuid4(), step=step, actor=who.actor, reason=who.reason)
    if step.action is StepAction.CLOSE:
        rows = tuple(_signed(row, event) for row in step.rows)
        event = replace(event, step=replace(step, rows=rows))
    return event


def _signed(row: Row, event: RepairEvent) -> Row:
    signature = {"actor": event.actor, "repair": event.step.finding.id}
    return {
        **row,
        "id": str(event.id),
        "description": event.reason,
        "metadata": {**dict(row["metadata"]), **signature},  # type: ignore[call-overload]
        "timestamp": datetime.now(UTC).isoformat(),
    }
