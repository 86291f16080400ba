"""The whole path at once: charges from several processes, the worker, and reconciliation."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
from redis import Redis

from faregate.adapters.redis import keys
from faregate.bootstrap import open_audit, open_stream
from faregate.domain.finding import DriftKind
from faregate.ops.reconcile import Reconciliation, reconcile, verify
from worker_process import USERS, WAIT_S_MAX, System, wait_for

CHARGER = Path(__file__).parents[1] / "charger.py"
RECONCILIATIONS = 100
LOAD_SECONDS_MAX = 240


@pytest.fixture
def system(ledger_redis: str, database_url: str, tmp_path: Path) -> System:
    """A fresh ledger on the session's servers."""
    return System(redis_url=ledger_redis, database_url=database_url, log=tmp_path / "worker.log")


def start(system: System, *arguments: str) -> "subprocess.Popen[str]":
    """Start a process that charges."""
    return subprocess.Popen(
        [sys.executable, str(CHARGER), *arguments],
        env=system.environment,
        stdout=subprocess.PIPE,
        text=True,
    )


@contextmanager
def load(system: System) -> Iterator[None]:
    """Charge all users from two processes, which must outlast the block, and then end them."""
    users = [str(user_id) for user_id in USERS]
    processes = [start(system, "load", str(LOAD_SECONDS_MAX), *users[part::2]) for part in range(2)]
    try:
        yield
        assert all(process.poll() is None for process in processes), "the load ended too early"
    finally:
        for process in processes:
            process.kill()
            process.communicate(timeout=WAIT_S_MAX)


def reconciled(system: System) -> Reconciliation:
    """Reconcile as the command does."""
    with open_stream(system.settings) as stream, open_audit(system.settings) as audit:
        return reconcile(stream, stream, audit)


def deducts(system: System, user_id: UUID) -> int:
    """Count a user's deduct rows."""
    query = "select count(*) from public.credit_transactions where user_id = %s and type = 'deduct'"
    with psycopg.connect(system.database_url) as connection:
        row = connection.execute(query, [user_id]).fetchone()
    assert row is not None
    return int(row[0])


def test_a_thousand_charges_of_a_hundred_credits_allow_a_hundred(system: System) -> None:
    """From two processes, all at once; the rows say the same."""
    user_id = uuid4()
    with psycopg.connect(system.database_url, autocommit=True) as connection:
        connection.execute("update faregate.ledger set starting_credits = 100")
        connection.execute("insert into auth.users (id) values (%s)", [user_id])
    with system.worker():
        processes = [start(system, "burst", str(user_id), "500") for _ in range(2)]
        allowed = [int(process.communicate(timeout=WAIT_S_MAX)[0]) for process in processes]
        wait_for(system.drained, "everything is drained")
    assert sum(allowed) == deducts(system, user_id) == 100
    result = reconciled(system)
    assert (result.findings, result.pending_count, result.dead_letter_count) == ([], 0, 0)


def test_reconciliation_is_exact_under_load_and_names_who_was_altered(system: System) -> None:
    """A hundred times while charges, refunds and grants flow; then one balance is changed."""
    system.charge()
    pending_seen = 0
    with system.worker(), load(system):
        before = system.rows()
        for _ in range(RECONCILIATIONS):
            result = reconciled(system)
            assert result.findings == []
            assert result.users_count == len(USERS)
            pending_seen += result.pending_count
        assert system.rows() > before, "the worker has drained nothing meanwhile"
        assert pending_seen, "no record was ever pending, so the test shows nothing"
    with system.worker():
        wait_for(system.drained, "everything is drained")
    assert reconciled(system).findings == []
    with open_stream(system.settings) as stream, open_audit(system.settings) as audit:
        assert verify(stream, audit) == []
    altered = USERS[7]
    with Redis.from_url(system.redis_url) as redis:
        shard = keys.shard_of(altered, system.settings.shard_count)
        redis.hincrby(keys.user(shard, altered), "c", 5)
    (finding,) = reconciled(system).findings
    assert (finding.kind, finding.user_id) == (DriftKind.LIVE, altered)
    assert str(altered) in finding.detail
    assert finding.expected is not None
    assert finding.found == finding.expected + 5


def test_a_wiped_redis_is_found(system: System) -> None:
    """Verify says that Redis and Postgres do not belong together any more."""
    system.charge()
    with Redis.from_url(system.redis_url) as redis:
        redis.flushall()
    with open_stream(system.settings) as stream, open_audit(system.settings) as audit:
        kinds = {finding.kind for finding in verify(stream, audit)}
    assert DriftKind.EPOCH in kinds


def test_a_redis_that_went_back_in_time_is_found(system: System) -> None:
    """An older copy agrees with itself, but not with how far the rows go."""
    system.charge()
    with system.worker():
        wait_for(system.drained, "everything is drained")
    revived = USERS[3]
    shard = keys.shard_of(revived, system.settings.shard_count)
    older = {"c": 2, "s": 2}
    with Redis.from_url(system.redis_url) as redis:
        assert redis.hmget(keys.user(shard, revived), "c", "s") == [b"1", b"3"]
        redis.hset(keys.user(shard, revived), mapping=older)
    (finding,) = reconciled(system).findings
    assert (finding.kind, finding.user_id) == (DriftKind.BEHIND, revived)
    assert (finding.expected, finding.found) == (3, 2)
