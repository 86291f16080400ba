"""A worker compares numbers on its schedule, beside the drain, one of all workers at a time."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from durable import Database
from faregate_worker import reconciling
from faregate_worker.counts import Counts
from faregate_worker.metrics import WorkerCollector
from processes import runs
from scrapes import by_name, exposition
from waiting import WAIT_S_MAX, wait_for
from worker_process import System, children

pytestmark = [pytest.mark.redis, pytest.mark.postgres, pytest.mark.long]


@pytest.fixture
def system(ledger_redis: str, database_url: str, tmp_path: Path) -> System:
    return System(
        redis_url=ledger_redis,
        database_url=database_url,
        log=tmp_path / "worker.log",
        reconcile_interval_s=1,
    )


def kept(tables: Database) -> list[dict[str, Any]]:
    return tables.run("select * from faregate.reconciliations order by id")


def lock_of(system: System, *, is_held: bool) -> None:
    """Let the lock be as if another worker had it, or free."""
    with Redis.from_url(system.queue_url) as redis:
        if is_held:
            redis.set(reconciling._LOCK_KEY, "another", ex=60)
        else:
            redis.delete(reconciling._LOCK_KEY)


def test_all_users_are_compared_and_then_those_with_new_rows(
    system: System, tables: Database
) -> None:
    """Each result is kept, and told by the metrics; records become rows meanwhile."""
    system.charge()
    with system.worker():
        wait_for(lambda: len(kept(tables)) >= 2, "a whole one, and a shorter one")
        wait_for(system.drained, "everything is drained")
        first, second = kept(tables)[:2]
        assert (first["since"], first["finding_counts"]) == (None, {})
        assert second["since"] == first["next_since"]
        (user,) = tables.run("select id from public.profiles limit 1")
        tables.run("update public.profiles set credits = credits + 5 where id = %s", user["id"])
        wait_for(lambda: kept(tables)[-1]["finding_counts"], "the finding")
    assert kept(tables)[-1]["finding_counts"] == {"projection": 1}
    told = by_name(exposition(WorkerCollector(system.settings, Counts())))
    assert told["faregate_reconcile_findings/projection"] == 1
    assert told["faregate_reconcile_findings/live"] == 0
    assert told["faregate_reconcile_drift_users"] == 1
    assert 0 <= told["faregate_reconcile_age_seconds"] < WAIT_S_MAX
    assert f"projection: User {user['id']}" in system.log.read_text("utf-8")


def test_no_worker_compares_while_another_one_does(system: System, tables: Database) -> None:
    """Its lock is in the queue's Redis; a worker that died has it for half a minute."""
    lock_of(system, is_held=True)
    system.charge()
    with system.worker():
        wait_for(system.drained, "everything is drained")
        time.sleep(2 * system.reconcile_interval_s)
        assert kept(tables) == []
        lock_of(system, is_held=False)
        wait_for(lambda: kept(tables), "a reconciliation")


def test_a_worker_that_stops_ends_its_reconciliation(system: System, tables: Database) -> None:
    """Though it waits for a server; the next worker need not wait for its lock."""
    system.charge()
    with system.rows_locked(), system.worker() as worker:
        tables.wait_for_lock("faregate audit")
        (ticker,) = children(worker.pid, ticker=True)
        (run,) = children(ticker, ticker=False)
        os.kill(worker.pid, signal.SIGTERM)
        assert worker.wait(WAIT_S_MAX) == 0
        assert not runs(run)
    assert kept(tables) == []
    with Redis.from_url(system.queue_url) as redis:
        assert not redis.exists(reconciling._LOCK_KEY)
