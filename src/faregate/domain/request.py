"""What is asked of the ledger, and what it must be told to answer."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from faregate.domain.errors import InvalidArgumentError
from faregate.domain.idempotency import IdempotencyKey
from faregate.domain.limit import RateLimit
from faregate.domain.policy import Allowance
from faregate.domain.transaction import CreditTransactionId, TransactionType
from faregate.domain.user import check_user_id

#: What a record's place in its stream looks like.
_POSITION = re.compile(r"[0-9]+-[0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """A request to take credits."""

    user_id: UUID
    transaction_id: CreditTransactionId
    cost: int
    #: The ledger's time in Unix milliseconds that had passed for certain when it was asked for.
    asked_at_ms: int
    #: The ledger's time in Unix milliseconds after which it must not be charged any more.
    deadline_ms: int
    description: str
    metadata: Mapping[str, object] | None = None
    #: The id was minted for this attempt, in the ledger's time, so no earlier one can exist.
    fresh: bool = False
    #: What the user gets anew in each period, by its policy.
    allowance: Allowance | None = None
    #: What is checked together with the credits.
    limits: tuple[RateLimit, ...] = ()
    #: Whose requests the limits by key count: a key that the application chose.
    limit_key: str = ""
    #: Whether a cost of 0 is recorded. If not, it is a peek: decided, and nothing is written.
    records_zero: bool = False
    #: By which a retry with another transaction id is known.
    key: IdempotencyKey | None = None

    def __post_init__(self) -> None:
        check_user_id(self.user_id)

    def whose(self, limit: RateLimit) -> str:
        """Return whose requests a limit counts: the user's, or those of a limit key."""
        return f"key {self.limit_key}" if limit.is_by_key and self.limit_key else str(self.user_id)

    def void(self) -> "Refund":
        """Return the refund that undoes this charge; its id is computed, so it is made once."""
        return Refund(
            user_id=self.user_id,
            deduct_id=self.transaction_id,
            transaction_id=CreditTransactionId.derive("void", self.transaction_id.value),
            amount=None,
            description="void: the request was answered as not charged",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """A request to add credits or to adjust a balance."""

    user_id: UUID
    transaction_id: CreditTransactionId
    type: TransactionType
    amount: int
    description: str
    metadata: Mapping[str, object] | None = None
    #: Whether an admin adjustment may take the balance below zero.
    negative_allowed: bool = False

    def __post_init__(self) -> None:
        check_user_id(self.user_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class DurableDeduct:
    """What Postgres knows of a deduct that is to be refunded."""

    #: What was taken, as a positive number.
    amount: int
    #: What its refunds have given back so far, dead letters that may still be stored included.
    refunded: int
    #: How much of it was taken from the user's allowance.
    allowance_amount: int = 0
    #: When the period of that allowance began, in Unix milliseconds.
    period_start_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """A request to give a deduct back."""

    user_id: UUID
    deduct_id: CreditTransactionId
    transaction_id: CreditTransactionId
    #: How much to give back; None for all that is left of the deduct.
    amount: int | None
    description: str
    metadata: Mapping[str, object] | None = None
    #: The attempt with an idempotency key whose request is given back; None for a refund by hand.
    attempt_id: CreditTransactionId | None = None
    #: `Decision.position` of the deduct, where it is known.
    position: str = ""
    #: The deduct as Postgres knows it, once the ledger has said that it does not.
    durable: DurableDeduct | None = None

    def __post_init__(self) -> None:
        check_user_id(self.user_id)
        if self.position and not _POSITION.fullmatch(self.position):
            raise InvalidArgumentError("a position is that of a decision, such as 1700000000000-0")

    @property
    def has_own_id(self) -> bool:
        """Whether its id is the caller's choice, and so may be that of another transaction."""
        derived = (
            CreditTransactionId.derive(why, self.deduct_id.value) for why in ("refund", "void")
        )
        return self.transaction_id not in derived


class VoidOutcome(StrEnum):
    """What became of an attempt whose outcome was unknown."""

    #: It had been charged; the charge has been refunded.
    REFUNDED = "refunded"
    #: It had not been charged, and from now on will not be.
    REFUSED = "refused"
    #: It was charged, and answered so, before this attempt was made; the charge stands.
    KEPT = "kept"
    #: Its deadline has not passed, so it may still be charged. Ask again later.
    TOO_EARLY = "too_early"
