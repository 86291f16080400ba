"""Holds: credits that are taken for a cost that is known only later."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self
from uuid import UUID

from faregate.domain.decision import Decision, Verdict
from faregate.domain.policy import Allowance
from faregate.domain.transaction import CreditTransactionId, check_whole


class HoldState(StrEnum):
    """The state of a hold. The ledger remembers it for a day after its end."""

    #: The ledger does not know the hold: it never was, or it ended more than a day ago.
    UNKNOWN = ""
    #: The hold has not ended.
    OPEN = "open"
    #: The hold ended with its actual cost.
    SETTLED = "settled"
    #: All of it went back.
    CANCELLED = "cancelled"
    #: The hold was not settled in time; it went back or was kept, as `on_expiry` says.
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """The answer to a request for a hold, by which an allowed hold is settled."""

    #: The decision on the estimate. Its transaction id is that of the hold, and its policy applies
    #: to the end of the hold.
    decision: Decision

    @classmethod
    def known_by(cls, user_id: UUID, hold_id: CreditTransactionId) -> Self:
        """Return a hold from its ids alone, for an operator who cancels it."""
        return cls(
            decision=Decision(
                verdict=Verdict.ALLOWED,
                user_id=user_id,
                transaction_id=hold_id,
                amount=0,
                credits=0,
            )
        )

    @property
    def allowed(self) -> bool:
        """Whether the estimate is taken."""
        return self.decision.allowed

    @property
    def user_id(self) -> UUID:
        """The user of the hold."""
        return self.decision.user_id

    @property
    def id(self) -> CreditTransactionId:
        """The id of the hold, and of the deduct that took its estimate."""
        return self.decision.transaction_id

    @property
    def estimate(self) -> int:
        """The credits that were taken; 0 if the user is never refused."""
        return -self.decision.amount

    @property
    def expires_at_ms(self) -> int:
        """When the hold expires, unless it ends or is extended before, in Unix ms; 0 if refused."""
        return self.decision.expires_at_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenHold:
    """An open hold, for operators."""

    id: CreditTransactionId
    user_id: UUID
    #: The credits that were taken.
    amount: int
    opened_at: datetime
    #: When the hold expires; the worker ends it then.
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """A request to end a hold."""

    user_id: UUID
    hold_id: CreditTransactionId
    #: The actual cost, in credits; None to cancel it.
    actual: int | None
    #: The attempt with an idempotency key that ends it; None without a key.
    attempt_id: CreditTransactionId | None = None
    #: How far below zero the balance may go for a cost above the estimate, in credits.
    overdraft_max: int = 0
    #: The allowance of the user, by its policy.
    allowance: Allowance | None = None
    description: str = "settlement of a hold"
    metadata: Mapping[str, object] | None = None

    def __post_init__(self) -> None:
        check_whole("overdraft_max", self.overdraft_max, 0)
        if self.actual is not None:
            check_whole("an actual cost", self.actual, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldAnswer:
    """The answer to a settlement, a cancellation, an extension or an expiry."""

    #: ALLOWED, UNKNOWN_HOLD, HOLD_EXPIRED, TAKEN_OVER, HOLD_CLOSED, HOLD_OPEN or PENDING.
    verdict: Verdict
    #: The user of the hold.
    user_id: UUID
    #: The id of the hold.
    hold_id: CreditTransactionId
    #: The state of the hold.
    state: HoldState
    #: The part of the estimate that went back, in credits.
    refunded: int = 0
    #: The credits that were taken beyond the estimate.
    charged: int = 0
    #: The credits beyond the estimate that could not be taken.
    shortfall: int = 0
    #: When the hold expires, or would have expired, in Unix milliseconds.
    expires_at_ms: int = 0
    #: The user's balance now.
    credits: int = 0
    #: The rest of the user's allowance now; part of `credits`.
    allowance_left: int = 0
    #: Whether this answers a retry: the hold had ended in the same way before.
    repeated: bool = False

    @property
    def allowed(self) -> bool:
        """Whether the change of the hold was made."""
        return self.verdict is Verdict.ALLOWED

    @property
    def is_pending(self) -> bool:
        """Whether the change is made in the background. All numbers are 0 then."""
        return self.verdict is Verdict.PENDING


def closing_id(hold_id: CreditTransactionId) -> CreditTransactionId:
    """Return the id of the only record that the end of a hold may write."""
    return CreditTransactionId.derive("hold-end", hold_id.value)
