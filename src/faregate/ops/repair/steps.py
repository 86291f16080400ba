"""Common parts of plans: steps without a change, and the row of a difference. No I/O."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self
from uuid import UUID

from faregate.domain.finding import Finding
from faregate.domain.repair import Row, Step, StepAction
from faregate.domain.transaction import TransactionType
from faregate.domain.user import User


@dataclass(frozen=True, slots=True)
class BalanceState:
    """The state of a user between two transactions."""

    credits: int
    allowance: int
    period_start: str | None
    epoch: int

    @classmethod
    def of(cls, live: User) -> Self:
        """Return the state of a live account."""
        start = live.period_start_ms
        return cls(
            credits=live.credits,
            allowance=live.allowance_left,
            period_start=datetime.fromtimestamp(start / 1_000, UTC).isoformat() if start else None,
            epoch=live.epoch,
        )


def no_repair(finding: Finding, says: str) -> Step:
    """Return a step that changes nothing, with the reason."""
    return Step(finding=finding, action=StepAction.NONE, says=says)


def acceptance(finding: Finding, says: str) -> Step:
    """Return the step that acknowledges a finding."""
    return Step(finding=finding, action=StepAction.ACKNOWLEDGE, says=says, accepts=(finding,))


def numbers(first: int, last: int) -> str:
    """Return a phrase for the transactions from one sequence to another."""
    return f"transaction {first}" if first == last else f"transactions {first} to {last}"


def difference(
    user_id: UUID | None, missing: tuple[int, int], amount: int, allowance: int, after: BalanceState
) -> Row:
    """Return a row in place of missing transactions.

    Args:
        user_id: The user.
        missing: The first and the last sequence; the row gets the last one.
        amount: The sum of the missing amounts.
        allowance: The part of it in the allowance.
        after: The state of the user after the last of them.
    """
    kind = TransactionType.ADMIN_ADJUSTMENT if amount else TransactionType.DEDUCT
    first, last = missing
    return {
        "user_id": str(user_id),
        "amount": amount,
        "type": kind.value,
        "sequence": last,
        "balance_after": after.credits,
        "epoch": after.epoch,
        "refund_of": None,
        "allowance_amount": allowance,
        "allowance_after": after.allowance,
        "period_start": after.period_start,
        "metadata": {"missing_first": first, "missing_last": last},
    }
