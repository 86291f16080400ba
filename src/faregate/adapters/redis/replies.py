"""Reads the replies of the scripts that decide."""

from typing import Any
from uuid import UUID

from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import (
    AmountError,
    LedgerUnavailableError,
    TransactionConflictError,
    TransactionIdError,
)
from faregate.domain.transaction import CreditTransactionId

_VERDICTS = {verdict.value: verdict for verdict in Verdict} | {"repeated": Verdict.ALLOWED}


def read_decision(
    reply: list[Any], user_id: UUID, transaction_id: CreditTransactionId, amount: int
) -> Decision:
    """Read a reply: {status, credits, sequence, now, position, allowance left, ...}.

    Raises:
        FaregateError: The status stands for an error, not for a verdict.
    """
    status = reply[0].decode()
    if status == "conflict":
        raise TransactionConflictError(f"transaction {transaction_id} is known with other content")
    if status == "stale":
        raise TransactionIdError(f"{transaction_id} is outside the window of a retry: use a new id")
    if status == "out_of_range":
        raise AmountError(f"{amount} would take the balance {reply[1]} out of its range")
    if status == "unresolved":
        raise LedgerUnavailableError("the user has too many recent records to recognise a retry")
    return Decision(
        verdict=_VERDICTS[status],
        user_id=user_id,
        transaction_id=transaction_id,
        amount=amount,
        credits=reply[1],
        sequence=reply[2],
        repeated=status == "repeated",
        position=reply[4].decode(),
        allowance_left=reply[5],
    )
