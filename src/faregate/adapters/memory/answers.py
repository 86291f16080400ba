"""Answers that several operations of the ledger begin with."""

from dataclasses import replace
from hashlib import sha1
from uuid import UUID

from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import TransactionConflictError, TransactionIdError
from faregate.domain.journal import JournalEntry
from faregate.domain.request import Charge, Credit, Refund
from faregate.domain.transaction import CreditTransaction, CreditTransactionId, TransactionType
from faregate.domain.user import User

#: How old the id of a retry may be, and how far ahead.
ID_AGE_MS_MAX = 60_000
_CLOCK_SKEW_MS_MAX = 5_000
#: The id of a top-up stands for a user and a period.
_TOP_UPS = UUID("6f2d2f0c-5c1b-5d5e-9d51-0b7b2d0a4a11")


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


def collected_answer(entry: JournalEntry, user: User | None) -> Decision:
    """Return the refusal of a journaled request that holds until something better is decided."""
    return Decision(
        verdict=Verdict.UNKNOWN_USER,
        user_id=entry.user_id,
        transaction_id=entry.deduct_id,
        amount=0,
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


def check_age(charge: Charge, now_ms: int) -> None:
    """Make sure that the id of a charge lies in the window in which a retry is recognised.

    Raises:
        TransactionIdError: It does not.
    """
    id_ms = charge.transaction_id.time_ms
    if id_ms is None:
        raise TransactionIdError("a charge needs a UUIDv7, so that its age is known")
    if not -_CLOCK_SKEW_MS_MAX <= now_ms - id_ms <= ID_AGE_MS_MAX:
        raise TransactionIdError("the id is outside the window of a retry")


def top_up_of(user: User, amount: int) -> Credit:
    """Return what a user gets when the period in which it is begins; its id says both."""
    name = b"allowance:%b:%d" % (user.id.bytes, user.period_start_ms or 0)
    # What `uuid5` computes, which takes bytes from Python 3.12 on only.
    digest = sha1(_TOP_UPS.bytes + name, usedforsecurity=False).digest()
    return Credit(
        user_id=user.id,
        transaction_id=CreditTransactionId(UUID(bytes=digest[:16], version=5)),
        type=TransactionType.ADD,
        amount=amount,
        description="allowance",
    )
