"""The worker as it is run for real: `python -m faregate_worker`, stopped, killed and doubled."""

import json
import os
import signal
import zlib
from pathlib import Path
from uuid import uuid4

import pytest
from redis import Redis

from processes import runs
from waiting import WAIT_S_MAX, wait_for
from worker_process import ROWS, USERS, System, children

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


@pytest.fixture
def system(ledger_redis: str, database_url: str, tmp_path: Path) -> System:
    """A fresh ledger on the session's servers."""
    return System(redis_url=ledger_redis, database_url=database_url, log=tmp_path / "worker.log")


def test_pending_records_become_rows(system: System) -> None:
    """Nobody calls the drain: the ticker finds the records and RQ runs the jobs."""
    system.charge()
    assert system.pending() == 2 * len(USERS)

    with system.worker():
        wait_for(system.drained, "everything is drained")

    assert system.rows() == ROWS


def test_sigterm_ends_the_worker_and_its_ticker(system: System) -> None:
    """A clean stop is exit status 0, nothing left running, and the health check says so."""
    with system.worker() as worker:
        wait_for(lambda: system.check() == 0, "the worker is healthy")
        (ticker,) = children(worker.pid, ticker=True)

        worker.send_signal(signal.SIGTERM)

        assert worker.wait(WAIT_S_MAX) == 0
    assert not runs(ticker)
    assert system.check() == 1


def test_the_job_at_hand_ends_before_the_worker_does(system: System) -> None:
    """A stop loses no work: what was being stored is stored."""
    user = uuid4()
    system.charge([user])
    with system.worker() as worker:
        with system.rows_locked():
            wait_for(lambda: bool(children(worker.pid, ticker=False)), "a job runs")
            worker.send_signal(signal.SIGTERM)
        assert worker.wait(WAIT_S_MAX) == 0

    assert system.drained()
    assert system.rows() == 3


def test_a_killed_worker_takes_its_ticker_along(system: System) -> None:
    """No ticker goes on by itself beside the one of the next worker."""
    with system.worker() as worker:
        wait_for(lambda: bool(children(worker.pid, ticker=True)), "the ticker runs")
        (ticker,) = children(worker.pid, ticker=True)

        worker.kill()

        wait_for(lambda: not runs(ticker), "the ticker ends")


def test_a_new_worker_goes_on_beside_a_killed_ones_job(system: System) -> None:
    """A job outlives its worker; two drains of one shard at once make each row once."""
    system.charge()
    with system.worker() as worker:
        with system.rows_locked():
            wait_for(lambda: bool(children(worker.pid, ticker=False)), "a job runs")
            (orphan,) = children(worker.pid, ticker=False)
            worker.kill()
            worker.wait(WAIT_S_MAX)
            assert runs(orphan)
            assert system.pending() == 2 * len(USERS)
        with system.worker():
            wait_for(system.drained, "everything is drained")
            wait_for(lambda: not runs(orphan), "the job of the killed worker ends")

    assert system.rows() == ROWS


def test_three_kills_while_records_are_pending_lose_nothing(system: System) -> None:
    """However often the worker dies, each record becomes one row."""
    system.charge()
    kills = 0
    for _ in range(3):
        with system.worker() as worker, system.rows_locked():
            wait_for(lambda: bool(children(worker.pid, ticker=False)), "a job runs")
            worker.kill()
        kills += system.pending() > 0
    with system.worker():
        wait_for(system.drained, "everything is drained")

    assert kills == 3
    assert system.rows() == ROWS


def test_two_workers_make_each_row_once(system: System) -> None:
    """Workers need no agreement among themselves."""
    system.charge()

    with system.worker(), system.worker():
        wait_for(system.drained, "everything is drained")

    assert system.rows() == ROWS


def test_a_ticker_that_dies_is_started_again(system: System) -> None:
    """Without a ticker nothing would be drained, so the worker does not go on without one."""
    with system.worker() as worker:
        wait_for(lambda: bool(children(worker.pid, ticker=True)), "the ticker runs")
        (first,) = children(worker.pid, ticker=True)
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: bool(children(worker.pid, ticker=True)), "a second ticker runs")

        system.charge()
        wait_for(system.drained, "everything is drained")

    assert system.rows() == ROWS


def test_the_queue_holds_one_json_job_a_shard_while_no_worker_runs(system: System) -> None:
    """Two tickers and no worker: nothing piles up, and nothing in the queue is pickle."""
    system.charge()
    ticker = ["faregate_worker.ticker", "--parent-pid", str(os.getpid())]
    tickers = [system.start(*ticker), system.start(*ticker)]
    try:
        wait_for(lambda: len(system.queued()) == 16, "a job waits for each shard")
        looks = looks_at_shards(system)
        wait_for(lambda: looks_at_shards(system) >= looks + 2 * 20, "twenty ticks each")
    finally:
        for process in tickers:
            process.terminate()
        statuses = [process.wait(WAIT_S_MAX) for process in tickers]

    queued = system.queued()
    assert statuses == [0, 0]
    assert sorted(job_id[:9] for job_id in queued) == [f"drain-s{shard:02d}" for shard in range(16)]
    with Redis.from_url(system.redis_url) as redis:
        jobs = [redis.hget(f"rq:job:{job_id}", "data") for job_id in queued]
    paths = {json.loads(zlib.decompress(job))[0] for job in jobs if isinstance(job, bytes)}
    assert len(jobs) == 16
    assert paths == {"faregate_worker.jobs.drain_shard"}


def looks_at_shards(system: System) -> int:
    """How often anybody has asked Redis about all shards."""
    with Redis.from_url(system.redis_url) as redis:
        return int(redis.info("commandstats")["cmdstat_mget"]["calls"])
