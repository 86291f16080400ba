"""The drift of a live balance from its ledger, and the alignment of the two."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from faregate.domain.errors import InvalidArgumentError
from faregate.domain.transaction import CreditTransactionId, TransactionType, check_amount
from faregate.domain.user import User

#: For how long after it was measured a drift may be used, if nothing is said: a minute.
ALIGNMENT_MS = 60_000
#: How many transactions that Redis has lost are named, the newest.
LOST_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveAccount:
    """A live account at one moment, with the place that separates its records from later ones."""

    user_id: UUID
    #: Where it lies, and the Redis history that its shard holds.
    shard: int
    epoch: int
    #: The number of the last record of the shard at that moment.
    ordinal: int
    #: The time of the shard, in Unix milliseconds.
    at_ms: int
    #: None where there is no account, or none that can be read.
    user: User | None
    #: The last alignment of the user, as long as Redis knows it.
    last_id: CreditTransactionId | None
    #: Whether there is something in its place that cannot be read.
    is_unreadable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LostTransaction:
    """A transaction of the ledger that the live balance does not know."""

    id: UUID
    #: Its number, which Redis has given again or will give again.
    sequence: int
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveDrift:
    """The difference between a live balance and its ledger: rows, dead letters, pending records."""

    #: The account as it was measured.
    account: LiveAccount
    #: To be added to its credits, and the part of it that concerns the allowance.
    amount: int
    allowance_amount: int
    #: No transaction of the user has a higher number than this or the account's.
    sequence_min: int
    #: When the period of the allowance began, by the ledger, in Unix milliseconds; 0 for none.
    period_start_ms: int = 0
    #: Transactions that Redis lost with the account, or when it went on from an older copy:
    #: the newest `LOST_MAX`, in the order of their numbers. Those that were corrected before are
    #: among them.
    lost: tuple[LostTransaction, ...] = ()

    @property
    def user_id(self) -> UUID:
        """Whose balance it is."""
        return self.account.user_id

    @property
    def epoch(self) -> int:
        """The Redis history in which it was measured."""
        return self.account.epoch

    @property
    def credits(self) -> int | None:
        """The live credits as they were measured; None where there was no account."""
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

    #: Minted for it: the same call again is answered as the first one, for a day. The record has
    #: the same id.
    id: CreditTransactionId
    drift: LiveDrift
    #: After this time of the shard it is refused, in Unix milliseconds: a call that was lost is not
    #: executed later. An hour after it was measured at most.
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
        """Make one with a new id, that may be executed for a time after the drift was measured."""
        at_ms = drift.account.at_ms
        identity = CreditTransactionId.mint(at_ms)
        return cls(id=identity, drift=drift, deadline_ms=at_ms + for_ms, record=record)


class AlignmentOutcome(StrEnum):
    """The outcome of an alignment."""

    #: Balance and ledger agree.
    ALIGNED = "aligned"
    #: It had been done before, and is answered alike.
    REPEATED = "repeated"
    #: Its deadline has passed, and it has not been done.
    LATE = "late"
    #: The user was aligned since the drift was measured, or its account was lost or made. Measure
    #: again: a drift that is zero was corrected.
    CHANGED = "changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Aligned:
    """The answer to an alignment. If it was refused, the numbers are those of the account now."""

    outcome: AlignmentOutcome
    credits: int
    sequence: int
    credits_before: int
    sequence_before: int

    @property
    def is_done(self) -> bool:
        """Whether balance and ledger have been made to agree, now or before."""
        return self.outcome in {AlignmentOutcome.ALIGNED, AlignmentOutcome.REPEATED}
