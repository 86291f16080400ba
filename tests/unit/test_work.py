"""One job: what it does in which order, what it leaves to others, and when it ends."""

import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from uuid import UUID

import pytest

from clocks import Seconds
from durable import ListedBatch
from faregate.domain.errors import (
    ArchiveUnavailableError,
    ConfigurationError,
    LedgerUnavailableError,
)
from faregate.domain.identity import LedgerIdentity
from faregate.ports import Batch, Cursor, Stored, StreamEntry
from faregate_worker.sizes import BATCH_SIZE_MIN, BatchSizes
from faregate_worker.turns import LEFT_S
from faregate_worker.work import IDLE_S_MAX, PAUSE_S_MAX, PAUSE_S_MIN, Work, WorkLimits

IDENTITY = LedgerIdentity(
    ledger_id=UUID(int=1), shard_count=16, starting_credits=3, epoch=1, installed=True
)


class FakeStop:
    """Lets time pass at once, and stops when it is told to."""

    def __init__(self, clock: Seconds) -> None:
        self.clock = clock
        self.requested = False

    def pause(self, seconds: float) -> None:
        self.clock.advance(seconds)


class FakeStream:
    """A list of names for each shard; waiting takes all of its time where nothing is new."""

    shard_count = 16

    def __init__(self, clock: Seconds) -> None:
        self.clock = clock
        self.names: dict[int, list[str]] = {shard: [] for shard in range(self.shard_count)}
        self.noted: dict[int, str] = {}
        self.waited_for: list[list[int]] = []
        self.errors: list[Exception] = []
        self.on_wait: Callable[[], None] = lambda: None

    def shards_pending(self) -> Sequence[int]:
        raise NotImplementedError

    def wait(self, cursors: Mapping[int, Cursor | None], seconds_max: float) -> Sequence[int]:
        self.on_wait()
        self.waited_for.append(list(cursors))
        awake = [shard for shard, cursor in cursors.items() if self._after(shard, cursor)]
        if not awake:
            self.clock.advance(seconds_max)
        return awake

    def read(self, shard: int, cursor: Cursor | None, count_max: int) -> Batch | None:
        if self.errors:
            raise self.errors.pop()
        names = self._after(shard, cursor)[:count_max]
        entries = [
            StreamEntry(stream_id=name, payload=b"", transaction=None, problem="fake")
            for name in names
        ]
        return ListedBatch(shard, entries, cursor) if entries else None

    def _after(self, shard: int, cursor: Cursor | None) -> list[str]:
        names = self.names[shard]
        return names if cursor is None else names[names.index(cursor.position) + 1 :]

    def note_stored(self, shard: int, cursor: Cursor | None) -> int:
        if cursor:
            self.noted[shard] = cursor.position
        return 0

    def marks(self) -> dict[str, str]:
        return IDENTITY.marks

    def forget(self, user_ids: object) -> None:
        pass

    def pending_count(self) -> int:
        raise NotImplementedError

    def pending(self, shard: int, cursor: Cursor | None) -> list[StreamEntry]:
        raise NotImplementedError


class FakeArchive:
    """The cursor of each shard, and what was stored in which batches."""

    def __init__(self) -> None:
        self.known: dict[int, Cursor] = {}
        self.batches: list[tuple[int, int]] = []
        self.errors: list[Exception] = []
        self.cut_to = 1_000_000
        self.of: LedgerIdentity = IDENTITY
        self.before_store: Callable[[Batch], None] = lambda _: None

    def identity(self) -> LedgerIdentity:
        return self.of

    def cursors(self) -> Mapping[int, Cursor]:
        return dict(self.known)

    def rehearse(self) -> None:
        raise NotImplementedError

    def store(self, batch: Batch) -> Stored:
        self.before_store(batch)
        if self.errors:
            raise self.errors.pop()
        if batch.after != self.known.get(batch.shard):
            return Stored(cursor=self.known.get(batch.shard), is_stale=True)
        batch = batch.head(self.cut_to)
        self.known[batch.shard] = batch.end
        self.batches.append((batch.shard, batch.count))
        return Stored(inserted=batch.count, cursor=batch.end)


class FakeSweeper:
    """Shards whose holds are due."""

    def __init__(self) -> None:
        self.due: list[int] = []
        self.error: Exception | None = None

    def shards_due(self) -> Sequence[int]:
        if self.error:
            raise self.error
        return list(self.due)

    def sweep(self, shard: int) -> int:
        self.due.remove(shard)
        return 1


class Job:
    """A job over fakes."""

    def __init__(self, seconds_max: float = 60.0, batch_size_max: int = 10) -> None:
        self.clock = Seconds()
        self.stop = FakeStop(self.clock)
        self.stream = FakeStream(self.clock)
        self.archive = FakeArchive()
        self.sweeper = FakeSweeper()
        self.work = Work(
            self.stream,
            self.archive,
            self.sweeper,
            limits=WorkLimits(batch_size_max=batch_size_max, seconds_max=seconds_max),
            stop=self.stop,
            clock=self.clock,
        )

    def fill(self, shard: int, count: int) -> None:
        names = self.stream.names[shard]
        names += [f"{shard}-{len(names) + n}" for n in range(count)]


