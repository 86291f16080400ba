"""Plans for live balances that differ from their ledger: correct one of the two. No I/O."""

from dataclasses import replace

from faregate.domain.alignment import LiveDrift
from faregate.domain.finding import DriftKind, Finding
from faregate.domain.repair import Favour, Step, StepAction
from faregate.domain.user import User
from faregate.ops.repair.facts import Facts
from faregate.ops.repair.steps import BalanceState, acceptance, difference, no_repair, numbers


def plan_live(finding: Finding, facts: Facts, favour: Favour) -> Step:
    """Plan the step for a live balance that differs from its ledger."""
    drift = facts.drifts.get(finding.user_id) if finding.user_id else None
    if drift is None:
        says = f"the balance of {finding.user_id} could not be measured: run the command again."
        return no_repair(finding, says)
    if drift.is_zero:
        says = f"the balance of {finding.user_id} is right after all: run the command again."
        return no_repair(finding, says)
    live = drift.account.user
    if live and drift.sequence_min < live.sequence and not _is_known(finding, facts, live):
        return _lost_end(finding, drift, live, favour)
    if live and drift.amount < 0 and favour is Favour.USER:
        return Step(
            finding=finding,
            action=StepAction.RECORD,
            says=f"keeps the live balance of {drift.user_id} at {live.credits}: a record adds the"
            f" {-drift.amount} credits that no row has.",
            amount=-drift.amount,
            drift=drift,
        )
    return _correct(finding, drift)


def plan_fork(finding: Finding, facts: Facts, favour: Favour) -> Step:
    """Plan the step for a sequence of two transactions, which both count."""
    drift = facts.drifts.get(finding.user_id) if finding.user_id else None
    if drift is None or not drift.is_zero:
        return plan_live(finding, facts, favour)
    says = (
        f"accepts that user {finding.user_id} has {finding.found} transactions numbered"
        f" {finding.sequence}: the live balance includes all of them."
    )
    return acceptance(finding, says)


def _correct(finding: Finding, drift: LiveDrift) -> Step:
    user = f"the live balance of {drift.user_id}"
    due = (drift.credits or 0) + drift.amount
    if drift.credits is None:
        says = f"creates {user}: {due} credits after transaction {drift.sequence_min}."
    elif not drift.amount:
        says = f"keeps {due} credits in {user}, and sets its number to {drift.sequence_min}."
    else:
        verb = "lowers" if drift.amount < 0 else "raises"
        says = f"{verb} {user} from {drift.credits} to {due}, the sum of rows and pending records."
    if drift.lost:
        says += f" Transactions that Redis had lost: {len(drift.lost)}."
    return Step(
        finding=finding, action=StepAction.CORRECT, says=says, amount=drift.amount, drift=drift
    )


def _is_known(finding: Finding, facts: Facts, live: User) -> bool:
    """Return whether a dead letter has the newest sequence of an account."""
    row_context = facts.row_context.get(finding.id)
    return row_context is None or any(number == live.sequence for number, _ in row_context.moves)


def _lost_end(finding: Finding, drift: LiveDrift, live: User, favour: Favour) -> Step:
    """Plan one row in place of the newest records of a user, which are lost."""
    first, last, amount = drift.sequence_min + 1, live.sequence, -drift.amount
    missing = numbers(first, last)
    if amount < 0 and favour is Favour.USER:
        step = _correct(finding, drift)
        says = f"{step.says} {missing} took them, without a row or a record."
        return replace(step, says=says, accepts=(_missing(finding, first, last),))
    missing_allowance = -drift.allowance_amount
    row = difference(drift.user_id, (first, last), amount, missing_allowance, BalanceState.of(live))
    return Step(
        finding=finding,
        action=StepAction.CLOSE,
        says=f"stores {missing} of user {drift.user_id}, which is lost, as a row of"
        f" {amount:+} credits: the live balance is {live.credits}, and rows and records add up to"
        f" {live.credits - amount}.",
        amount=amount,
        rows=(row,),
        accepts=() if first == last else (_missing(finding, first, last - 1),),
    )


def _missing(finding: Finding, first: int, last: int) -> Finding:
    """Return the gap that appears after later records become rows."""
    return Finding(
        kind=DriftKind.GAP,
        user_id=finding.user_id,
        sequence=first,
        expected=None,
        found=None,
        detail=f"User {finding.user_id} lacks {numbers(first, last)}: lost.",
        subject=str(last),
    )
