"""What has been given back of a deduct, and where it went."""

from dataclasses import dataclass, field
from typing import Self

from faregate.domain.request import DurableDeduct
from faregate.domain.transaction import CreditTransaction, CreditTransactionId


@dataclass(slots=True)
class GivenBack:
    """What has been given back of a deduct."""

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
        return cls(-deduct.amount, -deduct.allowance_amount, start_ms)

    @classmethod
    def of_durable(cls, deduct_id: CreditTransactionId, durable: DurableDeduct) -> Self:
        """Begin with a deduct as Postgres knows it."""
        earlier = CreditTransactionId.derive("earlier", deduct_id.value)
        return cls(
            durable.amount,
            durable.allowance_amount,
            durable.period_start_ms,
            {earlier: durable.refunded},
        )

    @property
    def total(self) -> int:
        """All that has been given back so far."""
        return sum(self.refunds.values())

    def to_allowance(self, amount: int, period_start_ms: int | None) -> int:
        """Return how much of a refund concerns the allowance: what was spent last comes first."""
        if period_start_ms is None or period_start_ms != self.period_start_ms:
            return 0
        bought = self.cost - self.taken
        return amount - (min(self.total + amount, bought) - min(self.total, bought))
