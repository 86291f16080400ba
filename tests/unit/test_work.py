"""One job: what it does in which order, what it leaves to others, and when it ends."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import pytest

from faregate.domain.errors import (
    ArchiveUnavailableError,
    ConfigurationError,
    LedgerUnavailableError,
    ShardBlockedError,
)
from faregate.domain.identity import LedgerIdentity
from faregate.ports import Batch, Cursor
from faregate_worker.shard_cursors import YIELD_S
from faregate_worker.sizes import BATCH_SIZE_MIN, BatchSizes
from faregate_worker.work import GATHER_S_MAX, GATHER_S_MIN, IDLE_S_MAX, PAUSE_S_MAX, PAUSE_S_MIN
from working import IDENTITY, Job


@pytest.fixture
def job() -> Job:
    return Job()


def test_all_shards_are_drained_in_turn_and_noted_in_redis(job: Job) -> None:
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
    assert YIELD_S < IDLE_S_MAX


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


def test_nothing_is_stored_of_a_history_of_another_ledger(job: Job) -> None:
    """A rebuild with another number of shards began it while the job ran."""

    def rebuild() -> None:
        job.archive.of = replace(IDENTITY, shard_count=4)
        job.stream.is_changed = True
        job.fill(1, 5)

    job.fill(1, 5)
    job.archive.before_store = lambda _: setattr(job.stream, "on_wait", rebuild)
    with pytest.raises(ConfigurationError, match="4 shards, the settings say 16"):
        job.work.run()
    assert job.archive.batches == [(1, 5)]


def test_small_batches_leave_half_of_the_time_to_others(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records are gathered for as long as those before were stored, within bounds."""
    rounds_s, gathered_s = [0.03, 5.0, 0.0], list[float]()
    pause = job.stop.pause

    def gather(seconds: float) -> None:
        gathered_s.append(seconds)
        pause(seconds)

    monkeypatch.setattr(job.stop, "pause", gather)
    job.stream.on_wait = lambda: job.fill(1, 1) if rounds_s else None
    job.archive.before_store = lambda _: job.clock.advance(rounds_s.pop(0))
    assert job.work.run().read == 3
    assert gathered_s == [GATHER_S_MIN, pytest.approx(0.03), GATHER_S_MAX]


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


def test_the_work_of_a_job_is_counted(job: Job) -> None:
    """Batches with their time and size; and what stayed pending, by why."""
    job.fill(1, 15)
    job.archive.errors = [ShardBlockedError("blocked"), ArchiveUnavailableError("away")]
    job.archive.before_store = lambda _: job.clock.advance(0.25)
    job.work.run()
    totals = job.counts.totals
    assert (totals["read"], totals["inserted"]) == (15, 15)
    assert (totals["blocked"], totals["outage"]) == (1, 1)
    assert job.counts.batch_records.total == 15
    assert job.counts.batch_seconds.total == 0.25 * len(job.archive.batches)
    assert job.counts.batch_seconds.buckets[-1] == ("+Inf", len(job.archive.batches))
