"""Which shards a job drains, and which it leaves alone for a while."""

from dataclasses import replace

import pytest

from clocks import Seconds
from faregate.domain.errors import ShardBlockedError
from faregate.ports import Batch, Cursor, Stored
from faregate_worker.shard_cursors import PAUSE_S_MAX, PAUSE_S_MIN, YIELD_S, ShardCursors
from working import Job

CURSOR = Cursor(number=1, epoch=1, position="1-0", digest=bytes(32), ordinal=1)
MOVED = replace(CURSOR, number=2)


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def cursors(clock: Seconds) -> ShardCursors:
    return ShardCursors(4, clock)


def test_a_shard_is_left_for_as_long_as_another_drain_moves_its_cursor(
    cursors: ShardCursors, clock: Seconds
) -> None:
    """Looked at in turn, and free where it stands still."""
    cursors.update({0: CURSOR})
    assert cursors.free == [0, 1, 2, 3]
    cursors.yield_to_other(1, CURSOR)
    assert (cursors.free, cursors.cursor(1), cursors.is_update_due) == ([0, 2, 3], CURSOR, False)
    clock.advance(YIELD_S)
    assert cursors.is_update_due
    cursors.update({0: CURSOR, 1: MOVED})
    assert (cursors.free, cursors.is_update_due) == ([0, 2, 3], False)
    clock.advance(YIELD_S)
    cursors.update({0: CURSOR, 1: MOVED})
    assert cursors.free == [0, 1, 2, 3]


def test_a_shard_that_cannot_be_stored_rests_for_longer_each_time(
    cursors: ShardCursors, clock: Seconds
) -> None:
    """Up to a bound, and from the beginning once it could be stored."""
    rests: list[float] = []
    for _ in range(6):
        assert cursors.pause(2) == (not rests)
        started = clock()
        while 2 not in cursors.free:
            clock.advance(0.5)
            cursors.update({})
        rests.append(clock() - started)
    assert rests[0] == PAUSE_S_MIN
    assert rests == sorted(rests)
    assert rests[-1] == PAUSE_S_MAX
    cursors.note_stored(2, CURSOR)
    assert cursors.pause(2)


def test_a_blocked_shard_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """It is told once, and stored when it can be."""
    job = Job()
    for shard in (1, 2):
        job.fill(shard, 5)
    store, refused = job.archive.store, [0]

    def store_or_refuse(batch: Batch) -> Stored:
        if batch.shard == 1 and refused[0] < 2:
            refused[0] += 1
            raise ShardBlockedError("the schema refuses")
        return store(batch)

    job.archive.store = store_or_refuse  # type: ignore[method-assign]
    assert job.work.run().read == 10
    assert [shard for shard, _ in job.archive.batches] == [2, 1]
    assert [record.getMessage() for record in caplog.records] == [
        "records left pending: the schema refuses"
    ]
