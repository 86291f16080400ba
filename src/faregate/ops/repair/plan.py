"""The plan: a step for each finding, in the order of repair. No I/O."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from faregate.domain.finding import DriftKind, Finding
from faregate.domain.repair import Favour, Step, StepAction
from faregate.ops.repair.facts import Facts
from faregate.ops.repair.forged import plan_forged
from faregate.ops.repair.gaps import plan_gap
from faregate.ops.repair.live import plan_fork, plan_live
from faregate.ops.repair.steps import acceptance, no_repair

_Plan: TypeAlias = Callable[[Finding, Facts, Favour], Step]

#: The order of repair for a user. After each of these kinds the user is checked again, since one
#: cause may have several findings.
_ORDER: tuple[frozenset[DriftKind], ...] = (
    frozenset({DriftKind.GUARD}),
    frozenset({DriftKind.FORGED}),
    frozenset({DriftKind.GAP}),
    frozenset({DriftKind.PROJECTION}),
    frozenset({DriftKind.LIVE, DriftKind.BEHIND}),
    frozenset({DriftKind.FORK}),
    frozenset({DriftKind.REFUND}),
    frozenset({DriftKind.CHAIN}),
)


def plan(findings: Sequence[Finding], facts: Facts, favour: Favour) -> Sequence[Step]:
    """Plan one step for each finding, in the order of repair.

    Args:
        findings: All findings of some users.
        facts: The facts about them.
        favour: Who benefits if nothing is proven.
    """
    steps: list[Step] = []
    busy: dict[object, Finding] = {}
    for kinds in _ORDER:
        planned = [_PLANS[one.kind](one, facts, favour) for one in findings if one.kind in kinds]
        for step in planned:
            first = busy.get(step.finding.user_id)
            steps.append(_wait(step.finding, first) if first else step)
            if step.drift or step.action is StepAction.RESTORE_SCHEMA:
                # The step repairs all findings of its kind at once.
                busy.setdefault(step.finding.user_id, step.finding)
        # A finding without a repair blocks the others, since numbers of the user cannot be trusted.
        for step in planned:
            for user in step.users:
                busy.setdefault(user, step.finding)
    return steps


def _wait(finding: Finding, first: Finding) -> Step:
    says = f"{finding.id} may follow from {first.id}, and is checked again after it."
    return Step(finding=finding, action=StepAction.WAIT, says=says)


def _projection(finding: Finding, _facts: Facts, _favour: Favour) -> Step:
    user = f"the profile of {finding.user_id}"
    if finding.subject == "sequence":
        says = f"raises the number of {user} from {finding.found} to {finding.expected}."
        return Step(finding=finding, action=StepAction.RECOMPUTE, says=says)
    expected, found = finding.expected or 0, finding.found
    if found is None:
        says = f"creates {user}, with the {expected} credits that its rows add up to."
    else:
        verb = "lowers" if expected < found else "raises"
        says = f"{verb} the credits in {user} from {found} to {expected}, the sum of its rows."
    amount = expected - (found or 0)
    return Step(finding=finding, action=StepAction.RECOMPUTE, says=says, amount=amount)


def _chain(finding: Finding, _facts: Facts, _favour: Favour) -> Step:
    """Plan to accept a break in the chain of balances: rows stay, and all sums agree by now."""
    says = (
        f"accepts that the balance of {finding.user_id} moved by"
        f" {(finding.found or 0) - (finding.expected or 0):+} without a row before transaction"
        f" {finding.sequence}: rows do not change, and all sums agree."
    )
    return acceptance(finding, says)


def _refund(finding: Finding, facts: Facts, favour: Favour) -> Step:
    """Plan to reverse refunds beyond a deduct, or to accept them."""
    excess, user_id = (finding.found or 0) - (finding.expected or 0), finding.user_id
    if favour is Favour.USER:
        says = f"accepts that user {user_id} was refunded {excess} credits too much."
        return acceptance(finding, says)
    live = facts.live.get(user_id) if user_id else None
    now = f" from {live.credits} to {live.credits - excess}" if live else ""
    return Step(
        finding=finding,
        action=StepAction.ADJUST,
        says=f"lowers the balance of {user_id}{now}, by an adjustment of {-excess} credits, which"
        " were refunded too much.",
        amount=-excess,
        accepts=(finding,),
    )


def _guard(finding: Finding, _facts: Facts, _favour: Favour) -> Step:
    says = f"restores the whole schema ({finding.subject}); requests wait meanwhile."
    return Step(finding=finding, action=StepAction.RESTORE_SCHEMA, says=says)


def plan_epochs(
    findings: Sequence[Finding], named: frozenset[str], *, is_empty: bool
) -> Sequence[Step]:
    """Plan the first step for a Redis that does not belong to the ledger.

    Args:
        findings: All findings, with one of kind `EPOCH` at least.
        named: The ids that the operator gave. An empty Redis may be the wrong one, so a new epoch
            begins only for a finding that was named.
        is_empty: Whether Redis holds no ledger at all.
    """
    first = next(one for one in findings if one.kind is DriftKind.EPOCH)
    if is_empty and first.id not in named:
        says = (
            f"{first.detail} If FAREGATE_REDIS_URL names the right Redis, `faregate repair"
            f" {first.id} --apply` begins a new epoch in it."
        )
        step = no_repair(first, says)
    elif is_empty:
        says = (
            "begins a new epoch in the empty Redis: users get the sums of their rows,"
            " and pending records are lost."
        )
        step = Step(finding=first, action=StepAction.REBUILD, says=says)
    else:
        says = f"{first.detail} It is not empty: see docs/recovery.md."
        step = no_repair(first, says)
    return [step, *(_wait(one, first) for one in findings if one is not first)]


_PLANS: Mapping[DriftKind, _Plan] = {
    DriftKind.GUARD: _guard,
    DriftKind.FORGED: plan_forged,
    DriftKind.GAP: plan_gap,
    DriftKind.PROJECTION: _projection,
    DriftKind.LIVE: plan_live,
    DriftKind.BEHIND: plan_live,
    DriftKind.FORK: plan_fork,
    DriftKind.REFUND: _refund,
    DriftKind.CHAIN: _chain,
}
