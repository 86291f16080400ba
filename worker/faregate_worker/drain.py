"""Draining one shard: read what follows its cursor, store it, note how far it is stored.

The cursor is the whole promise. It lies in Postgres and moves in the commit that stores the rows,
so whatever dies in between leaves either both or none. A batch that was read after a cursor that
has moved meanwhile is dropped, which is why two drains of one shard harm nobody.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from faregate.domain.errors import ConfigurationError
from faregate.ports import Batch, Cursor, Stored, TransactionArchive, TransactionStream


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainLimits:
    """How much one drain may do."""

    #: About how many records are read and stored together.
    batch_size_max: int
    #: No batch is begun later than this many seconds after the start.
    seconds_max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What one drain has done, in records."""

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
    identity.require_shards(stream.shard_count)
    problem = identity.mismatch(stream.identity_fields())
    if problem:
        raise ConfigurationError(problem)


def drain_step(
    stream: TransactionStream,
    archive: TransactionArchive,
    shard: int,
    cursor: Cursor | None,
    *,
    batch_size_max: int,
) -> tuple[Drained, Cursor | None]:
    """Store one batch of about `batch_size_max` records that follows a cursor.

    Returns:
        What was done, and the newest cursor of the shard. Where that is the one that was given,
        there was nothing to do.

    Raises:
        ArchiveUnavailableError: The batch was not stored, or it is not known to be.
        LedgerError: Redis did not answer.
    """
    batch = stream.read(shard, cursor, batch_size_max)
    if batch is None:
        # Again, so that an older value that came late is corrected.
        return Drained(trimmed=stream.note_stored(shard, cursor)), cursor
    drained, stored = store(stream, archive, batch)
    return drained, stored.cursor


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
    stream.forget(stored.deleted_users)
    return Drained.of(stored, stream.note_stored(batch.shard, stored.cursor)), stored


def drain(
    stream: TransactionStream,
    archive: TransactionArchive,
    shard: int,
    *,
    limits: DrainLimits,
    clock: Callable[[], float] = time.monotonic,
) -> Drained:
    """Store batches of one shard until none is left or the time is up, as `Work` does for all.

    This is the drain for programs that run neither RQ nor a worker, such as tests of an app.

    At least one batch is tried, so that a drain that was started always makes progress. `clock`
    returns seconds that never go backwards.

    Raises:
        ArchiveUnavailableError: The batch at hand was not stored; those before it were.
        LedgerError: Redis did not answer.
    """
    deadline = clock() + limits.seconds_max
    drained = Drained()
    cursor = archive.cursors().get(shard)
    while True:
        before = cursor
        step, cursor = drain_step(
            stream, archive, shard, cursor, batch_size_max=limits.batch_size_max
        )
        drained += step
        if cursor == before or clock() >= deadline:
            return drained
