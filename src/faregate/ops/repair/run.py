"""The run of a repair: find, plan, act, and find again, until no repairable finding is left.

Each round uses only its own findings, so a killed repair can be run again. The first and the last
round check all users, and those between check users that were just repaired.
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

#: The most rounds. One cause has findings of few kinds, which are repaired one after another.
ROUNDS_MAX = 20
#: How long a drift may be used. Charges do not change it, and of two corrections only one is made.
ALIGNMENT_MS_MAX = 600_000

#: Called with each step right before it is applied, or instead of that in a preview.
OnStep = Callable[[Step], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """The steps of a repair, and the findings that are left."""

    #: The steps in the order of their application.
    steps: Sequence[Step]
    #: Requested findings that are left.
    left: Sequence[Finding]
    #: Ids of requested findings that do not exist any more.
    resolved: Sequence[str]
    #: The number of dead letters, about which an operator must decide.
    dead_letter_count: int


#: Adjusts a balance, once for an idempotency key, below zero if necessary.
Adjust = Callable[[UUID, int, str, Operator], None]


@dataclass(slots=True)
class Servers:
    """The servers to check and repair."""

    audit: Audit
    sources: Sources
    adjust: Adjust
    #: Restores the schema, and rebuilds an empty Redis.
    restore_schema: Callable[[], object]
    rebuild: Callable[[], object]

    def findings(self) -> list[Finding]:
        """Return all findings of reconcile and verify that are not acknowledged, each once."""
        asked = self.sources.stream, self.sources.balances, self.audit
        return _each([*verification(*asked).findings, *reconcile(*asked).findings])

    def findings_of(self, users: Sequence[UUID]) -> list[Finding]:
        """Return the findings of some users, in a time independent of all other users."""
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
        """Apply a step, and note its start and its end."""
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
    """Align a live balance with its ledger. After a refusal the next round measures again.

    A lost call that is executed later does no harm: after another alignment of the user it is
    refused.
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
        # The next row follows the new balance, as does that of the record. An amount of 0 appends
        # nothing.
        sequence=done.sequence - bool(record and drift.amount),
        credits_before=done.credits_before,
        credits_after=done.credits,
    )
    sources.repairs.end(event, change if done.is_done else None)


@dataclass(slots=True)
class _Asked:
    """The findings to repair: requested ones, and those that appear after their repair."""

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
        ids: The ids of findings; empty for all.
        favour: Who benefits if nothing is proven.
        who: The operator and the reason, which each event and each new row stores.
        on_step: Called with each step right before it is applied.

    Raises:
        ConfigurationError: Another repair runs, or the role is not that of the owner.
        LedgerUnavailableError, ArchiveUnavailableError: A server does not answer.
    """
    applied: list[Step] = []
    asked = _Asked(frozenset(ids))
    with servers.sources.repairs.locked():
        found, is_whole = servers.findings(), True
        resolved = _resolved(asked, found)
        asked.known = {finding.id for finding in found}
        for _ in range(ROUNDS_MAX):
            # A step with a wide effect is applied only for a requested finding.
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
    """Return the steps to apply. A step that was undone meanwhile is not repeated."""
    # A script that was refused may be tried again.
    before = {(one.finding.id, one.action) for one in applied if not one.drift}
    return [
        one for one in steps if one.action.is_done and (one.finding.id, one.action) not in before
    ]


def _found_again(
    servers: Servers, found: Sequence[Finding], doing: Sequence[Step]
) -> tuple[list[Finding], bool]:
    """Return the findings after some steps, and whether all users were checked.

    Only the users of the steps are compared again, if there are any.
    """
    users = {user_id for step in doing for user_id in step.users}
    if not users or any(step.finding.user_id is None for step in doing):
        return servers.findings(), True
    others = [finding for finding in found if finding.user_id not in users]
    return [*others, *servers.findings_of(sorted(users))], False


def acknowledge(servers: Servers, ids: Sequence[str], who: Operator) -> Repaired:
    """Acknowledge findings: they are listed, and are no alarm until they change.

    Raises:
        InvalidArgumentError: One does not exist, or is of a kind that stops Redis from serving.
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
    """Return the event of a step; a new row gets its id, the operator and the reason."""
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
