"""When the ticker has expired holds swept, and when the job that does it ends."""

import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from fakeredis import FakeRedis
from rq import Queue

from faregate.adapters.memory.ledger import MemoryLedger, MemoryStream
from faregate.config import Settings
from faregate.domain.errors import ArchiveUnavailableError, ConfigurationError
from faregate_worker import jobs
from faregate_worker.runtime import QUEUE_NAME
from faregate_worker.ticker import SWEEP_INTERVAL_SECONDS, SWEEP_JOB, Ticker


class FakeSweeper:
    """Has so many due holds in each shard, of which a sweep ends `step` at most."""

    def __init__(self, due: dict[int, int], step: int = 1) -> None:
        self.due = due
        self.step = step
        self.asked = 0

    def shards_due(self) -> Sequence[int]:
        self.asked += 1
        return [shard for shard, count in self.due.items() if count]

    def sweep(self, shard: int) -> int:
        ended = min(self.step, self.due[shard])
        self.due[shard] -= ended
        return ended


class FakeClock:
    """Seconds that stand still until they are moved."""

    seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


def sweep_for(
    sweeper: FakeSweeper,
    seconds_max: float,
    monkeypatch: pytest.MonkeyPatch,
    problem: Exception | None = None,
) -> None:
    """Run the job."""

    @contextmanager
    def open_sweeper(_: Settings) -> Iterator[FakeSweeper]:
        yield sweeper

    @contextmanager
    def open_stream(_: Settings) -> Iterator[object]:
        yield object()

    @contextmanager
    def open_archive(_: Settings) -> Iterator[object]:
        yield object()

    def require_same_ledger(*_: object) -> None:
        if problem is not None:
            raise problem

    monkeypatch.setattr(jobs, "open_sweeper", open_sweeper)
    monkeypatch.setattr(jobs, "open_stream", open_stream)
    monkeypatch.setattr(jobs, "open_archive", open_archive)
    monkeypatch.setattr(jobs, "require_same_ledger", require_same_ledger)
    monkeypatch.setattr(jobs, "FAILURE_PAUSE_SECONDS", 0)
    jobs.sweep_holds(seconds_max)


def test_expired_holds_are_looked_for_once_an_interval_and_swept_by_one_job() -> None:
    """Where none is due, no job is made."""
    clock, sweeper = FakeClock(), FakeSweeper({})
    queue = Queue(QUEUE_NAME, connection=FakeRedis(), serializer="json")
    stream = MemoryStream(MemoryLedger())
    ticker = Ticker(stream, queue, drain_seconds_max=2.5, sweeper=sweeper, clock=clock)
    assert (ticker.tick(), sweeper.asked) == (0, 0)
    clock.seconds += SWEEP_INTERVAL_SECONDS
    assert ([ticker.tick(), ticker.tick()], sweeper.asked) == ([0, 0], 1)
    sweeper.due[3] = 1
    for enqueued in (1, 0):
        clock.seconds += SWEEP_INTERVAL_SECONDS
        assert ticker.tick() == enqueued
    (job_id,) = queue.job_ids
    data = queue.connection.hget(f"rq:job:{job_id}", "data")
    assert isinstance(data, bytes)
    assert json.loads(zlib.decompress(data))[0] == SWEEP_JOB


def test_a_sweep_goes_on_until_no_hold_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """All shards that have some are swept."""
    sweeper = FakeSweeper({1: 3, 2: 0, 7: 1})
    sweep_for(sweeper, 60.0, monkeypatch)
    assert sweeper.due == {1: 0, 2: 0, 7: 0}


def test_a_sweep_ends_no_hold_of_another_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis and Postgres do not belong together."""
    sweeper = FakeSweeper({1: 1})
    with pytest.raises(ConfigurationError):
        sweep_for(sweeper, 60.0, monkeypatch, ConfigurationError("another ledger"))
    assert sweeper.due == {1: 1}


def test_holds_end_while_postgres_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes back is recorded in Redis, and stored later."""
    sweeper = FakeSweeper({1: 1})
    sweep_for(sweeper, 60.0, monkeypatch, ArchiveUnavailableError("away"))
    assert sweeper.due == {1: 0}


@pytest.mark.parametrize(("step", "seconds_max", "asked"), [(1, 0.0, 1), (0, 60.0, 1)])
def test_a_sweep_ends_when_its_time_is_up_or_nothing_can_be_done(
    step: int, seconds_max: float, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next tick goes on."""
    sweeper = FakeSweeper({1: 5}, step)
    sweep_for(sweeper, seconds_max, monkeypatch)
    assert sweeper.asked == asked