@pytest.fixture
def job() -> Job:
    return Job()


def test_all_shards_are_drained_in_turn_and_redis_is_told(job: Job) -> None:
    """A shard with much does not keep the others waiting."""
    job.fill(3, 25)
    job.fill(12, 5)
    assert job.work.run().read == 30
    assert job.archive.batches == [(3, 10), (12, 5), (3, 10), (3, 5)]
    assert job.stream.noted == {3: "3-24", 12: "12-4"}


def test_a_job_that_has_nothing_to_do_ends(job: Job) -> None:
    """The next record makes another one."""
    started = job.clock()
    assert job.work.run().read == 0
    assert IDLE_S_MAX <= job.clock() - started <= IDLE_S_MAX + 1


def test_a_job_ends_when_its_time_is_up(job: Job) -> None:
    """So that its worker looks at its queue."""
    job.stream.on_wait = lambda: job.fill(1, 1)
    started = job.clock()
    job.work.run()
    assert 60.0 <= job.clock() - started <= 61.0


def test_a_stop_ends_a_job_after_its_commit(job: Job) -> None:
    """Nothing is begun after it, and what was stored is noted."""
    job.fill(1, 100)

    def stop(_: Batch) -> None:
        job.stop.requested = True

    job.archive.before_store = stop
    assert 10 <= job.work.run().read <= 20
    assert job.stream.noted == {1: job.archive.known[1].position}


def test_a_shard_that_another_drain_works_on_is_left_to_it(job: Job) -> None:
    """And taken over when its cursor does not move any more."""
    other = Job()
    for each in (job, other):
        each.fill(2, 30)

    def overtake(batch: Batch) -> None:
        if job.archive.known.get(2) is None:
            job.archive.known[2] = batch.head(1).end

    job.archive.before_store = overtake
    job.work.run()
    left = next(n for n, shards in enumerate(job.stream.waited_for) if 2 not in shards)
    back = next(n for n, shards in enumerate(job.stream.waited_for) if n > left and 2 in shards)
    assert back > left
    assert sum(count for _, count in job.archive.batches) == 29
    assert LEFT_S < IDLE_S_MAX


def test_a_batch_that_was_stored_in_part_is_read_on_from_there(job: Job) -> None:
    """What was read ahead after its end is dropped."""
    job.archive.cut_to = 7
    job.fill(1, 20)
    assert job.work.run().read == 20
    assert [count for _, count in job.archive.batches] == [7, 7, 6]


@pytest.mark.parametrize("is_redis", [False, True])
def test_an_outage_is_logged_once_and_asked_again_after_growing_pauses(
    caplog: pytest.LogCaptureFixture, *, is_redis: bool
) -> None:
    """The job goes on when it is over; what was not stored is read again."""
    caplog.set_level(logging.INFO)
    job = Job(seconds_max=600.0)
    job.fill(1, 5)
    times: list[float] = []
    errors = job.stream.errors if is_redis else job.archive.errors
    error = LedgerUnavailableError if is_redis else ArchiveUnavailableError
    errors += [error("away")] * 7
    ask = job.archive.cursors

    def cursors() -> Mapping[int, Cursor]:
        times.append(job.clock())
        return ask()

    job.archive.cursors = cursors  # type: ignore[method-assign]
    assert job.work.run().inserted == 5
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    pauses = [later - earlier for earlier, later in pairwise(times)][:6]
    assert pauses[0] == pytest.approx(PAUSE_S_MIN, abs=0.6)
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(PAUSE_S_MAX, abs=1.6)


def test_holds_end_while_postgres_is_away_and_records_are_stored_while_holds_cannot_end(
    job: Job,
) -> None:
    """Neither waits for the other."""
    job.sweeper.due = [1, 7]
    job.archive.errors = [ArchiveUnavailableError("away")] * 3
    job.fill(1, 5)
    job.work.run()
    assert job.sweeper.due == []
    full = Job()
    full.sweeper.error = LedgerUnavailableError("full")
    full.fill(1, 5)
    assert full.work.run().read == 5


def test_nothing_is_moved_between_ledgers(job: Job) -> None:
    """And no hold is ended of another one."""
    job.archive.of = LedgerIdentity(
        ledger_id=IDENTITY.ledger_id, shard_count=4, starting_credits=3, epoch=1, installed=True
    )
    job.sweeper.due = [1]
    job.fill(1, 5)
    with pytest.raises(ConfigurationError):
        job.work.run()
    assert (job.archive.batches, job.sweeper.due) == ([], [1])


def test_batches_grow_while_they_are_full() -> None:
    """From one bound to the other, and a shard that has little begins anew."""
    sizes = BatchSizes(20 * BATCH_SIZE_MIN)
    seen = []
    for _ in range(5):
        seen.append(sizes.of(1) // BATCH_SIZE_MIN)
        assert sizes.note(1, sizes.of(1))
    assert seen == [1, 4, 16, 20, 20]
    assert not sizes.note(1, 3)
    assert (sizes.of(1), sizes.of(2)) == (BATCH_SIZE_MIN, BATCH_SIZE_MIN)
    assert BatchSizes(7).of(1) == 7
