"""A transaction: one immutable change of a balance."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Self
from uuid import UUID

from uuid_utils.compat import uuid7

from faregate.domain.errors import AmountError, InvalidArgumentError, TransactionIdError
from faregate.domain.quick import quick_maker

#: The columns are INTEGER, so amounts and balances stay in this range.
CREDITS_MAX = 2**31 - 1
DESCRIPTION_BYTES_MAX = 1_000
METADATA_BYTES_MAX = 8_192
#: The deepest nesting of objects and lists, the outermost included. It is far below the recursion
#: limit of any process that reads a record.
METADATA_DEPTH_MAX = 32

_UUID_V7 = 7
_UUID_V8 = 8
_VERSION_MASK = 0xF << 76
_VARIANT_RFC = 0b10
_VARIANT_MASK = 0b11 << 62
_DERIVED_NAMESPACE = UUID("6f2d2f0c-5c1b-5d5e-9d51-0b7b2d0a4a11")


class TransactionType(StrEnum):
    """The types of transactions."""

    #: Credits taken for a request. Amount <= 0; 0 records a request without a charge.
    DEDUCT = "deduct"
    #: New credits: starting credits, a purchase, a top-up. Amount > 0.
    ADD = "add"
    #: Credits given back for (a part of) one deduct, to which it refers. Amount > 0.
    REFUND = "refund"
    #: A correction by an operator. Either sign, but not 0.
    ADMIN_ADJUSTMENT = "admin_adjustment"

    def accepts(self, amount: int) -> bool:
        """Return whether `amount` has a sign that this type allows."""
        if self is TransactionType.DEDUCT:
            return amount <= 0
        if self is TransactionType.ADMIN_ADJUSTMENT:
            return amount != 0
        return amount > 0


@dataclass(frozen=True, slots=True, init=False)
class CreditTransactionId:
    """The id of a transaction, which never changes.

    Any RFC 9562 UUID is valid. New ids are UUIDv7, so that their age is known. Derived ids are
    computed from their source, so that writing one twice has no effect.
    """

    #: The UUID in 16 bytes, as Redis and Postgres store it.
    bytes: bytes

    def __init__(self, value: UUID) -> None:
        """Make an id from a UUID.

        Raises:
            TransactionIdError: It is no UUID.
        """
        if not isinstance(value, UUID):
            raise TransactionIdError(f"a transaction id must be a UUID, not {value!r}")
        object.__setattr__(self, "bytes", value.bytes)

    @classmethod
    def mint(cls, time_ms: int) -> Self:
        """Make a new id with the time `time_ms` (Unix milliseconds, in the ledger's time)."""
        return cls(uuid7(nanoseconds=time_ms * 1_000_000))

    @classmethod
    def derive(cls, purpose: str, source: UUID) -> Self:
        """Derive the id of a transaction that exists once for `source`, such as its void.

        It is a UUIDv8 from SHA-256 (RFC 9562, appendix B.2), and not a UUIDv5, because Postgres
        must compute the same id, in `faregate.derived_id`, and has no built-in SHA-1.
        """
        name = f"{purpose}:{source}".encode()
        value = int.from_bytes(sha256(_DERIVED_NAMESPACE.bytes + name).digest()[:16])
        value = value & ~_VERSION_MASK | _UUID_V8 << 76
        return cls(UUID(int=value & ~_VARIANT_MASK | _VARIANT_RFC << 62))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an id from text.

        Raises:
            TransactionIdError: `text` is not a UUID.
        """
        try:
            return cls(UUID(text))
        except ValueError as error:
            raise TransactionIdError(f"a transaction id must be a UUID, not {text!r}") from error

    @property
    def value(self) -> UUID:
        """The id as a UUID."""
        return UUID(bytes=self.bytes)

    @property
    def time_ms(self) -> int | None:
        """The Unix time in the id, in milliseconds, or None if its version has none."""
        is_timed = self.bytes[6] >> 4 == _UUID_V7 and self.bytes[8] >> 6 == _VARIANT_RFC
        return int.from_bytes(self.bytes[:6]) if is_timed else None

    def __str__(self) -> str:
        return str(self.value)


#: Makes an id from the 16 bytes of a UUID, unchecked.
transaction_id_of: Callable[[bytes], CreditTransactionId] = quick_maker(CreditTransactionId)
#: The id in a decision on a request that was never sent.
NO_ID = transaction_id_of(bytes(16))


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditTransaction:
    """One immutable change of a user's balance, as recorded."""

    #: The id of the transaction.
    id: CreditTransactionId
    #: The user whose balance it changes.
    user_id: UUID
    #: The change, in credits; its sign depends on the type.
    amount: int
    #: The kind of change.
    type: TransactionType
    #: The reason of the change, for people.
    description: str
    #: Further facts of the caller; None without any.
    metadata: Mapping[str, object] | None = None
    #: When the balance changed, by the clock of Redis.
    timestamp: datetime
    #: The position in the user's history: 1, 2, 3, ... without gaps.
    sequence: int
    #: The user's balance right after this change.
    balance_after: int
    #: The epoch of the change; 0 for rows that Postgres made itself.
    epoch: int
    #: The deduct that a refund gives back.
    refund_of: CreditTransactionId | None = None
    #: The change of the user's allowance: negative if it was spent.
    allowance_amount: int = 0
    #: The rest of the allowance right after this change.
    allowance_after: int = 0
    #: When the period of that allowance began; None for a user who never had one.
    period_start: datetime | None = None

    def __post_init__(self) -> None:
        check_amount(self.type, self.amount)
        if abs(self.balance_after) > CREDITS_MAX:
            raise AmountError(f"a balance must lie within ±{CREDITS_MAX}, not {self.balance_after}")
        if self.sequence < 1:
            raise InvalidArgumentError(f"a sequence starts at 1, not {self.sequence}")
        if (self.type is TransactionType.REFUND) != (self.refund_of is not None):
            raise InvalidArgumentError("a refund, and nothing else, refers to a deduct")


def check_amount(kind: TransactionType, amount: object) -> int:
    """Return `amount` if a transaction of type `kind` may carry it.

    Raises:
        AmountError: It is not a whole number, leaves the range, or has the wrong sign.
    """
    number = check_whole("an amount", amount, -CREDITS_MAX)
    if not kind.accepts(number):
        raise AmountError(f"{number} has the wrong sign for a transaction of type {kind}")
    return number


def check_whole(what: str, value: object, low: int) -> int:
    """Return `value` if it is a whole number of credits from `low` to `CREDITS_MAX`.

    Raises:
        AmountError: The value is not such a number. The error names it as `what`.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise AmountError(f"{what} must be a whole number of credits, not {value!r}")
    if not low <= value <= CREDITS_MAX:
        raise AmountError(f"{what} must lie between {low} and {CREDITS_MAX}, not {value}")
    return value
