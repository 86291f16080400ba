"""One hold, as the memory adapter keeps it."""

from dataclasses import dataclass
from uuid import UUID

from faregate.domain.decision import Decision, Verdict
from faregate.domain.hold import HoldAnswer, HoldRequest, HoldState
from faregate.domain.policy import OnExpiry
from faregate.domain.transaction import CreditTransactionId
from faregate.domain.user import User


@dataclass(slots=True)
class Held:
    """One hold, and what became of it."""

    request: HoldRequest
    decision: Decision
    opened_at_ms: int
    expires_at_ms: int
    state: HoldState = HoldState.OPEN
    actual: int = 0
    refunded: int = 0
    charged: int = 0
    shortfall: int = 0

    @property
    def id(self) -> CreditTransactionId:
        """The id of the hold."""
        return self.decision.transaction_id

    @property
    def user_id(self) -> UUID:
        """Whose credits are held."""
        return self.decision.user_id

    @property
    def amount(self) -> int:
        """The estimate."""
        return self.request.charge.cost

    @property
    def is_spent(self) -> bool:
        """Whether its end has cost something, or may have: it was settled, or kept."""
        is_kept = self.request.on_expiry is OnExpiry.KEEP and self.state is HoldState.EXPIRED
        return is_kept or self.state is HoldState.SETTLED

    def tell(self, verdict: Verdict, user: User) -> HoldAnswer:
        """Answer what became of it."""
        return HoldAnswer(
            verdict=verdict,
            user_id=self.user_id,
            hold_id=self.id,
            state=self.state,
            refunded=self.refunded,
            charged=self.charged,
            shortfall=self.shortfall,
            expires_at_ms=self.expires_at_ms,
            credits=user.credits,
            allowance_left=user.allowance_left,
        )
