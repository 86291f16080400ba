"""Requests to the ledger beside spends: credits, refunds, voids."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

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
    #: When it was sent, and its deadline: the ledger's time in Unix milliseconds. A spend that was
    #: charged before or after was answered to another call, and stays. `asked_at_ms` is 0 for an id
    #: that was minted: no earlier call had it, even if the clock of the ledger was set back since.
    asked_at_ms: int
    deadline_ms: int
    #: The deadline with which it was sent first, of an id that was given: it tells its answers from
    #: those of other calls with the id at the same time. 0 if that is not known.
    first_deadline_ms: int = 0

    @property
    def refund_id(self) -> CreditTransactionId:
        """The id of the refund that it makes; computed, so that it is made once."""
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

    def __post_init__(self) -> None:
        check_user_id(self.user_id)
        check_amount(self.type, self.amount)


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
        if self.amount is not None:
            check_amount(TransactionType.REFUND, self.amount)
        if self.position and not _POSITION.fullmatch(self.position):
            raise InvalidArgumentError(
                "a position is that of a decision, such as 1700000000000-0/1"
            )

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
    #: The ledger knows nothing of it, and does not reach back so far: if charged, it is a row.
    FORGOTTEN = "forgotten"
    #: Another call was told that it was charged; the charge stands.
    KEPT = "kept"
    #: Its deadline has not passed, so it may still be charged; or it waits for longer to become a
    #: row than it is remembered whether it was given back. Ask again later.
    TOO_EARLY = "too_early"
