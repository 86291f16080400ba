"""What has been given back of a deduct, and where it went."""

from dataclasses import dataclass, field
from typing import Self
from uuid import UUID

from faregate.domain.request import DurableDeduct, Refund
from faregate.domain.transaction import CreditTransaction, CreditTransactionId


@dataclass(slots=True)
class GivenBack:
    """What has been given back of a deduct."""

    user_id: UUID
    cost: int
    #: How much of the cost was taken from the allowance, and in which period.
    taken: int = 0
    period_start_ms: int | None = None
    refunds: dict[CreditTransactionId, int] = field(default_factory=dict)

    @classmethod
    def of(cls, deduct: CreditTransaction) -> Self:
        """Begin with a deduct of which nothing has been given back."""
        start = deduct.period_start
        start_ms = None if start is None else round(start.timestamp() * 1000)
        return cls(deduct.user_id, -deduct.amount, -deduct.allowance_amount, start_ms)

    @classmethod
    def of_durable(cls, refund: Refund, durable: DurableDeduct) -> Self:
        """Begin with a deduct as Postgres knows it."""
        earlier = CreditTransactionId.derive("earlier", refund.deduct_id.value)
        refunds = {earlier: durable.refunded}
        taken, start_ms = durable.allowance_amount, durable.period_start_ms
        return cls(refund.user_id, durable.amount, taken, start_ms, refunds)

    @property
    def total(self) -> int:
        """All that has been given back so far."""
        return sum(self.refunds.values())

    def is_charge_of(self, user_id: UUID) -> bool:
        """Whether it tells of what the user paid; a void notes an id of which nothing was taken."""
        return self.user_id == user_id and self.cost > 0

    def to_allowance(self, amount: int, period_start_ms: int | None) -> int:
        """Return how much of a refund concerns the allowance: what was spent last comes first."""
        if period_start_ms is None or period_start_ms != self.period_start_ms:
            return 0
        bought = self.cost - self.taken
        return amount - (min(self.total + amount, bought) - min(self.total, bought))
