"""What lasts in Postgres: users, rows and API keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from faregate.domain.api_key import ApiKey, NewApiKey, StoredApiKey
from faregate.domain.finding import Acknowledgement, Finding
from faregate.domain.history import HistoryPlace, HistoryRow
from faregate.domain.identity import LedgerIdentity
from faregate.domain.order import Order
from faregate.domain.request import DurableDeduct
from faregate.domain.transaction import CreditTransaction, CreditTransactionId
from faregate.domain.user import User
from faregate.ports.pending import Batch, Copy, Cursor


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

    async def users_after(self, after: UUID | None, count_max: int) -> Sequence[UUID]:
        """Return the next users by id, of those that have a profile."""
        ...

    async def aclose(self) -> None:
        """Let go of all connections."""
        ...


class History(Protocol):
    """The rows of one user, read with no more rights than that user has."""

    async def read(
        self, user_id: UUID, count_max: int, before: HistoryPlace | None = None
    ) -> Sequence[HistoryRow]:
        """Return a user's newest rows, or those that follow a place, the newest first.

        Raises:
            ArchiveUnavailableError: Postgres does not answer in time.
            ConfigurationError: Rows cannot be read as that user.
        """
        ...

    async def aclose(self) -> None:
        """Let go of all connections."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What became of a batch."""

    #: New rows.
    inserted: int = 0
    #: Records that were rows already, with the same content.
    repeated: int = 0
    #: Records that cannot be rows and are kept as dead letters.
    dead_letters: int = 0
    #: The users of this batch that were deleted.
    deleted_users: frozenset[UUID] = frozenset()
    #: The newest cursor of the shard, now.
    cursor: Cursor | None = None
    #: Whether nothing was stored, since another drain of the shard had been there.
    is_stale: bool = False

    @property
    def count(self) -> int:
        """How many records are accounted for."""
        return self.inserted + self.repeated + self.dead_letters


class TransactionArchive(Protocol):
    """The immutable rows. Implemented by Postgres."""

    def identity(self) -> LedgerIdentity:
        """Return what the ledger was created with."""
        ...

    def cursors(self) -> Mapping[int, Cursor]:
        """Return the newest cursor of each shard of which a batch was stored."""
        ...

    def check_writes(self) -> None:
        """Write nothing, by the statements that write, to find out whether they are allowed.

        Raises:
            ArchiveUnavailableError: They are not, or Postgres does not answer.
            StandbyError: Postgres is a standby.
            ConfigurationError: Postgres has not been migrated, or the role lacks a right.
        """
        ...

    def lock_holder(self) -> str:
        """Say who may keep records from becoming rows by a lock, and what to do; empty for nobody.

        Raises:
            ArchiveUnavailableError: Postgres does not answer.
        """
        ...

    def store(self, batch: Batch) -> Stored:
        """Store a batch and its cursor in one commit, or nothing.

        Where it holds many records that cannot be rows, only the first ones are stored.

        Raises:
            ArchiveUnavailableError: It was not stored, or it is not known to be: read again.
            ConfigurationError: It is of another epoch than the ledger.
        """
        ...


class Deletions(Protocol):
    """Who was deleted, as Postgres tells it."""

    def users_to_erase(self, count_max: int) -> Sequence[UUID]:
        """Return users who were deleted, and of whom Redis may hold keys.

        Raises:
            ArchiveUnavailableError: Postgres does not answer in time.
        """
        ...

    def note_erased(self, user_ids: Sequence[UUID]) -> None:
        """Note that Redis holds no keys of users, and forget their ids; raises as above."""
        ...


class Orders(Protocol):
    """Changes of credits that SQL has asked for. Implemented by Postgres, for the worker.

    Every method raises `ArchiveUnavailableError` where Postgres does not answer in time.
    """

    def take(self, count_max: int) -> Sequence[Order]:
        """Finish orders that are rows, and return those to be sent now: each again after a while.

        An order that is a dead letter is refused.
        """
        ...

    def refuse(self, refusals: Sequence[tuple[Order, str]]) -> None:
        """Note why orders were not made, unless somebody else has taken them since."""
        ...

    def open_users(self, user_ids: Sequence[UUID]) -> Sequence[User]:
        """Return the durable balances of users, as `Accounts.open` does."""
        ...


