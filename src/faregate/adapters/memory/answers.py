"""Answers that several operations of the ledger begin with."""

from dataclasses import replace

from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import TransactionConflictError
from faregate.domain.request import Charge, Credit, Refund
from faregate.domain.transaction import CreditTransaction, TransactionType
from faregate.domain.user import User


def blank_answer(source: Charge | Credit | Refund, user: User | None, amount: int) -> Decision:
    """Return the refusal that holds until something better is decided."""
    return Decision(
        verdict=Verdict.UNKNOWN_USER,
        user_id=source.user_id,
        transaction_id=source.transaction_id,
        amount=amount,
        credits=user.credits if user else 0,
        allowance_left=user.allowance_left if user else 0,
    )


def repeated_answer(blank: Decision, record: CreditTransaction, kind: TransactionType) -> Decision:
    """Answer what has been recorded already.

    Raises:
        TransactionConflictError: The record says something else.
    """
    if (record.user_id, record.amount, record.type) != (blank.user_id, blank.amount, kind):
        raise TransactionConflictError(f"transaction {record.id} is known with other content")
    return replace(Decision.repeat(record), resets_at_ms=blank.resets_at_ms)
