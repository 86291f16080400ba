"""The worker as it is run for real: `python -m faregate_worker`, stopped, killed and doubled."""

import json
import os
import signal
import zlib
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from redis import Redis
from rq.suspension import resume, suspend

from faregate.adapters.redis import keys
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


def test_the_batch_at_hand_is_stored_before_the_worker_ends(system: System) -> None:
    """A stop loses no work: what was being stored is stored."""
    user = uuid4()
    system.charge([user])
    with system.worker() as worker:
        with system.rows_locked():
            wait_for(system.is_storing, "a batch waits for its rows")
            worker.send_signal(signal.SIGTERM)
        assert worker.wait(WAIT_S_MAX) == 0

    assert system.drained()
    assert system.rows() == 3


def test_a_stop_does_not_wait_for_the_end_of_the_time_of_a_job(system: System) -> None:
    """A job that would go on for ten minutes ends after its commit."""
    patient = replace(system, seconds_max=600)
    with patient.worker() as worker:
        patient.charge()
        wait_for(patient.drained, "everything is drained")
        assert children(worker.pid, ticker=False)

        worker.send_signal(signal.SIGTERM)

        assert worker.wait(WAIT_S_MAX) == 0
    assert system.rows() == ROWS


def test_a_killed_worker_takes_its_ticker_along(system: System) -> None:
    """No ticker goes on by itself beside the one of the next worker."""
    with system.worker() as worker:
        wait_for(lambda: bool(children(worker.pid, ticker=True)), "the ticker runs")
        (ticker,) = children(worker.pid, ticker=True)

        worker.kill()

        wait_for(lambda: not runs(ticker), "the ticker ends")


@pytest.mark.long
def test_a_new_worker_goes_on_beside_a_killed_ones_job(system: System) -> None:
    """A job outlives its worker; two drains of one shard at once make each row once."""
    system.charge()
    with system.worker() as worker:
        with system.rows_locked():
            wait_for(system.is_storing, "a batch waits for its rows")
            (orphan,) = children(worker.pid, ticker=False)
            worker.kill()
            worker.wait(WAIT_S_MAX)
            assert runs(orphan)
            assert system.pending() == 2 * len(USERS)
        with system.worker():
            wait_for(system.drained, "everything is drained")
            wait_for(lambda: not runs(orphan), "the job of the killed worker ends")

    assert system.rows() == ROWS


@pytest.mark.long
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


def test_the_queue_holds_one_json_job_while_no_worker_runs(system: System) -> None:
    """Two tickers and no worker: nothing piles up, and nothing in the queue is pickle."""
    system.charge()
    ticker = ["faregate_worker.ticker", "--parent-pid", str(os.getpid())]
    tickers = [system.start(*ticker), system.start(*ticker)]
    try:
        wait_for(system.queued, "a job waits")
        looks = looks_at_shards(system)
        wait_for(lambda: looks_at_shards(system) >= looks + 2 * 20, "twenty ticks each")
    finally:
        for process in tickers:
            process.terminate()
        statuses = [process.wait(WAIT_S_MAX) for process in tickers]

    (queued,) = system.queued()
    assert statuses == [0, 0]
    with Redis.from_url(system.queue_url) as redis:
        job = redis.hget(f"rq:job:{queued}", "data")
    assert isinstance(job, bytes)
    assert json.loads(zlib.decompress(job))[0] == "faregate_worker.jobs.work"


def test_a_deleted_user_is_charged_no_more_where_nothing_is_to_be_stored(system: System) -> None:
    """The ticker erases, and not a job, which may be short, or wait."""
    user_id = uuid4()
    key = keys.account(user_id, system.settings.shard_count)
    system.charge([user_id])
    with (
        Redis.from_url(system.redis_url) as redis,
        psycopg.connect(system.database_url) as postgres,
    ):
        assert redis.exists(key)
        postgres.execute("delete from auth.users where id = %s", (user_id,))
        postgres.commit()
        ticker = system.start("faregate_worker.ticker", "--parent-pid", str(os.getpid()))
        try:
            wait_for(lambda: not redis.exists(key), "the account is gone")
        finally:
            ticker.terminate()
            assert ticker.wait(WAIT_S_MAX) == 0


@pytest.mark.long
def test_jobs_that_are_doubled_or_lost_harm_nothing(system: System) -> None:
    """Twenty at once, and a queue that is flushed while they run: each record is a row once."""
    with system.worker(), system.worker():
        for users in (USERS[:24], USERS[24:]):
            system.charge(users)
            system.enqueue(20)
            with Redis.from_url(system.queue_url) as redis:
                redis.flushdb()
        wait_for(system.drained, "everything is drained")

    assert system.rows() == ROWS


def test_a_suspended_queue_is_drained_once_it_goes_on(system: System) -> None:
    """Records wait meanwhile, as after any stop."""
    with Redis.from_url(system.queue_url) as redis:
        suspend(redis)
        with system.worker():
            system.charge()
            wait_for(system.queued, "a job waits")
            assert system.pending() == 2 * len(USERS)
            resume(redis)
            wait_for(system.drained, "everything is drained")

    assert system.rows() == ROWS


def looks_at_shards(system: System) -> int:
    """How often anybody has asked Redis about all shards."""
    with Redis.from_url(system.redis_url) as redis:
        return int(redis.info("commandstats")["cmdstat_mget"]["calls"])