class Audit(Protocol):
    """Durable credits, read by operators. Implemented by Postgres."""

    def identity(self) -> LedgerIdentity:
        """Return what the ledger was created with."""
        ...

    def cursors(self) -> Mapping[int, Cursor]:
        """Return the newest cursor of each shard of which a batch was stored."""
        ...

    def users(
        self, after: UUID | None, count_max: int, since: datetime | None = None
    ) -> Sequence[UUID]:
        """Return the next users by id: all with a profile or a row, or those with newer rows."""
        ...

    def users_estimate(self) -> int | None:
        """Return about how many users there are; None where Postgres has not counted them."""
        ...

    def reached(self, users: Sequence[UUID]) -> Mapping[UUID, User]:
        """Return how far the rows of users go: sequence and epoch are those of the last one."""
        ...

    def compare(
        self, users: Sequence[UUID], live: Mapping[UUID, User], copies: Sequence[Copy]
    ) -> Sequence[Finding]:
        """Compare live balances with rows, dead letters and stream copies, in one snapshot.

        Only what is at or below a user's live sequence counts, so that traffic may flow.
        """
        ...

    def verify(self, users: Sequence[UUID] | None = None) -> Sequence[Finding]:
        """Check the invariants that rows, dead letters and schema alone can prove.

        Args:
            users: Whose rows and dead letters, and no more; None for all, and the schema.
        """
        ...

    def acknowledgements(self) -> Mapping[str, Acknowledgement]:
        """Return who has accepted which findings, by their ids."""
        ...

    def dead_letter_count(self) -> int:
        """Return the number of dead letters that are not discarded."""
        ...


class LedgerAdmin(Protocol):
    """What only the owner of the ledger may do. Implemented by Postgres."""

    def identity(self) -> LedgerIdentity:
        """Return what the ledger was created with."""
        ...

    def begin_epoch(self, after: int, shard_count: int) -> LedgerIdentity:
        """Begin the epoch that follows `after`, with so many shards; return the ledger as it is.

        Raises:
            ConfigurationError: `after` is not the epoch that counts, or the role may not do this.
        """
        ...

    def open(self, user_ids: Sequence[UUID]) -> Sequence[User]:
        """Return the durable balances of users that exist, making profiles that are missing."""
        ...


class ApiKeys(Protocol):
    """The API keys of users, as far as requests ask."""

    async def find(self, key_id: UUID) -> StoredApiKey | None:
        """Return a key, be it in force or not.

        Raises:
            ArchiveUnavailableError: Postgres did not answer in time.
        """
        ...

    async def note_uses(self, used_at: Mapping[UUID, datetime]) -> None:
        """Note when keys were last used; an earlier use than the one that is known changes nothing.

        Raises:
            ArchiveUnavailableError: Not noted, or it is not known to be.
        """
        ...

    async def aclose(self) -> None:
        """Let go of all connections."""
        ...


class ApiKeyAdmin(Protocol):
    """API keys, made and revoked by operators. Implemented by Postgres."""

    def create(self, new: NewApiKey) -> None:
        """Store a new key.

        Raises:
            InvalidArgumentError: There is no such user.
        """
        ...

    def keys(self, user_id: UUID | None, after: UUID | None, count_max: int) -> Sequence[ApiKey]:
        """Return the next keys by id, which is the order in which they were made.

        Args:
            user_id: Whose keys; None for everybody's.
            after: The last one that is known; None to begin.
            count_max: How many at most.
        """
        ...

    def revoke(self, key_id: UUID) -> ApiKey | None:
        """Put a key out of force for good, and return it; None if there is no such key.

        One that was revoked before stays revoked as of then.
        """
        ...
