"""A batch of one shard: it is stored, and Redis is told how far the shard is stored.

The cursor is the whole promise. It lies in Postgres and moves in the commit that stores the rows,
so whatever dies in between leaves either both or none. A batch that was read after a cursor that
has moved meanwhile is dropped, which is why two drains of one shard harm nobody.
"""

from dataclasses import dataclass

from faregate.domain.errors import ConfigurationError
from faregate.ports import Batch, Stored, TransactionArchive, TransactionStream


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What became of records."""

    #: Accounted for: the sum of the next three.
    read: int = 0
    #: New rows.
    inserted: int = 0
    #: Records that were rows already.
    repeated: int = 0
    #: Records that cannot be rows and are kept as dead letters.
    dead_letters: int = 0
    #: How many entries, with all their records, left the stream.
    trimmed: int = 0

    @classmethod
    def of(cls, stored: Stored, trimmed: int) -> "Drained":
        """Take over what became of a batch."""
        return cls(
            read=stored.count,
            inserted=stored.inserted,
            repeated=stored.repeated,
            dead_letters=stored.dead_letters,
            trimmed=trimmed,
        )

    def __add__(self, other: "Drained") -> "Drained":
        return Drained(
            read=self.read + other.read,
            inserted=self.inserted + other.inserted,
            repeated=self.repeated + other.repeated,
            dead_letters=self.dead_letters + other.dead_letters,
            trimmed=self.trimmed + other.trimmed,
        )


def require_same_ledger(stream: TransactionStream, archive: TransactionArchive) -> None:
    """Make sure that Redis and Postgres belong together, before anything is moved.

    Raises:
        ConfigurationError: They are of different ledgers, or the settings are.
    """
    identity = archive.identity()
    if identity.shard_count != stream.shard_count:
        raise ConfigurationError(
            f"the ledger has {identity.shard_count} shards, the settings say {stream.shard_count}"
        )
    problem = identity.mismatch(stream.marks())
    if problem:
        raise ConfigurationError(problem)


def store(
    stream: TransactionStream, archive: TransactionArchive, batch: Batch
) -> tuple[Drained, Stored]:
    """Store a batch, and tell Redis after the commit, and never before.

    Raises:
        ArchiveUnavailableError: The batch was not stored, or it is not known to be.
        LedgerError: Redis was not told; the next look at the shard does it.
    """
    stored = archive.store(batch)
    if stored.is_stale:
        return Drained(), stored
    stream.forget(stored.users_gone)
    return Drained.of(stored, stream.note_stored(batch.shard, stored.cursor)), stored
