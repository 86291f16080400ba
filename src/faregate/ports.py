"""What the use cases need from the outside, as interfaces. Adapters satisfy them by shape.

One colour a port: what answers requests is async, what workers and operators use is sync.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable
from uuid import UUID

from faregate.domain.decision import Decision
from faregate.domain.finding import Finding
from faregate.domain.hold import Hold, HoldAnswer, HoldRequest, Settlement
from faregate.domain.identity import LedgerIdentity
from faregate.domain.policy import Allowance
from faregate.domain.request import Charge, Credit, DurableDeduct, Refund, VoidOutcome
from faregate.domain.transaction import CreditTransaction, CreditTransactionId
from faregate.domain.user import User


class Ledger(Protocol):
    """Live credits: decides, and records in the same step. Implemented by Redis."""

    async def attach(self, identity: LedgerIdentity) -> None:
        """Make sure that this is the ledger of `identity`, creating it if it never was installed.

        Raises:
            LedgerUninitialisedError: It was installed once and is empty, or of another epoch.
            ConfigurationError: It was created with another shard count or starting credits.
        """
        ...

    def now_ms(self) -> int:
        """Return a time in Unix milliseconds that the ledger's clock has reached for certain."""
        ...

    async def charge(self, charge: Charge) -> Decision:
        """Take credits if there are enough.

        Raises:
            OutcomeUnknownError: No answer by the deadline; the charge may have happened in time.
            LedgerUnavailableError: It did not happen, and will not.
            TransactionIdError: The id is outside the window in which a retry is recognised.
            TransactionConflictError: The id is known with another cost.
        """
        ...

    async def credit(self, credit: Credit) -> Decision:
        """Add credits or adjust a balance; recognises the id of a retry for 24 hours."""
        ...

    async def refund(self, refund: Refund) -> Decision:
        """Give a deduct back; `UNKNOWN_DEDUCT` asks for `Refund.durable`."""
        ...

    async def void(self, charge: Charge) -> VoidOutcome:
        """Settle a charge whose outcome is unknown, once its deadline has passed."""
        ...

    async def read(self, user_id: UUID, allowance: Allowance | None = None) -> User | None:
        """Return the live balance, or None if the ledger does not know the user.

        With an allowance it is the balance that a charge would find now: a period that has begun
        is reckoned with, though only a charge begins it.
        """
        ...

    async def install(self, user: User) -> bool:
        """Take over a user's durable balance, if absent and of the same epoch; append nothing."""
        ...

    async def aclose(self) -> None:
        """Let go of all connections."""
        ...


@runtime_checkable
class HoldLedger(Ledger, Protocol):
    """A ledger that can take an estimate first and settle it later."""

    async def hold(self, request: HoldRequest) -> Hold:
        """Take an estimate if there is enough; raises as `charge` does."""
        ...

    async def settle(self, settlement: Settlement) -> HoldAnswer:
        """End a hold by what it cost, or cancel it, once.

        Raises:
            TransactionConflictError: It ended in another way, or by another cost.
        """
        ...

    async def extend(self, user_id: UUID, hold_id: CreditTransactionId, ttl_ms: int) -> HoldAnswer:
        """Let an open hold expire in `ttl_ms` from now.

        Raises:
            InvalidArgumentError: It would be open for more than a day.
        """
        ...

    async def void_hold(self, request: HoldRequest) -> VoidOutcome:
        """End a hold whose outcome is unknown, once its deadline has passed."""
        ...

    async def expire_due(self, user_id: UUID) -> int:
        """Give back or keep holds of a user whose time is over; return how many, bounded."""
        ...


class HoldSweeper(Protocol):
    """Ends holds whose owners did not. Implemented by Redis, for the worker."""

    def shards_due(self) -> Sequence[int]:
        """Return the shards that have open holds whose time is over."""
        ...

    def sweep(self, shard: int) -> int:
        """Give back or keep due holds of a shard; return how many, bounded."""
        ...


