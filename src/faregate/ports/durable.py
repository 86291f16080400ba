"""The ports to Postgres: users, rows and API keys."""

from collections.abc import Mapping, Sequence
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
from faregate.ports.pending import Copy, Cursor


class Accounts(Protocol):
    """Users and durable balances: the few queries that a request makes."""

    async def identity(self) -> LedgerIdentity:
        """Return the identity of the ledger, fixed when it was created."""
        ...

    async def mark_installed(self, epoch: int) -> None:
        """Note that Redis was installed with `epoch`."""
        ...

    async def open(self, user_id: UUID, *, provision: bool) -> User | None:
        """Return a user's durable balance; create missing parts in one transaction.

        A user without a profile and starting row gets them. A missing user is created if
        `provision` is set; otherwise the answer is None.
        """
        ...

    async def transaction(self, transaction_id: CreditTransactionId) -> CreditTransaction | None:
        """Return a stored transaction."""
        ...

    async def deduct(self, user_id: UUID, deduct_id: CreditTransactionId) -> DurableDeduct | None:
        """Return a stored deduct and how much of it has been refunded."""
        ...

    async def users_after(self, after: UUID | None, count_max: int) -> Sequence[UUID]:
        """Return the next users that have a profile, by id."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


class History(Protocol):
    """The rows of one user, read with the rights of that user."""

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
        """Close all connections."""
        ...


class Deletions(Protocol):
    """Deleted users, from Postgres."""

    def users_to_erase(self, count_max: int) -> Sequence[UUID]:
        """Return deleted users whose keys may still be in Redis.

        Raises:
            ArchiveUnavailableError: Postgres does not answer in time.
        """
        ...

    def note_erased(self, user_ids: Sequence[UUID]) -> None:
        """Note that the keys of users are erased, and delete their ids; raises as above."""
        ...


class Orders(Protocol):
    """Orders of credits from SQL. Implemented for Postgres, for the worker.

    Every method raises `ArchiveUnavailableError` where Postgres does not answer in time.
    """

    def take(self, count_max: int) -> Sequence[Order]:
        """Finish orders that are rows, and return due orders; each is due again after a while.

        An order whose record is a dead letter is refused.
        """
        ...

    def refuse(self, refusals: Sequence[tuple[Order, str]]) -> None:
        """Note why orders were refused, unless another worker has taken them since."""
        ...

    def open_users(self, user_ids: Sequence[UUID]) -> Sequence[User]:
        """Return the durable balances of users, as `Accounts.open` does."""
        ...


class Audit(Protocol):
    """Durable credits for operators. Implemented for Postgres."""

    def identity(self) -> LedgerIdentity:
        """Return the identity of the ledger, fixed when it was created."""
        ...

    def cursors(self) -> Mapping[int, Cursor]:
        """Return the newest cursor of each shard that has one."""
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
        """Check the invariants of rows, dead letters and schema.

        Args:
            users: The users whose rows and dead letters are checked; None for all users and the
                schema.
        """
        ...

    def acknowledgements(self) -> Mapping[str, Acknowledgement]:
        """Return the acknowledgements by the ids of their findings."""
        ...

    def dead_letter_count(self) -> int:
        """Return the number of dead letters that are not discarded."""
        ...


class LedgerAdmin(Protocol):
    """Actions of the owner of the ledger. Implemented for Postgres."""

    def identity(self) -> LedgerIdentity:
        """Return the identity of the ledger, fixed when it was created."""
        ...

    def begin_epoch(self, after: int, shard_count: int) -> LedgerIdentity:
        """Begin the epoch that follows `after`, with this number of shards; return the ledger.

        Raises:
            ConfigurationError: `after` is not the current epoch, or the role lacks the right.
        """
        ...

    def open(self, user_ids: Sequence[UUID]) -> Sequence[User]:
        """Return the durable balances of existing users, and create missing profiles."""
        ...


class ApiKeys(Protocol):
    """The API keys of users, for requests."""

    async def find(self, key_id: UUID) -> StoredApiKey | None:
        """Return a key, even an expired or revoked one.

        Raises:
            ArchiveUnavailableError: Postgres did not answer in time.
        """
        ...

    async def note_uses(self, used_at: Mapping[UUID, datetime]) -> None:
        """Note when keys were last used; an older use than the known one is ignored.

        Raises:
            ArchiveUnavailableError: Not noted, or the outcome is unknown.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


class ApiKeyAdmin(Protocol):
    """API keys, created and revoked by operators. Implemented for Postgres."""

    def create(self, new: NewApiKey) -> None:
        """Store a new key.

        Raises:
            InvalidArgumentError: There is no such user.
        """
        ...

    def keys(self, user_id: UUID | None, after: UUID | None, count_max: int) -> Sequence[ApiKey]:
        """Return the next keys by id, in the order of their creation.

        Args:
            user_id: The user of the keys; None for all users.
            after: The last key of the page before; None for the first page.
            count_max: The most keys.
        """
        ...

    def revoke(self, key_id: UUID) -> ApiKey | None:
        """Revoke a key for good, and return it; None if there is no such key.

        An earlier revocation keeps its time.
        """
        ...
