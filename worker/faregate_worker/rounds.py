"""Rounds of a job: one reads pending records of some shards, and stores them as rows.

The next batch is read while the last one is stored. A shard that cannot be stored is left pending
for a while, and does not delay others.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import TypeAlias

from faregate.domain.errors import NodeUnavailableError, ShardBlockedError
from faregate.ports import Batch, Cursor, TransactionArchive, TransactionStream
from faregate_worker.counts import Counts
from faregate_worker.drain import Drained, require_same_ledger, store
from faregate_worker.shard_cursors import ShardCursors
from faregate_worker.sizes import BatchSizes

_logger = logging.getLogger(__name__)

#: An error that keeps the records of one shard pending.
_Obstacle: TypeAlias = ShardBlockedError | NodeUnavailableError
_ReadBatch: TypeAlias = Batch | NodeUnavailableError | None
_Read: TypeAlias = Future[tuple[int, _ReadBatch]]


class Rounds:
    """The rounds of one job."""

    def __init__(
        self,
        stream: TransactionStream,
        archive: TransactionArchive,
        cursors: ShardCursors,
        *,
        batch_size_max: int,
        counts: Counts,
        is_over: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connects only when used; once `is_over` says so, no more batches are read."""
        self._stream = stream
        self._archive = archive
        self._cursors = cursors
        self._sizes = BatchSizes(batch_size_max)
        self._counts = counts
        self._is_over = is_over
        self._clock = clock
        #: Whether the last round found more records than one batch.
        self.has_backlog = False

    def run(self, reader: ThreadPoolExecutor, shards: Iterable[int]) -> Drained:
        """Store batches of some shards in turn, reading one ahead."""
        todo = deque((shard, self._cursors.cursor(shard)) for shard in shards)
        drained = Drained()
        self.has_backlog = False
        ahead = self._read_ahead(reader, todo)
        while ahead is not None:
            shard, read = ahead.result()
            batch = None if isinstance(read, NodeUnavailableError) else read
            if batch is not None and self._sizes.note(shard, batch.count):
                self.has_backlog = True
                todo.append((shard, batch.end))
            ahead = self._read_ahead(reader, todo)
            if batch is None or batch.after == self._cursors.cursor(shard):
                done = self._store(shard, read)
                self._counts.add(**asdict(done))
                drained += done
            else:
                # The last batch was stored in part, or by another drain.
                self.has_backlog = True
        return drained

    def _read_ahead(
        self, reader: ThreadPoolExecutor, todo: deque[tuple[int, Cursor | None]]
    ) -> _Read | None:
        if not todo or self._is_over():
            return None
        shard, cursor = todo.popleft()
        size = self._sizes.of(shard)
        return reader.submit(self._read, shard, cursor, size)

    def _read(self, shard: int, cursor: Cursor | None, size: int) -> tuple[int, _ReadBatch]:
        try:
            return shard, self._stream.read(shard, cursor, size)
        except NodeUnavailableError as error:
            return shard, error

    def _store(self, shard: int, batch: _ReadBatch) -> Drained:
        """Store a batch, if there is one, and note the cursor in Redis."""
        try:
            if isinstance(batch, NodeUnavailableError):
                raise batch
            if batch is not None:
                return self._store_batch(shard, batch)
            trimmed = self._stream.note_stored(shard, self._cursors.cursor(shard))
        except (ShardBlockedError, NodeUnavailableError) as error:
            self._leave(shard, error)
            return Drained()
        self._cursors.note_empty(shard)
        return Drained(trimmed=trimmed)

    def _leave(self, shard: int, why: _Obstacle) -> None:
        """Leave the records of a shard pending for a while."""
        self._counts.add(**{"blocked" if isinstance(why, ShardBlockedError) else "outage": 1})
        if self._cursors.pause(shard):
            _logger.warning("records left pending: %s", why)

    def _store_batch(self, shard: int, batch: Batch) -> Drained:
        if batch.is_from_start:
            # History has changed, perhaps by a rebuild with another shard count.
            require_same_ledger(self._stream, self._archive)
        began_at = self._clock()
        drained, stored = store(self._stream, self._archive, batch)
        if stored.is_stale:
            self._cursors.yield_to_other(shard, stored.cursor)
        else:
            self._cursors.note_stored(shard, stored.cursor)
            self._counts.batch_seconds.observe(self._clock() - began_at)
            self._counts.batch_records.observe(stored.count)
        return drained
