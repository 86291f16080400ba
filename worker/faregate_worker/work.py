"""The work of one job: it drains all free shards, ends expired holds, and waits for more.

    wait ─> gather ─> round: read ahead │ store │ note ─> wait ...

It has no state except connections and cursors from Postgres. So it may be killed at any time, and
any number of jobs may run at once.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Protocol, TypeAlias

from faregate.domain.errors import ArchiveUnavailableError, LedgerError, ShardBlockedError
from faregate.ports import Batch, Cursor, HoldSweeper, TransactionArchive, TransactionStream
from faregate_worker.counts import Counts
from faregate_worker.drain import Drained, require_same_ledger, store
from faregate_worker.shard_cursors import ShardCursors
from faregate_worker.sizes import BatchSizes

#: The longest wait for a record, in seconds. A stop is noticed within this time.
WAIT_S_MAX = 0.5
#: The longest time in which it gathers records after the first one, in seconds. It is as long as
#: the last round took, so that small batches leave half of the time to others.
GATHER_S_MIN = 0.02
GATHER_S_MAX = 0.1
#: The job ends after this time without a record, in seconds; the next record starts another one.
IDLE_S_MAX = 5.0
#: The interval in which it reads every free shard, in seconds.
CHECK_INTERVAL_S = 1.0
#: The interval between two checks for expired holds, in seconds.
SWEEP_INTERVAL_S = 1.0
#: The first and the longest pause after a server did not answer, in seconds.
PAUSE_S_MIN = 1.0
PAUSE_S_MAX = 15.0

_logger = logging.getLogger(__name__)

_Read: TypeAlias = Future[tuple[int, Batch | None]]


class Stopping(Protocol):
    """A stop request."""

    @property
    def requested(self) -> bool:
        """Whether to stop now."""
        ...

    def pause(self, seconds: float) -> None:
        """Wait, until a stop is requested at the latest."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkLimits:
    """The bounds of one job."""

    #: The approximate number of records in one transaction.
    batch_size_max: int
    #: No batch begins later than this after the start, in seconds.
    seconds_max: float


