"""The worker's metrics: scraped over HTTP while it runs, and told by its collector in outages."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from math import inf
from pathlib import Path

import psycopg
import pytest
from redis import Redis
from rq.suspension import resume, suspend

from durable import as_role
from faregate_worker.counts import Counts
from faregate_worker.metrics import WorkerCollector
from processes import runs
from scrapes import by_name, exposition, scrape
from waiting import wait_for
from wire_client import free_port
from worker_process import USERS, System, children

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

AWAY = "host=/nowhere dbname=none"


@pytest.fixture
def system(ledger_redis: str, database_url: str, tmp_path: Path) -> System:
    return System(
        redis_url=ledger_redis,
        database_url=database_url,
        log=tmp_path / "worker.log",
        metrics_port=free_port(),
        seconds_max=1,
    )


@pytest.fixture
def collector(system: System) -> WorkerCollector:
    """What is told of a ledger, in the role of the worker."""
    url = as_role(system.database_url, "faregate_worker")
    settings = system.settings.model_copy(update={"postgres_url": url})
    return WorkerCollector(settings, Counts())


def told(collector: WorkerCollector) -> dict[str, float]:
    return by_name(exposition(collector))


def scraped(system: System) -> Iterator[dict[str, float]]:
    """Scrape a worker before its first job, and after its ticker was killed behind its last."""
    with Redis.from_url(system.queue_url) as redis:
        suspend(redis)
    with system.worker() as worker:
        wait_for(lambda: scrape(system.metrics_port), "metrics are served")
        yield scrape(system.metrics_port)
        with Redis.from_url(system.queue_url) as redis:
            resume(redis)
        wait_for(system.drained, "everything is drained")
        wait_for(lambda: not children(worker.pid, ticker=False), "the job has ended")
        (ticker,) = children(worker.pid, ticker=True)
        os.kill(ticker, signal.SIGKILL)
        wait_for(lambda: not runs(ticker), "the ticker is dead")
        wait_for(lambda: scrape(system.metrics_port), "another one serves")
        yield scrape(system.metrics_port)


@pytest.mark.long
def test_a_scrape_of_a_running_worker_shows_its_backlog_and_its_work(
    system: System,
) -> None:
    """Though jobs are processes that end, and the ticker, which tells it, may die."""
    system.charge()
    with psycopg.connect(system.database_url) as connection:
        connection.execute("delete from auth.users where id = %s", [USERS[0]])
    pending = 2 * len(USERS)
    before, after = scraped(system)

    assert before["faregate_pending_records"] == pending
    assert before["faregate_pending_seconds"] > 0
    assert before["faregate_drained_records_total/inserted"] == 0
    assert 0 < before["faregate_redis_bytes"] < before["faregate_redis_bytes_max"] == inf
    assert after["faregate_pending_records"] == after["faregate_pending_seconds"] == 0
    assert after["faregate_drained_records_total/inserted"] == pending - 2
    assert after["faregate_drained_records_total/dead_letters"] == 2
    assert after["faregate_dead_letters/deleted_user"] == 2
    assert after["faregate_orders_waiting"] == 0
    assert after["faregate_batch_records_sum"] == pending
    count = after["faregate_batch_seconds_count"]
    assert count == after["faregate_batch_seconds_bucket/+Inf"] >= 1
    assert count == after["faregate_batch_records_count"]
    assert after["faregate_server_usable/redis"] == after["faregate_server_usable/postgres"] == 1


def test_a_port_in_use_stops_no_record_from_becoming_a_row(system: System) -> None:
    """The worker says so, and works. Asked for JSON, all its processes write nothing else."""
    system = replace(system, log_format="json")
    system.charge()
    with socket.create_server(("127.0.0.1", system.metrics_port)), system.worker():
        wait_for(system.drained, "everything is drained")
    lines = map(json.loads, system.log.read_text(encoding="utf-8").splitlines())
    told = {(line["logger"], line["message"].partition(":")[0]) for line in lines}
    assert ("faregate_worker.ticker", "metrics not served") in told
    assert len({logger for logger, _ in told}) > 1


def test_records_wait_for_as_long_as_their_oldest(
    system: System, collector: WorkerCollector
) -> None:
    """Also while Postgres, which knows how far records are rows, is away."""
    system.charge(USERS[:1])
    time.sleep(0.5)
    began_at = time.time()
    assert told(collector)["faregate_pending_seconds"] >= 0.5
    system.drain()
    assert told(collector)["faregate_pending_seconds"] == 0

    at = time.time()
    # Another user of the same shard.
    system.charge(USERS[16:17])
    collector._settings = collector._settings.model_copy(update={"postgres_url": AWAY})
    away = told(collector)
    assert 0 < away["faregate_pending_seconds"] <= time.time() - at < time.time() - began_at
    assert away["faregate_pending_records"] == 2
    assert away["faregate_server_usable/postgres"] == 0
    assert away["faregate_server_usable/redis"] == 1


def test_a_redis_that_is_away_shows_as_such(system: System, collector: WorkerCollector) -> None:
    """Nothing is said of what nobody knows."""
    url = "unix:///nowhere/redis.sock"
    collector._settings = collector._settings.model_copy(update={"redis_url": url})
    away = told(collector)
    assert away["faregate_server_usable/redis"] == 0
    assert away["faregate_server_usable/postgres"] == 1
    assert not [name for name in away if "pending" in name or "redis_bytes" in name]


@pytest.mark.parametrize(
    "fault",
    [
        "revoke update (credits) on faregate.balances from faregate_worker",
        "drop schema faregate cascade",
    ],
)
def test_a_fault_of_the_schema_shows_before_anything_is_pending(
    system: System, collector: WorkerCollector, fault: str
) -> None:
    """A right that is gone, and a database that is not migrated."""
    assert told(collector)["faregate_server_usable/postgres"] == 1
    with psycopg.connect(system.database_url, autocommit=True) as connection:
        connection.execute(fault.encode())
    assert told(collector)["faregate_server_usable/postgres"] == 0


def test_a_limit_of_memory_shows(
    system: System, collector: WorkerCollector, ledger_redis: str
) -> None:
    """So that a full Redis is seen to come."""
    with Redis.from_url(ledger_redis) as redis:
        redis.config_set("maxmemory", 2**40)
        try:
            assert told(collector)["faregate_redis_bytes_max"] == 2**40
        finally:
            redis.config_set("maxmemory", 0)
