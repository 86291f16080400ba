"""The drift of a live balance from its ledger, and the alignment of the two."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from faregate.domain.errors import InvalidArgumentError
from faregate.domain.transaction import CreditTransactionId, TransactionType, check_amount
from faregate.domain.user import User

#: The default time for which a measured drift may be used, in milliseconds: a minute.
ALIGNMENT_MS = 60_000
#: How many lost transactions are named, the newest ones.
LOST_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveAccount:
    """A live account at one moment, with the last record of its shard then."""

    user_id: UUID
    #: The shard of the user, and the epoch of the shard.
    shard: int
    epoch: int
    #: The number of the last record of the shard at that moment.
    ordinal: int
    #: The time of the shard, in Unix milliseconds.
    at_ms: int
    #: The account; None if it is missing or unreadable.
    user: User | None
    #: The last alignment of the user, if Redis still knows it.
    last_id: CreditTransactionId | None
    #: Whether the value of the account is unreadable.
    is_unreadable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LostTransaction:
    """A transaction of the ledger that the live balance does not include."""

    id: UUID
    #: The sequence of the transaction, which Redis has used again or will use again.
    sequence: int
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveDrift:
    """The difference between a live balance and its ledger: rows, dead letters, pending records."""

    #: The measured account.
    account: LiveAccount
    #: The credits to add to the balance, and the part of them in the allowance.
    amount: int
    allowance_amount: int
    #: The last sequence of the user in the ledger.
    sequence_min: int
    #: The start of the period by the ledger, in Unix milliseconds; 0 for none.
    period_start_ms: int = 0
    #: Transactions that Redis lost with the account, or by a restore of an older copy: the newest
    #: `LOST_MAX`, by sequence, including those that were corrected before.
    lost: tuple[LostTransaction, ...] = ()

    @property
    def user_id(self) -> UUID:
        """The user of the balance."""
        return self.account.user_id

    @property
    def epoch(self) -> int:
        """The epoch in which it was measured."""
        return self.account.epoch

    @property
    def credits(self) -> int | None:
        """The measured live credits; None if there was no account."""
        return self.account.user.credits if self.account.user else None

    @property
    def is_zero(self) -> bool:
        """Whether there is nothing to correct."""
        if self.account.user is None:
            return not self.amount and not self.sequence_min
        is_reached = self.sequence_min <= self.account.user.sequence
        return is_reached and not self.amount and not self.allowance_amount


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignmentRecord:
    """The record that changes a ledger to match a live balance."""

    type: TransactionType
    description: str
    metadata: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """A request to align a live balance with its ledger, by a drift that was measured.

    Without a `record` the balance changes by the amount of the drift. With a `record` the balance
    stays, and the record of the negated amount changes the ledger.
    """

    #: The id of the alignment and of its record. A call with the same id gets the same answer for
    #: a day.
    id: CreditTransactionId
    drift: LiveDrift
    #: The time of the shard after which it is refused, in Unix milliseconds, so that a lost call is
    #: not executed later. At most an hour after the measurement.
    deadline_ms: int
    record: AlignmentRecord | None = None

    def __post_init__(self) -> None:
        if self.record is None:
            return
        if self.drift.account.user is None:
            raise InvalidArgumentError("no ledger can follow a live balance that is not there")
        if self.record.type not in {TransactionType.ADD, TransactionType.ADMIN_ADJUSTMENT}:
            raise InvalidArgumentError(f"a record of type {self.record.type} needs a request")
        if self.drift.amount:
            check_amount(self.record.type, -self.drift.amount)

    @classmethod
    def of(
        cls, drift: LiveDrift, record: AlignmentRecord | None = None, *, for_ms: int = ALIGNMENT_MS
    ) -> "Alignment":
        """Return an alignment with a new id, valid for a time after the drift was measured."""
        at_ms = drift.account.at_ms
        identity = CreditTransactionId.mint(at_ms)
        return cls(id=identity, drift=drift, deadline_ms=at_ms + for_ms, record=record)


class AlignmentOutcome(StrEnum):
    """The outcome of an alignment."""

    #: Balance and ledger agree now.
    ALIGNED = "aligned"
    #: The alignment was done before; the answer is the same.
    REPEATED = "repeated"
    #: The deadline has passed, and the alignment was not done.
    LATE = "late"
    #: The user was aligned, or its account was lost or created, since the drift was measured.
    #: Measure again: a drift of zero means that it was corrected.
    CHANGED = "changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Aligned:
    """The answer to an alignment. After a refusal, the numbers are those of the account now."""

    outcome: AlignmentOutcome
    credits: int
    sequence: int
    credits_before: int
    sequence_before: int

    @property
    def is_done(self) -> bool:
        """Whether balance and ledger agree, by this call or an earlier one."""
        return self.outcome in {AlignmentOutcome.ALIGNED, AlignmentOutcome.REPEATED}
