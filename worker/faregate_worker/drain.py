"""Draining one shard: read, store, acknowledge, in this order, and nothing else.

The order is the whole promise. A record is acknowledged only after `TransactionArchive.store` has
returned, so whatever dies in between leaves records that the next drain reads first. Storing one
twice is harmless, which is why two drainers of one shard need no lock.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from faregate.domain.errors import ArchiveUnavailableError, ConfigurationError
from faregate.ports import TransactionArchive, TransactionStream


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainLimits:
    """How much one drain may do."""

    #: About how many records are read, stored and acknowledged together.
    batch_size_max: int
    #: No batch is begun later than this many seconds after the start.
    seconds_max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What one drain has done, in records."""

    read: int = 0
    #: New rows.
    inserted: int = 0
    #: Records that were rows already.
    repeated: int = 0
    #: Records that cannot be rows and are kept as dead letters.
    dead_letters: int = 0
    #: How many entries, with all their records, left the stream.
    trimmed: int = 0

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


def drain_step(
    stream: TransactionStream, archive: TransactionArchive, shard: int, *, batch_size_max: int
) -> Drained:
    """Move one batch of about `batch_size_max` records; `read` is 0 if there was none.

    Raises:
        ArchiveUnavailableError: Nothing was acknowledged; the records will be read again.
        LedgerError: Redis did not answer; what was stored will be read again, and recognised.
    """
    entries = stream.read(shard, batch_size_max)
    if not entries:
        return Drained()
    stored = archive.store(shard, entries)
    accounted = stored.inserted + stored.repeated + stored.dead_letters
    if accounted != len(entries):
        # Acknowledging a record that is nowhere would lose it for good; reading it again cannot.
        raise ArchiveUnavailableError(
            f"{len(entries)} records were to be stored but {accounted} are accounted for"
        )
    stream.forget(stored.users_gone)
    stream.acknowledge(shard, [entry.stream_id for entry in entries])
    return Drained(
        read=len(entries),
        inserted=stored.inserted,
        repeated=stored.repeated,
        dead_letters=stored.dead_letters,
    )


def drain(
    stream: TransactionStream,
    archive: TransactionArchive,
    shard: int,
    *,
    limits: DrainLimits,
    clock: Callable[[], float] = time.monotonic,
) -> Drained:
    """Move batches until none is left or the time is up, then trim what is durable and old.

    At least one batch is tried, so that a drain that was started always makes progress. `clock`
    returns seconds that never go backwards.

    Raises:
        ArchiveUnavailableError: The batch at hand was not acknowledged; those before it were.
        LedgerError: Redis did not answer.
    """
    deadline = clock() + limits.seconds_max
    drained = Drained()
    while True:
        step = drain_step(stream, archive, shard, batch_size_max=limits.batch_size_max)
        drained += step
        if not step.read or clock() >= deadline:
            break
    return replace(drained, trimmed=stream.trim(shard))
