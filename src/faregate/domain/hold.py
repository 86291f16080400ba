"""Holds: credits that are taken for a cost which is known only later."""

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
    """What became of a hold. The ledger remembers it for a day after its end."""

    #: The ledger does not know the hold: it never was, or it ended more than a day ago.
    UNKNOWN = ""
    #: It has not ended.
    OPEN = "open"
    #: It ended by what it really cost.
    SETTLED = "settled"
    #: All of it went back.
    CANCELLED = "cancelled"
    #: Nobody settled it in time; it went back, or was kept, as was said when it began.
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """The answer to a request for a hold; if it is allowed, what it is settled by."""

    #: How the ledger decided on the estimate; its transaction id is the one of the hold, and its
    #: policy rules how the hold ends.
    decision: Decision

    @classmethod
    def known_by(cls, user_id: UUID, hold_id: CreditTransactionId) -> Self:
        """Name a hold by its ids alone, for an operator who cancels it."""
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
        """Whose credits are held."""
        return self.decision.user_id

    @property
    def id(self) -> CreditTransactionId:
        """The id of the hold, and of the deduct that took its estimate."""
        return self.decision.transaction_id

    @property
    def estimate(self) -> int:
        """What was taken, in credits; 0 where the user is never refused."""
        return -self.decision.amount

    @property
    def expires_at_ms(self) -> int:
        """When it expires unless it ends before or is extended, in Unix ms; 0 if refused."""
        return self.decision.expires_at_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenHold:
    """A hold that nobody has ended, as operators see it."""

    id: CreditTransactionId
    user_id: UUID
    #: What was taken, in credits.
    amount: int
    opened_at: datetime
    #: From then on the worker ends it.
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """A request to end a hold."""

    user_id: UUID
    hold_id: CreditTransactionId
    #: What it really cost, in credits; None to cancel it.
    actual: int | None
    #: The attempt with an idempotency key that ends it; None where there was no key.
    attempt_id: CreditTransactionId | None = None
    #: How far below zero the balance may go for what the estimate lacks, in credits.
    overdraft_max: int = 0
    #: What the user gets anew in each period, by its policy.
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
    #: What has become of the hold.
    state: HoldState
    #: What went back of the estimate, in credits.
    refunded: int = 0
    #: What was taken beyond the estimate, in credits.
    charged: int = 0
    #: What should have been taken beyond the estimate, and was not there, in credits.
    shortfall: int = 0
    #: When it expires, or would have, in Unix milliseconds.
    expires_at_ms: int = 0
    #: The user's balance now.
    credits: int = 0
    #: What is left of the user's allowance now; part of `credits`.
    allowance_left: int = 0
    #: Whether this answers a retry: the hold had ended in this very way already.
    repeated: bool = False

    @property
    def allowed(self) -> bool:
        """Whether it was done."""
        return self.verdict is Verdict.ALLOWED

    @property
    def is_pending(self) -> bool:
        """Whether it is yet to be done, in the background. All numbers are 0 then."""
        return self.verdict is Verdict.PENDING


def closing_id(hold_id: CreditTransactionId) -> CreditTransactionId:
    """Return the id of the one record that the end of a hold may write, however it ends."""
    return CreditTransactionId.derive("hold-end", hold_id.value)
