"""Repair: looks, plans, acts, and looks again, until nothing is left that it can repair.

It never trusts what an earlier look has found: a finding that is not there any more is left alone.
So a repair that was killed is run again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

from faregate.domain.errors import InvalidArgumentError
from faregate.domain.finding import DriftKind, Finding
from faregate.domain.repair import Action, Event, Favour, Row, Step
from faregate.ops.reconcile import reconcile, verification
from faregate.ops.repair.facts import gather
from faregate.ops.repair.plan import plan
from faregate.ports import Audit, LiveBalances, TransactionStream
from faregate.ports.repairs import Repairs

#: How often it looks at most. One cause shows in few kinds, which are repaired one after another.
LOOKS_MAX = 10

#: Is told each step right before it is taken, or instead where nothing is to be changed.
OnStep = Callable[[Step], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """Who repairs, and why."""

    actor: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """What was done, or would be."""

    #: In the order in which they were taken, or would be.
    steps: Sequence[Step]
    #: What is still wrong, of what was asked.
    left: Sequence[Finding]
    #: Findings that were asked for and are not there any more.
    gone: Sequence[str]


@dataclass(slots=True)
class Servers:
    """What is looked at and repaired."""

    stream: TransactionStream
    balances: LiveBalances
    audit: Audit
    repairs: Repairs

    def look(self) -> list[Finding]:
        """Return all that reconcile and verify find now and nobody has accepted, each once."""
        verified = verification(self.stream, self.balances, self.audit).findings
        compared = reconcile(self.stream, self.balances, self.audit).findings
        return list({finding.id: finding for finding in (*verified, *compared)}.values())

    def plan(self, findings: Sequence[Finding], favour: Favour) -> Sequence[Step]:
        """Say what is to be done about findings."""
        facts = gather(findings, self.stream, self.balances, self.repairs)
        return plan(findings, facts, favour)


@dataclass(slots=True)
class _Asked:
    """Which findings are repaired: those asked for, and what comes to light behind them."""

    ids: frozenset[str]
    known: set[str] = field(default_factory=set)
    users: set[UUID | None] = field(default_factory=set)

    def has(self, finding: Finding) -> bool:
        if not self.ids or finding.id in self.ids:
            return True
        return finding.user_id in self.users and finding.id not in self.known


def preview(servers: Servers, ids: Sequence[str], favour: Favour) -> Repaired:
    """Say what a repair would do first. Writes nothing."""
    found, asked = servers.look(), _Asked(frozenset(ids))
    steps = [one for one in servers.plan(found, favour) if asked.has(one.finding)]
    left = [one.finding for one in steps]
    return Repaired(steps=steps, left=left, gone=_gone(asked, found))


def repair(
    servers: Servers, ids: Sequence[str], favour: Favour, who: Who, on_step: OnStep
) -> Repaired:
    """Repair findings, by their ids or all, one user at a time.

    Args:
        servers: What is looked at and repaired, in the role of the owner.
        ids: Of findings; none for all that reconcile and verify find.
        favour: Who gets the benefit, where nothing is proven.
        who: Who repairs, and why: written into each event and each new row.
        on_step: Is told each step right before it is taken.

    Raises:
        ConfigurationError: Another repair is at work, or the role is not that of the owner.
        LedgerUnavailableError, ArchiveUnavailableError: A server does not answer.
    """
    taken: list[Step] = []
    asked = _Asked(frozenset(ids))
    with servers.repairs.held():
        found = servers.look()
        gone = _gone(asked, found)
        asked.known = {finding.id for finding in found}
        for _ in range(LOOKS_MAX):
            steps = [one for one in servers.plan(found, favour) if asked.has(one.finding)]
            doing = [step for step in steps if step.action.is_done]
            if not doing:
                break
            for step in doing:
                on_step(step)
                _take(servers, step, who)
            taken += doing
            asked.users |= {step.finding.user_id for step in doing}
            found = servers.look()
    left = [finding for finding in found if asked.has(finding)]
    return Repaired(steps=taken, left=left, gone=gone)


def acknowledge(servers: Servers, ids: Sequence[str], who: Who) -> Repaired:
    """Accept findings as they are: they are listed, and are no alarm until they change.

    Raises:
        InvalidArgumentError: One of them is not found, or says that Redis cannot serve.
    """
    with servers.repairs.held():
        found = {finding.id: finding for finding in servers.look()}
        if gone := sorted(set(ids) - set(found)):
            raise InvalidArgumentError(f"there is no finding {', '.join(gone)}")
        steps = [_acceptance(found[one]) for one in dict.fromkeys(ids)]
        for step in steps:
            _take(servers, step, who)
    return Repaired(steps=steps, left=(), gone=())


def _take(servers: Servers, step: Step, who: Who) -> None:
    event = _event(step, who)
    servers.repairs.begin(event)
    servers.repairs.act(event)


def _acceptance(finding: Finding) -> Step:
    if finding.kind is DriftKind.EPOCH:
        raise InvalidArgumentError(f"{finding.id} cannot be accepted: run `{finding.repair}`")
    says = f"accepts {finding.id}: {finding.detail}"
    return Step(finding=finding, action=Action.ACKNOWLEDGE, says=says, accepts=(finding,))


def _gone(asked: _Asked, found: Sequence[Finding]) -> Sequence[str]:
    return sorted(asked.ids - {finding.id for finding in found})


def _event(step: Step, who: Who) -> Event:
    """Make an event of a step; a new row gets the id of the event, and says who and why."""
    event = Event(id=uuid4(), step=step, actor=who.actor, reason=who.reason)
    if step.action is Action.CLOSE:
        rows = tuple(_signed(row, event) for row in step.rows)
        event = replace(event, step=replace(step, rows=rows))
    return event


def _signed(row: Row, event: Event) -> Row:
    told = {"actor": event.actor, "repair": event.step.finding.id}
    return {
        **row,
        "id": str(event.id),
        "description": event.reason,
        "metadata": {**dict(row["metadata"]), **told},  # type: ignore[call-overload]
        "timestamp": datetime.now(UTC).isoformat(),
    }
