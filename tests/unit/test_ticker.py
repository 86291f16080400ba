"""The ticker: which jobs it enqueues, and which it does not."""

import json
import logging
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from fakeredis import FakeRedis, FakeServer
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError
from rq import Queue
from rq.utils import as_text

from faregate.config import QUEUE_NAME, Settings
from faregate.domain.errors import LedgerUnavailableError
from faregate.ports import TransactionStream
from faregate_worker import ticker as ticker_module
from faregate_worker.check import heartbeat_name
from faregate_worker.runtime import Stop
from faregate_worker.ticker import (
    FAILURE_TTL_S,
    JOB,
    JOB_TTL_S,
    UPKEEP_INTERVAL_S,
    Ticker,
    run,
)


class FakeStream:
    """Knows which shards are pending, once it has raised the errors that it was given."""

    shard_count = 16

    def __init__(self, *pending: int, errors: Sequence[Exception] = ()) -> None:
        self.shards = list(pending)
        self.errors = list(errors)

    def shards_pending(self) -> Sequence[int]:
        if self.errors:
            raise self.errors.pop(0)
        return self.shards

    def pending_count(self) -> int:
        raise NotImplementedError

    def identity_fields(self) -> dict[str, str]:
        raise NotImplementedError

    def forget(self, user_ids: object) -> None:
        raise NotImplementedError

    def read(self, shard: int, cursor: object, count_max: int) -> None:
        raise NotImplementedError

    def fork(self, shard: int, cursor: object, places: object) -> None:
        raise NotImplementedError

    def lacking(self, cursors: object) -> Sequence[int]:
        raise NotImplementedError

    def wait(self, cursors: object, seconds_max: float) -> Sequence[int]:
        raise NotImplementedError

    def note_stored(self, shard: int, cursor: object) -> int:
        raise NotImplementedError


class FakeClock:
    """Seconds that stand still until they are moved."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def server() -> FakeServer:
    """The Redis behind the queue."""
    return FakeServer()


@pytest.fixture
def queue(server: FakeServer) -> Queue:
    """The worker's queue."""
    return Queue(QUEUE_NAME, connection=FakeRedis(server=server), serializer="json")


@pytest.fixture
def clock() -> FakeClock:
    """The ticker's clock."""
    return FakeClock()


def make_ticker(stream: FakeStream, queue: Queue, clock: FakeClock) -> Ticker:
    return Ticker(stream, queue, drain_s_max=2.5, clock=clock)


def purposes(queue: Queue) -> list[str]:
    """What the queued jobs are for: their ids without the tick."""
    return [job_id.rpartition("-")[0] for job_id in queue.job_ids]


def stored_job(queue: Queue, job_id: str) -> dict[str, bytes]:
    """A job as it lies in Redis."""
    fields = queue.connection.hgetall(f"rq:job:{job_id}")
    return {as_text(name): value for name, value in fields.items() if isinstance(value, bytes)}


def test_a_tick_enqueues_one_job_where_records_are_pending(queue: Queue, clock: FakeClock) -> None:
    """However many shards have some: the job does all of them."""
    ticker = make_ticker(FakeStream(3, 12), queue, clock)

    assert ticker.tick()
    assert purposes(queue) == ["work"]


def test_nothing_is_enqueued_where_nothing_is_pending(queue: Queue, clock: FakeClock) -> None:
    """An idle system makes no jobs; it gives a sign of life."""
    ticker = make_ticker(FakeStream(), queue, clock)

    assert not ticker.tick()
    assert queue.connection.keys("*") == [heartbeat_name().encode()]


def test_the_queue_does_not_pile_up_while_no_worker_runs(queue: Queue, clock: FakeClock) -> None:
    """However many ticks go by, one job waits."""
    ticker = make_ticker(FakeStream(1, 2), queue, clock)

    assert [ticker.tick() for _ in range(50)] == [True] + [False] * 49
    assert purposes(queue) == ["work"]


def test_a_job_that_has_begun_makes_room_for_the_next(queue: Queue, clock: FakeClock) -> None:
    """While records are pending each free worker gets one, and another waits for the first end."""
    ticker = make_ticker(FakeStream(5), queue, clock)
    ticker.tick()
    queue.pop_job_id()

    assert ticker.tick()
    assert purposes(queue) == ["work"]


