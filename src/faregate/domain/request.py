"""Requests to the ledger other than spends: credits, refunds, voids."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from faregate.domain.durability import Durability
from faregate.domain.errors import InvalidArgumentError
from faregate.domain.transaction import CreditTransactionId, TransactionType, check_amount
from faregate.domain.user import check_user_id

#: The address of a record: the position of its entry in the stream, and its index there from 1.
_POSITION = re.compile(r"[0-9]{1,15}-[0-9]{1,10}/[0-9]{1,5}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Void:
    """A request to undo a spend that was answered "not charged", or not at all."""

    user_id: UUID
    transaction_id: CreditTransactionId
    #: When the void was sent, and its deadline: in the ledger's time, in Unix milliseconds. A spend
    #: that was charged before or after belongs to another call, and stands. `asked_at_ms` is 0 for
    #: a minted id: no earlier call had it, even if the clock of the ledger was set back since.
    asked_at_ms: int
    deadline_ms: int
    #: For a caller's id: the deadline of its first sending, which separates its answers from those
    #: of other calls with the id. 0 if unknown.
    first_deadline_ms: int = 0

    @property
    def refund_id(self) -> CreditTransactionId:
        """The id of its refund, derived from the spend, so that it is made once."""
        return CreditTransactionId.derive("void", self.transaction_id.value)


#: The description of the refund that a void makes.
VOID_DESCRIPTION = "void: the request was answered as not charged"


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
    #: How safe the change is before it is answered.
    durability: Durability = Durability.MEMORY

    def __post_init__(self) -> None:
        check_user_id(self.user_id)
        check_amount(self.type, self.amount)


@dataclass(frozen=True, slots=True, kw_only=True)
class DurableDeduct:
    """A deduct and its refunds, as Postgres knows them."""

    #: The credits that were taken, as a positive number.
    amount: int
    #: The credits that its refunds gave back so far, including dead letters that may still be
    #: stored.
    refunded: int
    #: The part that was taken from the user's allowance.
    allowance_amount: int = 0
    #: When the period of that allowance began, in Unix milliseconds.
    period_start_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """A request to give a deduct back."""

    user_id: UUID
    deduct_id: CreditTransactionId
    transaction_id: CreditTransactionId
    #: The credits to give back; None for all that is left of the deduct.
    amount: int | None
    description: str
    metadata: Mapping[str, object] | None = None
    #: The attempt with an idempotency key that is given back; None for a refund by an operator.
    attempt_id: CreditTransactionId | None = None
    #: `Decision.position` of the deduct, if known.
    position: str = ""
    #: The deduct from Postgres, if the ledger does not know it.
    durable: DurableDeduct | None = None

    def __post_init__(self) -> None:
        check_user_id(self.user_id)
        if self.amount is not None:
            check_amount(TransactionType.REFUND, self.amount)
        if self.position and not _POSITION.fullmatch(self.position):
            raise InvalidArgumentError(
                "a position is that of a decision, such as 1700000000000-0/1"
            )

    @property
    def has_own_id(self) -> bool:
        """Whether the caller chose its id, which may then belong to another transaction."""
        derived = (
            CreditTransactionId.derive(why, self.deduct_id.value) for why in ("refund", "void")
        )
        return self.transaction_id not in derived


class VoidOutcome(StrEnum):
    """The outcome of a void."""

    #: The attempt was charged; the charge is refunded.
    REFUNDED = "refunded"
    #: The attempt was not charged, and never will be.
    REFUSED = "refused"
    #: The attempt is older than the memory of the ledger. If it was charged, there is a row.
    FORGOTTEN = "forgotten"
    #: Another call got the answer that it was charged; the charge stands.
    KEPT = "kept"
    #: The deadline of the attempt has not passed, so it may still be charged; or its record has
    #: been pending for longer than refunds are remembered. Try again later.
    TOO_EARLY = "too_early"
