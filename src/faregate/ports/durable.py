"""Durable credits: who exists, the immutable rows, and what operators ask of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from faregate.domain.finding import Finding
from faregate.domain.identity import LedgerIdentity
from faregate.domain.request import DurableDeduct
from faregate.domain.transaction import CreditTransaction, CreditTransactionId
from faregate.domain.user import User
from faregate.ports.pending import StreamEntry


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
