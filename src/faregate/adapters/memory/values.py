"""Values of the ledger in memory: deducts, holds, answers, times."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import AmountError, TransactionConflictError
from faregate.domain.hold import HoldAnswer, HoldState
from faregate.domain.policy import CreditPolicy
from faregate.domain.request import DurableDeduct
from faregate.domain.transaction import CREDITS_MAX, CreditTransaction, CreditTransactionId
from faregate.domain.user import User

_K = TypeVar("_K")
_V = TypeVar("_V")


class Expiring(Generic[_K, _V]):
    """A dict whose values expire, each after a time in milliseconds."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._values: dict[_K, tuple[_V, float]] = {}

    def get(self, name: _K) -> _V | None:
        """Return a value, or None."""
        value, ends_ms = self._values.get(name, (None, 0))
        return value if self._now_ms() <= ends_ms else None

    def put(self, name: _K, value: _V, for_ms: float) -> None:
        """Remember a value for a time from now."""
        self._values[name] = value, self._now_ms() + for_ms

    def all(self) -> dict[_K, _V]:
        """Return all that is remembered now."""
        now_ms = self._now_ms()
        return {name: value for name, (value, ends_ms) in self._values.items() if now_ms <= ends_ms}


@dataclass(slots=True)
class Deduct:
    """A deduct and its later fate: refunded, voided, or held."""

    id: CreditTransactionId
    user_id: UUID
    #: Zero for a void: its id must not be charged.
    amounts: DurableDeduct
    hold: "MemoryHold | None" = None

    @property
    def left(self) -> int:
        """The credits that may still be given back."""
        return self.amounts.amount - self.amounts.refunded

    @property
    def is_over(self) -> bool:
        """Whether an attempt with its id is refused: it was voided, or wholly given back."""
        if self.hold is not None and self.hold.answer.state is HoldState.CANCELLED:
            return True
        return self.left <= 0 and (self.hold is None or self.amounts.amount > 0)

    def to_allowance(self, amount: int, period_start_ms: int | None) -> int:
        """Return the part of a refund that goes to the allowance: bought credits go back first."""
        if period_start_ms is None or period_start_ms != self.amounts.period_start_ms:
            return 0
        bought, before = self.amounts.amount - self.amounts.allowance_amount, self.amounts.refunded
        return amount - (min(before + amount, bought) - min(before, bought))


@dataclass(slots=True)
class MemoryHold:
    """The hold of a deduct."""

    deduct: Deduct
    #: The answer about it: its state, its expiry, and the credits that its end gave back or took.
    answer: HoldAnswer
    opened_at_ms: int
    #: Whether the hold costs its estimate when it expires.
    is_kept_at_expiry: bool
    #: The actual cost of its settlement.
    actual: int = 0

    @property
    def is_open(self) -> bool:
        """Whether the hold has not ended."""
        return self.answer.state is HoldState.OPEN

    def note(self, **changes: Any) -> None:
        """Change its answer."""
        self.answer = replace(self.answer, **changes)


def amounts_of(record: CreditTransaction, refunded: int = 0) -> DurableDeduct:
    """Return the amounts of a deduct, by its record and the credits given back so far."""
    start = record.period_start
    return DurableDeduct(
        amount=-record.amount,
        refunded=refunded,
        allowance_amount=-record.allowance_amount,
        period_start_ms=None if start is None else unix_ms_of(start),
    )


def blank_decision(
    user_id: UUID,
    identity: CreditTransactionId,
    amount: int,
    *,
    now_ms: int,
    user: User | None,
    policy: CreditPolicy | None = None,
) -> Decision:
    """Return the refusal to start from: unknown user, with the balance as it is."""
    return Decision(
        verdict=Verdict.UNKNOWN_USER,
        user_id=user_id,
        transaction_id=identity,
        amount=amount,
        credits=min(user.credits, CREDITS_MAX) if user else 0,
        allowance_left=user.allowance_left if user else 0,
        resets_at_ms=user.period_end_ms if user else None,
        policy=policy,
        decided_at_ms=now_ms,
    )


def allowed(blank: Decision, record: CreditTransaction, **more: Any) -> Decision:
    """Return the decision for a new or known record."""
    return replace(
        blank,
        verdict=Verdict.ALLOWED,
        amount=record.amount,
        credits=record.balance_after,
        sequence=record.sequence,
        allowance_left=record.allowance_after,
        **more,
    )


def check_range(credits: int) -> None:
    """Make sure that a balance stays in its range.

    Raises:
        AmountError: The balance would leave its range.
    """
    if abs(credits) > CREDITS_MAX:
        raise AmountError("the balance would leave its range")


def check_same(identity: CreditTransactionId, *, is_same: bool) -> None:
    """Make sure that a known id has come with the same content again.

    Raises:
        TransactionConflictError: It has not.
    """
    if not is_same:
        raise TransactionConflictError(f"transaction {identity} is known with other content")


def unix_ms() -> int:
    """Return the time in Unix milliseconds."""
    return time.time_ns() // 1_000_000


def unix_ms_of(moment: datetime) -> int:
    """Return a date in Unix milliseconds."""
    return round(moment.timestamp() * 1000)


def utc(time_ms: int) -> datetime:
    """Return a time in Unix milliseconds as a date."""
    return datetime.fromtimestamp(time_ms / 1000, UTC)
