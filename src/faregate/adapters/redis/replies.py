"""Reads the replies of the scripts that decide."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import (
    AmountError,
    TransactionConflictError,
    TransactionIdError,
    UnresolvedError,
)
from faregate.domain.idempotency import KeyState
from faregate.domain.limit import LimitState, RateLimit
from faregate.domain.request import Charge
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
        raise UnresolvedError("the user has too many recent records to recognise a retry")
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


def read_charge(reply: list[Any], charge: Charge, *, length: int = 12) -> Decision:
    """Read a reply of charge or hold: {..., next period, limit, wait, key state, id, amount, ...}.

    The retry of a request is told what the first one was, by whatever id it came. After `length`
    parts, the limits follow.
    """
    resets_at_ms, limit, retry_after_ms, key_state, first_id, first_amount = reply[6:12]
    transaction_id, amount, attempt_id = charge.transaction_id, -charge.cost, None
    if first_id:
        transaction_id, amount = CreditTransactionId(UUID(bytes=first_id)), first_amount
        attempt_id = charge.transaction_id
    return replace(
        read_decision(reply, charge.user_id, transaction_id, amount),
        resets_at_ms=resets_at_ms or None,
        limited_by=charge.limits[limit - 1].name if limit else "",
        retry_after_ms=retry_after_ms,
        limits=read_limits(reply[length:], charge.limits),
        key_state=KeyState(key_state.decode()) if key_state else None,
        attempt_id=attempt_id,
    )


def read_limits(numbers: list[Any], limits: Sequence[RateLimit]) -> tuple[LimitState, ...]:
    """Read two numbers for each limit; there are none where no limit was looked at."""
    states = zip(limits, numbers[::2], numbers[1::2], strict=False)
    return tuple(LimitState.of(*state) for state in states)
