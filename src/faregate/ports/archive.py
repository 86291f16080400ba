"""The port to rows, for the drain."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from faregate.domain.identity import LedgerIdentity
from faregate.ports.pending import Batch, Cursor, Fork


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The result of storing a batch."""

    #: New rows.
    inserted: int = 0
    #: Records that were already rows, with the same content.
    repeated: int = 0
    #: Records that became dead letters.
    dead_letters: int = 0
    #: The deleted users of this batch.
    deleted_users: frozenset[UUID] = frozenset()
    #: The newest cursor of the shard.
    cursor: Cursor | None = None
    #: Whether nothing was stored, since another drain was faster.
    is_stale: bool = False

    @property
    def count(self) -> int:
        """The number of records with a known result."""
        return self.inserted + self.repeated + self.dead_letters


class TransactionArchive(Protocol):
    """The immutable rows. Implemented for Postgres."""

    def identity(self) -> LedgerIdentity:
        """Return the identity of the ledger, fixed when it was created."""
        ...

    def cursors(self) -> Mapping[int, Cursor]:
        """Return the newest cursor of each shard that has one."""
        ...

    def check_writes(self) -> None:
        """Run the statements of a drain without rows, to check its rights.

        Raises:
            ArchiveUnavailableError: A statement fails, or Postgres does not answer.
            StandbyError: Postgres is a standby.
            ConfigurationError: Postgres has not been migrated, or the role lacks a right.
        """
        ...

    def lock_holder(self) -> str:
        """Return the transaction whose lock may block the drain, and a remedy; empty for none.

        Raises:
            ArchiveUnavailableError: Postgres does not answer.
        """
        ...

    def store(self, batch: Batch) -> Stored:
        """Store a batch and its cursor in one commit, or nothing.

        If it holds many records that cannot be rows, only the first ones are stored.

        Raises:
            ArchiveUnavailableError: It was not stored, or the outcome is unknown: read again.
            ConfigurationError: It belongs to another epoch than the ledger.
        """
        ...

    def places(self, shard: int, before: Cursor) -> Iterator[Cursor]:
        """Iterate over the ends of the batches before a cursor, the newest first.

        Raises:
            ArchiveUnavailableError: Postgres does not answer.
        """
        ...

    def rewind(self, fork: Fork) -> Stored:
        """Take the cursor of a shard back, and name the records that Redis has lost, in one commit.

        It does nothing if the cursor has moved meanwhile. Raises as `store` does.
        """
        ...