def test_two_tickers_enqueue_one_job(
    queue: Queue, server: FakeServer, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hosts that look at the same moment do not both enqueue."""
    other = Queue(QUEUE_NAME, connection=FakeRedis(server=server), serializer="json")
    second = make_ticker(FakeStream(5), other, clock)
    enqueue_many = queue.enqueue_many

    def enqueue_late(*arguments: Any, **options: Any) -> Any:
        second.tick()
        return enqueue_many(*arguments, **options)

    monkeypatch.setattr(queue, "enqueue_many", enqueue_late)

    assert not make_ticker(FakeStream(5), queue, clock).tick()
    assert purposes(queue) == ["work"]


def test_a_queue_that_never_rests_is_left_to_the_next_tick(
    queue: Queue, server: FakeServer, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The optimistic transaction gives up after a bounded number of tries."""
    tries = []
    enqueue_many = queue.enqueue_many

    def enqueue_disturbed(*arguments: Any, **options: Any) -> Any:
        tries.append(1)
        FakeRedis(server=server).rpush(queue.key, "somebody-elses-1")
        return enqueue_many(*arguments, **options)

    monkeypatch.setattr(queue, "enqueue_many", enqueue_disturbed)

    assert not make_ticker(FakeStream(5), queue, clock).tick()
    assert len(tries) == ticker_module.ENQUEUE_TRIES_MAX
    assert "work" not in purposes(queue)


def test_a_job_is_json_and_bounded_in_every_way(queue: Queue, clock: FakeClock) -> None:
    """No pickle in Redis; a job that waits, runs or failed too long is gone."""
    make_ticker(FakeStream(7), queue, clock).tick()
    (job_id,) = queue.job_ids

    job = stored_job(queue, job_id)

    assert json.loads(zlib.decompress(job["data"])) == [JOB, None, [2.5], {}]
    assert (job["result_ttl"], job["timeout"]) == (b"0", b"63")
    assert int(job["failure_ttl"]) == FAILURE_TTL_S
    assert 0 < queue.connection.ttl(f"rq:job:{job_id}") <= JOB_TTL_S


def test_no_job_id_is_used_twice(
    queue: Queue, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An id that failed stays taken in RQ for an hour; the next tick must not need it."""
    ticker = make_ticker(FakeStream(7), queue, clock)
    times_ms = iter([1_000, 1_001])
    monkeypatch.setattr(time, "time_ns", lambda: next(times_ms) * 1_000_000)

    ticker.tick()
    first = queue.pop_job_id()
    ticker.tick()

    assert first == "work-1000"
    assert queue.job_ids == ["work-1001"]


def test_a_job_is_due_at_an_interval_where_nothing_is_pending(
    queue: Queue, clock: FakeClock
) -> None:
    """It deletes what was stored long ago, which no drain comes by any more to do."""
    ticker = make_ticker(FakeStream(), queue, clock)
    clock.seconds += UPKEEP_INTERVAL_S

    assert [ticker.tick(), ticker.tick()] == [True, False]
    queue.pop_job_id()
    assert not ticker.tick()
    clock.seconds += UPKEEP_INTERVAL_S
    assert ticker.tick()


def run_ticks(
    stream: FakeStream, queue: Queue, monkeypatch: pytest.MonkeyPatch, *, ticks: int
) -> list[float]:
    """Run the ticker's loop over `ticks` waits; return how long it would have waited."""
    stop = Stop()
    waits: list[float] = []

    @contextmanager
    def open_stream(_: Settings) -> Iterator[TransactionStream]:
        yield stream

    def pause(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == ticks:
            stop.request()

    monkeypatch.setattr(ticker_module, "open_stream", open_stream)
    monkeypatch.setattr(ticker_module, "open_queue", lambda *_, **__: queue)
    monkeypatch.setattr(stop, "pause", pause)
    run(Settings(tick_interval_ms=200), stop)
    return waits


def test_an_outage_is_logged_once_and_waited_out(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Waits grow to a bound while Redis is away, and ticking goes on at the old pace after it."""
    caplog.set_level(logging.INFO)
    stream = FakeStream(4, errors=[LedgerUnavailableError("away")] * 6)

    waits = run_ticks(stream, queue, monkeypatch, ticks=8)

    assert waits == [0.4, 0.8, 1.6, 2.0, 2.0, 2.0, 0.2, 0.2]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert purposes(queue) == ["work"]


def test_an_outage_of_the_queue_is_waited_out_too(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue may live in another Redis than the ledger, and be away alone."""
    stream = FakeStream(4, errors=[RedisConnectionError("away")])

    run_ticks(stream, queue, monkeypatch, ticks=2)

    assert purposes(queue) == ["work"]


def test_where_redis_is_full_the_ticker_works_itself(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else nothing would ever be stored and deleted, and Redis would stay full."""
    worked: list[float] = []
    enqueue_many = queue.enqueue_many

    def refuse(*arguments: Any, **options: Any) -> Any:
        if len(worked) < 3:
            raise OutOfMemoryError("command not allowed when used memory > 'maxmemory'")
        return enqueue_many(*arguments, **options)

    monkeypatch.setattr(queue, "enqueue_many", refuse)
    monkeypatch.setattr(ticker_module, "work_on", lambda *given: worked.append(given[-1]))
    caplog.set_level(logging.INFO)

    run_ticks(FakeStream(4), queue, monkeypatch, ticks=5)

    assert worked == [ticker_module.OWN_WORK_S_MAX] * 3
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert purposes(queue) == ["work"]
