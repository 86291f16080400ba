"""Deducts of which more is known than their record: given back, voided, or held."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from faregate.adapters.memory.expiring import Expiring
from faregate.adapters.memory.shard import Recorded, period_start_ms
from faregate.domain.hold import HoldState
from faregate.domain.request import DurableDeduct
from faregate.domain.transaction import CreditTransactionId
from faregate.domain.windows import MEMORY_MS


@dataclass(slots=True)
class HoldPart:
    """The part of a deduct that makes it a hold, and how the hold ended."""

    opened_at_ms: int
    expires_at_ms: int
    #: Whether it has cost its estimate when it expires.
    keeps: bool
    state: HoldState = HoldState.OPEN
    actual: int = 0
    refunded: int = 0
    charged: int = 0
    shortfall: int = 0

    @property
    def is_spent(self) -> bool:
        """Whether its end has cost something, or may have: it was settled, or kept."""
        is_kept = self.keeps and self.state is HoldState.EXPIRED
        return is_kept or self.state is HoldState.SETTLED


@dataclass(slots=True)
class Deduct:
    """Credits that were taken, and how many of them were given back."""

    id: CreditTransactionId
    user_id: UUID
    #: In credits; 0 in the note of a void, which stands for an id that must not be charged.
    cost: int
    #: The credits that were given back so far.
    total: int = 0
    #: How much of the cost was taken from the allowance, and in which period.
    from_allowance: int = 0
    period_start_ms: int | None = None
    hold: HoldPart | None = None

    @classmethod
    def of(cls, recorded: Recorded) -> Self:
        """Begin with a record of which nothing has been given back."""
        record = recorded.record
        return cls(
            id=record.id,
            user_id=record.user_id,
            cost=-record.amount,
            from_allowance=-record.allowance_amount,
            period_start_ms=period_start_ms(record),
        )

    @classmethod
    def of_durable(cls, identity: CreditTransactionId, user_id: UUID, row: DurableDeduct) -> Self:
        """Begin with a deduct as Postgres knows it."""
        return cls(
            id=identity,
            user_id=user_id,
            cost=row.amount,
            total=row.refunded,
            from_allowance=row.allowance_amount,
            period_start_ms=row.period_start_ms,
        )

    @property
    def left(self) -> int:
        """The credits that may still be given back."""
        return self.cost - self.total

    @property
    def is_over(self) -> bool:
        """Whether an attempt with its id is refused: it was voided, or wholly given back."""
        if self.hold is not None and (self.hold.state is HoldState.CANCELLED or not self.cost):
            return self.hold.state is HoldState.CANCELLED
        return self.left <= 0

    @property
    def is_open(self) -> bool:
        """Whether it is an open hold."""
        return self.hold is not None and self.hold.state is HoldState.OPEN

    def to_allowance(self, amount: int, period_start_ms: int | None) -> int:
        """Return the part of a refund that goes to the allowance: bought credits go back first."""
        if period_start_ms is None or period_start_ms != self.period_start_ms:
            return 0
        bought = self.cost - self.from_allowance
        return amount - (min(self.total + amount, bought) - min(self.total, bought))


class Deducts:
    """One entry for each such deduct: for a day after its last change, and while it is held."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._entries: Expiring[CreditTransactionId, Deduct] = Expiring(clock)

    def get(self, identity: CreditTransactionId) -> Deduct | None:
        """Return the entry of an id."""
        return self._entries.get(identity)

    def put(self, deduct: Deduct) -> None:
        """Keep an entry that is new or has changed."""
        self._entries.put(deduct.id, deduct, None if deduct.is_open else MEMORY_MS)

    def refuse(self, identity: CreditTransactionId, user_id: UUID) -> None:
        """Note that an id must not be charged any more, unless more is known of it."""
        if self.get(identity) is None:
            self.put(Deduct(identity, user_id, 0))

    def open_holds(self) -> Iterator[tuple[Deduct, HoldPart]]:
        """Iterate over the open holds."""
        for deduct in self._entries.values():
            if deduct.hold is not None and deduct.hold.state is HoldState.OPEN:
                yield deduct, deduct.hold
