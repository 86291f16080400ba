"""The work of one job: it drains all free shards, ends expired holds, and waits for more.

    wait ─> gather ─> round (see `rounds`): read ahead │ store │ note ─> wait ...

It has no state except connections and cursors from Postgres. So it may be killed at any time, and
any number of jobs may run at once.
"""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from faregate.domain.errors import ArchiveUnavailableError, LedgerError
from faregate.ports import HoldSweeper, TransactionArchive, TransactionStream
from faregate_worker.counts import Counts
from faregate_worker.drain import Drained, require_same_ledger
from faregate_worker.rounds import Rounds
from faregate_worker.shard_cursors import ShardCursors
from faregate_worker.sweeps import Sweeps

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
#: The first and the longest pause after a server did not answer, in seconds.
PAUSE_S_MIN = 1.0
PAUSE_S_MAX = 15.0

_logger = logging.getLogger(__name__)


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
        self._rounds = Rounds(
            stream,
            archive,
            self._cursors,
            batch_size_max=limits.batch_size_max,
            counts=counts,
            is_over=self._is_over,
            clock=clock,
        )
        self._outage = Outage(clock)
        self._is_known = False
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
        is_idle = self._clock() - self._idle_since >= IDLE_S_MAX
        return not (self._is_over() or is_idle)

    def _is_over(self) -> bool:
        return self._stop.requested or self._clock() >= self._ends_at

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
        done = self._rounds.run(reader, shards)
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
        if awake and not self._rounds.has_backlog:
            self._stop.pause(min(max(self._round_s, GATHER_S_MIN), GATHER_S_MAX))
        if self._clock() < self._check_at:
            return awake
        # After a change of history no record may wake it, so a read from the cursor checks.
        self._check_at = self._clock() + CHECK_INTERVAL_S
        return free


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
