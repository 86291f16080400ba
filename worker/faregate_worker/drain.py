"""Draining one shard: read what follows its cursor, store it, note how far it is stored.

Exactness depends on the cursor alone. It is in Postgres and moves in the commit that stores the
rows, so a crash leaves either both or none. A batch is dropped if its cursor has moved meanwhile,
so two drains of one shard do no harm.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from faregate.domain.errors import ConfigurationError
from faregate.ports import Batch, Cursor, Stored, TransactionArchive, TransactionStream

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainLimits:
    """The bounds of one drain."""

    #: The approximate number of records that are read and stored together.
    batch_size_max: int
    #: No batch begins later than this after the start, in seconds.
    seconds_max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """The result of a drain, in records."""

    #: Records that were read: the sum of the next three.
    read: int = 0
    #: New rows.
    inserted: int = 0
    #: Records that were already rows.
    repeated: int = 0
    #: Records that became dead letters.
    dead_letters: int = 0
    #: Entries that were deleted from the stream.
    trimmed: int = 0

    @classmethod
    def of(cls, stored: Stored, trimmed: int) -> "Drained":
        """Return the result from that of a batch."""
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
    """Check that Redis and Postgres belong to the same ledger.

    Raises:
        ConfigurationError: They, or the settings, belong to different ledgers.
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
    """Store the batch after a cursor, of about `batch_size_max` records.

    Returns:
        The result, and the newest cursor of the shard. If the cursor is the given one, there was
        nothing to do.

    Raises:
        ArchiveUnavailableError: The batch was not stored, or it is not known to be.
        LedgerError: Redis did not answer.
    """
    batch = stream.read(shard, cursor, batch_size_max)
    if batch is None:
        # Repeated, to correct an older value that arrived late.
        return Drained(trimmed=stream.note_stored(shard, cursor)), cursor
    drained, stored = store(stream, archive, batch)
    return drained, stored.cursor


def store(
    stream: TransactionStream, archive: TransactionArchive, batch: Batch
) -> tuple[Drained, Stored]:
    """Store a batch, and note it in Redis only after the commit.

    If Redis has lost the entry of the cursor, the cursor goes back first, and the batch is read
    again.

    Raises:
        ArchiveUnavailableError: The batch was not stored, or it is not known to be.
        LedgerError: Redis did not note it; the next read of the shard does this.
    """
    if batch.is_from_start and batch.after is not None:
        rewound = rewind(stream, archive, batch.shard, batch.after)
        if rewound is not None:
            return Drained(), rewound
    stored = archive.store(batch)
    if stored.is_stale:
        return Drained(), stored
    stream.forget(stored.deleted_users)
    return Drained.of(stored, stream.note_stored(batch.shard, stored.cursor)), stored


def rewind(
    stream: TransactionStream, archive: TransactionArchive, shard: int, cursor: Cursor
) -> Stored | None:
    """Take the cursor of a shard back if Redis has lost its entry; return None if it has not.

    Raises:
        ArchiveUnavailableError: It was not taken back, or it is not known to be.
        LedgerError: Redis did not answer.
    """
    fork = stream.fork(shard, cursor, archive.places(shard, cursor))
    if fork is None:
        return None
    rewound = archive.rewind(fork)
    if not rewound.is_stale:
        end = fork.end
        _logger.warning(
            "history lost, cursor set back: shard=%d ordinal=%d to=%d position=%s to=%s",
            shard,
            cursor.ordinal,
            end.ordinal,
            cursor.position,
            end.position,
        )
    return rewound


def drain(
    stream: TransactionStream,
    archive: TransactionArchive,
    shard: int,
    *,
    limits: DrainLimits,
    clock: Callable[[], float] = time.monotonic,
) -> Drained:
    """Store batches of one shard until none is left or the time is over; see `Work` for all shards.

    It is for programs without RQ and a worker, such as tests of an app. It tries at least one
    batch. `clock` is a monotonic clock in seconds.

    Raises:
        ArchiveUnavailableError: The current batch was not stored; earlier ones were.
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
