"""Plans for missing sequences: store their rows again, or close the gap by one row. No I/O."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from faregate.domain.finding import Finding
from faregate.domain.repair import Favour, Row, RowContext, Step, StepAction
from faregate.domain.transaction import CREDITS_MAX, CreditTransaction
from faregate.domain.user import User
from faregate.ops.repair.facts import Facts, last_of, row_of
from faregate.ops.repair.steps import BalanceState, acceptance, difference, no_repair, numbers


def plan_gap(finding: Finding, facts: Facts, favour: Favour) -> Step:
    """Plan the step for missing sequences."""
    row_context = facts.row_context[finding.id]
    found = _found(finding, facts, row_context)
    if found:
        listed = ", ".join(str(made.sequence) for made in found)
        return Step(
            finding=finding,
            action=StepAction.STORE,
            says=f"stores transaction {listed} of user {finding.user_id} again, as the stream"
            f" still has it ({sum(made.amount for made in found):+} credits).",
            amount=sum(made.amount for made in found),
            rows=tuple(map(row_of, found)),
        )
    live = facts.live.get(finding.user_id) if finding.user_id else None
    if row_context.after is None and _is_beyond(finding, live, row_context):
        return Step(
            finding=finding,
            action=StepAction.REWIND,
            says=f"sets the number of the profile of {finding.user_id} back from"
            f" {row_context.sequence} to that of its last row, since no later one ever existed.",
        )
    after = _after(finding, facts, row_context, live)
    if after is None:
        return no_repair(
            finding,
            f"waits for the worker to store the records after transaction {last_of(finding)}.",
        )
    return _close(finding, _before(finding, row_context), after, favour)


def _found(finding: Finding, facts: Facts, row_context: RowContext) -> Sequence[CreditTransaction]:
    """Return the records of the missing sequences in the stream, each once."""
    first, last = finding.sequence or 0, last_of(finding)
    found: dict[int, CreditTransaction] = {}
    balance = _before(finding, row_context).credits
    for made in facts.records[finding.user_id] if finding.user_id else ():
        if not first <= made.sequence <= last or made.sequence in found:
            continue
        follows = (
            made.sequence == first + len(found) and balance + made.amount == made.balance_after
        )
        if made.id.value in facts.proven or follows:
            found[made.sequence] = made
            balance = made.balance_after
    return list(found.values())


def _is_beyond(finding: Finding, live: User | None, row_context: RowContext) -> bool:
    """Return whether only the profile has such sequences."""
    if live is None:
        return row_context.credits == row_context.total
    return live.sequence < last_of(finding)


def _before(finding: Finding, row_context: RowContext) -> BalanceState:
    """Return the state of a user right before a gap."""
    row, first = row_context.before, finding.sequence or 0
    place = _number(row["sequence"]) if row else 0
    return BalanceState(
        credits=row_context.balance + row_context.moved(place + 1, first),
        allowance=_number(row["allowance_after"]) if row else 0,
        period_start=None,
        epoch=_number(row["epoch"]) if row else 0,
    )


def _after(
    finding: Finding, facts: Facts, row_context: RowContext, live: User | None
) -> BalanceState | None:
    """Return the state of a user right after a gap; None if nothing follows it yet."""
    last = last_of(finding)
    row = row_context.after or _next(finding, facts)
    if row is not None:
        moved = row_context.moved(last + 1, _number(row["sequence"]))
        return BalanceState(
            credits=_number(row["balance_after"]) - _number(row["amount"]) - moved,
            allowance=_number(row["allowance_after"]) - _number(row["allowance_amount"]),
            period_start=cast("str | None", row["period_start"]),
            epoch=_number(row["epoch"]),
        )
    if live is None:
        # The profile still contains the amount of a row that was deleted.
        before = _before(finding, row_context)
        return replace(
            before, credits=before.credits + (row_context.credits or 0) - row_context.total
        )
    if live.sequence != last:
        return None
    return replace(
        BalanceState.of(live), credits=live.credits - row_context.moved(last + 1, last + 1)
    )


def _next(finding: Finding, facts: Facts) -> Row | None:
    """Return the record after a gap that no row follows."""
    records = facts.records[finding.user_id] if finding.user_id else ()
    later = (made for made in records if made.sequence == last_of(finding) + 1)
    return next(map(row_of, later), None)


def _close(finding: Finding, before: BalanceState, after: BalanceState, favour: Favour) -> Step:
    amount = after.credits - before.credits
    first, last, user_id = finding.sequence or 0, last_of(finding), finding.user_id
    missing = numbers(first, last)
    if max(abs(amount), abs(after.credits)) > CREDITS_MAX:
        says = f"no row can hold the {amount} missing credits of user {user_id}."
        return no_repair(finding, says)
    if amount < 0 and favour is Favour.USER:
        return acceptance(
            finding,
            f"accepts that {missing} of user {user_id} took {-amount} credits without a record;"
            " the next step raises the live balance by them.",
        )
    allowance = after.allowance - before.allowance
    row = difference(user_id, (first, last), amount, allowance, after)
    return Step(
        finding=finding,
        action=StepAction.CLOSE,
        says=f"closes {missing} of user {user_id} with a row of {amount:+} credits: the"
        f" balance was {before.credits} before and {after.credits} after.",
        amount=amount,
        rows=(row,),
        accepts=_rest(finding),
    )


def _rest(finding: Finding) -> tuple[Finding, ...]:
    """Return the sequences of a gap without the last one, which its row has."""
    last = last_of(finding) - 1
    if last < (finding.sequence or 0):
        return ()
    detail = f"{finding.detail} Their sum is in transaction {last + 1}."
    return (replace(finding, subject=str(last), detail=detail),)


def _number(value: object) -> int:
    return cast("int", value or 0)