class Accounts(Protocol):
    """Who exists and what is durable, for the few questions that requests ask of Postgres."""

    async def identity(self) -> LedgerIdentity:
        """Return what the ledger was created with."""
        ...

    async def mark_installed(self, epoch: int) -> None:
        """Note that Redis has been given `epoch`."""
        ...

    async def open(self, user_id: UUID, *, provision: bool) -> User | None:
        """Return a user's durable balance, making what is missing in one transaction.

        A user that exists gets a missing profile and starting row. One that does not exist is
        created if `provision` is set; else the answer is None.
        """
        ...

    async def transaction(self, transaction_id: CreditTransactionId) -> CreditTransaction | None:
        """Return a stored transaction."""
        ...

    async def deduct(self, user_id: UUID, deduct_id: CreditTransactionId) -> DurableDeduct | None:
        """Return a stored deduct and how much of it has been refunded."""
        ...

    async def aclose(self) -> None:
        """Let go of all connections."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEntry:
    """One entry of a shard's stream as the worker reads it."""

    stream_id: str
    #: The bytes as they lie in the stream, for the dead letter of one that cannot be read.
    payload: bytes
    #: The transaction, or None where the payload cannot be read; `problem` then says why.
    transaction: CreditTransaction | None
    problem: str = ""


class TransactionStream(Protocol):
    """The records that are not yet known to be rows, one stream a shard. Implemented by Redis."""

    @property
    def shard_count(self) -> int:
        """The number of shards, numbered from 0."""
        ...

    def shards_pending(self) -> Sequence[int]:
        """Return the shards that hold records not yet acknowledged."""
        ...

    def read(self, shard: int, count_max: int) -> Sequence[StreamEntry]:
        """Return entries to store: this consumer's unacknowledged ones first, then new ones."""
        ...

    def acknowledge(self, shard: int, stream_ids: Sequence[str]) -> None:
        """Note that entries are durable. Call it after the commit, never before."""
        ...

    def trim(self, shard: int) -> int:
        """Delete acknowledged entries older than the window of retries; return how many."""
        ...

    def unacknowledged(self, shard: int) -> Iterable[StreamEntry]:
        """Iterate over every entry that is not known to be durable, reading nothing away."""
        ...

    def pending_count(self) -> int:
        """Return how many records are not acknowledged, over all shards."""
        ...

    def marks(self) -> Mapping[str, str]:
        """Return what Redis keeps of the identity of its ledger; empty if it was wiped."""
        ...

    def forget(self, user_ids: Iterable[UUID]) -> None:
        """Delete the live balances of users that Postgres knows to be gone."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What became of a batch."""

    #: New rows.
    inserted: int
    #: Entries that were rows already, with the same content.
    repeated: int
    #: Entries that cannot be rows and are kept as dead letters.
    dead_letters: int
    #: The users of this batch that were deleted.
    users_gone: frozenset[UUID] = frozenset()


class TransactionArchive(Protocol):
    """The immutable rows. Implemented by Postgres."""

    def identity(self) -> LedgerIdentity:
        """Return what the ledger was created with."""
        ...

    def store(self, shard: int, entries: Sequence[StreamEntry]) -> Stored:
        """Store a batch; when this returns, every entry is durable.

        Raises:
            ArchiveUnavailableError: Not all was stored, or it is not known to be; read again.
        """
        ...


class LiveBalances(Protocol):
    """Live credits, read by operators."""

    def read_many(self, user_ids: Sequence[UUID]) -> Mapping[UUID, User]:
        """Return the live balances of the users that the ledger knows."""
        ...

    def epochs(self) -> Sequence[int | None]:
        """Return the epoch of each shard, None where Redis holds none."""
        ...


class Audit(Protocol):
    """Durable credits, read by operators. Implemented by Postgres."""

    def identity(self) -> LedgerIdentity:
        """Return what the ledger was created with."""
        ...

    def users(self, after: UUID | None, count_max: int) -> Sequence[UUID]:
        """Return the next users by id: all that have a profile or a row."""
        ...

    def reached(self, users: Sequence[UUID]) -> Mapping[UUID, User]:
        """Return how far the rows of users go: sequence and epoch are those of the last one."""
        ...

    def compare(
        self, users: Sequence[UUID], live: Mapping[UUID, User], copies: Sequence[StreamEntry]
    ) -> Sequence[Finding]:
        """Compare live balances with rows, dead letters and stream copies, in one snapshot.

        Only what is at or below a user's live sequence counts, so that traffic may flow.
        """
        ...

    def verify(self) -> Sequence[Finding]:
        """Check the invariants that rows, dead letters and schema alone can prove."""
        ...

    def dead_letter_count(self) -> int:
        """Return the number of dead letters that are not discarded."""
        ...


class LedgerAdmin(Protocol):
    """What only the owner of the ledger may do. Implemented by Postgres."""

    def identity(self) -> LedgerIdentity:
        """Return what the ledger was created with."""
        ...

    def begin_epoch(self, after: int) -> int:
        """Begin the epoch that follows `after`, which nobody has installed yet, and return it.

        Raises:
            ConfigurationError: `after` is not the epoch that counts, or the role may not do this.
        """
        ...