class Work:
    """One job."""

    def __init__(
        self,
        stream: TransactionStream,
        archive: TransactionArchive,
        sweeper: HoldSweeper,
        *,
        limits: WorkLimits,
        counts: Counts,
        stop: Stopping,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connects only when used."""
        self._stream = stream
        self._archive = archive
        self._sweeps = Sweeps(sweeper, clock)
        self._counts = counts
        self._stop = stop
        self._clock = clock
        self._ends_at = clock() + limits.seconds_max
        self._cursors = ShardCursors(stream.shard_count, clock)
        self._sizes = BatchSizes(limits.batch_size_max)
        self._outage = Outage(clock)
        self._is_known = False
        self._has_backlog = False
        self._round_s = 0.0
        self._check_at = self._idle_since = clock()

    def run(self) -> Drained:
        """Work until the time is over, the job is idle, or a stop is requested.

        Raises:
            ConfigurationError: Redis and Postgres are of different ledgers.
        """
        drained = Drained()
        with ThreadPoolExecutor(1, thread_name_prefix="read ahead") as reader:
            while self._goes_on():
                try:
                    drained += self._pass(reader)
                except (ArchiveUnavailableError, LedgerError) as error:
                    self._counts.add(outage=1)
                    self._outage.begin(error)
                    self._is_known = False
                if self._sweeps.sweep():
                    self._idle_since = self._clock()
        return drained

    def _goes_on(self) -> bool:
        now = self._clock()
        is_idle = now - self._idle_since >= IDLE_S_MAX
        return not (self._stop.requested or now >= self._ends_at or is_idle)

    def _pass(self, reader: ThreadPoolExecutor) -> Drained:
        """Wait for records, and store them."""
        if self._outage.is_on:
            self._idle_since = self._clock()
            self._stop.pause(min(self._outage.seconds_left, WAIT_S_MAX))
            if self._outage.seconds_left > 0:
                return Drained()
        if not self._is_known:
            require_same_ledger(self._stream, self._archive)
        if not self._is_known or self._cursors.is_update_due:
            self._cursors.update(self._archive.cursors())
            self._is_known = True
        shards = self._wait()
        began_at = self._clock()
        done = self._round(reader, shards)
        self._round_s = self._clock() - began_at
        self._outage.end()
        if done.read:
            self._idle_since = self._clock()
        return done

    def _wait(self) -> Sequence[int]:
        """Wait for records; return the shards to read."""
        free = self._cursors.free
        if not free:
            self._stop.pause(WAIT_S_MAX)
            return ()
        cursors = {shard: self._cursors.cursor(shard) for shard in free}
        awake = self._stream.wait(cursors, min(WAIT_S_MAX, self._ends_at - self._clock()))
        if awake and not self._has_backlog:
            self._stop.pause(min(max(self._round_s, GATHER_S_MIN), GATHER_S_MAX))
        if self._clock() < self._check_at:
            return awake
        # After a change of history no record may wake it, so a read from the cursor checks.
        self._check_at = self._clock() + CHECK_INTERVAL_S
        return free

    def _round(self, reader: ThreadPoolExecutor, shards: Iterable[int]) -> Drained:
        """Store batches of some shards in turn, reading one ahead."""
        todo = deque((shard, self._cursors.cursor(shard)) for shard in shards)
        drained = Drained()
        self._has_backlog = False
        ahead = self._read_ahead(reader, todo)
        while ahead is not None:
            shard, batch = ahead.result()
            if batch is not None and self._sizes.note(shard, batch.count):
                self._has_backlog = True
                todo.append((shard, batch.end))
            ahead = self._read_ahead(reader, todo)
            if batch is None or batch.after == self._cursors.cursor(shard):
                done = self._store(shard, batch)
                self._counts.add(**asdict(done))
                drained += done
            else:
                # The last batch was stored in part, or by another drain.
                self._has_backlog = True
        return drained

    def _read_ahead(
        self, reader: ThreadPoolExecutor, todo: deque[tuple[int, Cursor | None]]
    ) -> _Read | None:
        if not todo or self._stop.requested or self._clock() >= self._ends_at:
            return None
        shard, cursor = todo.popleft()
        size = self._sizes.of(shard)
        return reader.submit(lambda: (shard, self._stream.read(shard, cursor, size)))

    def _store(self, shard: int, batch: Batch | None) -> Drained:
        """Store a batch, if there is one, and note the cursor in Redis."""
        if batch is None:
            return Drained(trimmed=self._stream.note_stored(shard, self._cursors.cursor(shard)))
        if batch.is_from_start:
            # History has changed, perhaps by a rebuild with another shard count.
            require_same_ledger(self._stream, self._archive)
        began_at = self._clock()
        try:
            drained, stored = store(self._stream, self._archive, batch)
        except ShardBlockedError as error:
            self._counts.add(blocked=1)
            if self._cursors.pause(shard):
                _logger.warning("records left pending: %s", error)
            return Drained()
        if stored.is_stale:
            self._cursors.yield_to_other(shard, stored.cursor)
        else:
            self._cursors.note_stored(shard, stored.cursor)
            self._counts.batch_seconds.observe(self._clock() - began_at)
            self._counts.batch_records.observe(stored.count)
        return drained


class Sweeps:
    """Ends expired holds, even while Postgres does not answer."""

    def __init__(self, sweeper: HoldSweeper, clock: Callable[[], float]) -> None:
        self._sweeper = sweeper
        self._clock = clock
        self._due_at = clock()
        self._has_failed = False

    def sweep(self) -> bool:
        """Sweep once an interval; return whether a hold was ended."""
        if self._clock() < self._due_at:
            return False
        self._due_at = self._clock() + SWEEP_INTERVAL_S
        try:
            ended = sum(self._sweeper.sweep(shard) for shard in self._sweeper.shards_due())
        except LedgerError as error:
            # A full Redis accepts no record. Pending records are stored all the same.
            if not self._has_failed:
                _logger.warning("expired holds not ended: %s: %s", type(error).__name__, error)
            self._has_failed = True
            return False
        self._has_failed = False
        if ended:
            _logger.info("expired holds ended: holds=%d", ended)
        return ended > 0


class Outage:
    """An outage of a server: logged once, and retried after growing pauses."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pause_s = 0.0
        self._until = 0.0

    @property
    def is_on(self) -> bool:
        """Whether a server does not answer."""
        return self._pause_s > 0

    @property
    def seconds_left(self) -> float:
        """The rest of the pause."""
        return max(0.0, self._until - self._clock())

    def begin(self, error: Exception) -> None:
        """Note an error of a server."""
        if not self.is_on:
            _logger.warning(
                "outage began, records left pending: %s: %s", type(error).__name__, error
            )
        self._pause_s = min(max(2 * self._pause_s, PAUSE_S_MIN), PAUSE_S_MAX)
        self._until = self._clock() + self._pause_s

    def end(self) -> None:
        """Note that the servers answer."""
        if self.is_on:
            _logger.info("outage ended")
        self._pause_s = 0.0
