"""The whole path at once: charges from several processes, the worker, and reconciliation."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
from redis import Redis

from faregate import Decision, Settings, Verdict, open_gate
from faregate.adapters.redis import keys
from faregate.adapters.redis.values import Account
from faregate.bootstrap import open_audit, open_stream
from faregate.domain.finding import DriftKind, Reconciliation
from faregate.ops.reconcile import reconcile, verify
from redis_ledger import value
from soak import Record, scaled
from waiting import WAIT_S_MAX, wait_for
from worker_process import USERS, System

CHARGER = Path(__file__).parents[1] / "charger.py"
RECONCILIATIONS = scaled(100, 15)
LOAD_S_MAX = 240


@pytest.fixture
def system(ledger_redis: str, database_url: str, tmp_path: Path) -> System:
    """A fresh ledger on the session's servers."""
    return System(redis_url=ledger_redis, database_url=database_url, log=tmp_path / "worker.log")


def start(system: System, *arguments: str, **settings: str) -> "subprocess.Popen[str]":
    """Start a process that charges."""
    return subprocess.Popen(
        [sys.executable, str(CHARGER), *arguments],
        env=system.environment | settings,
        stdout=subprocess.PIPE,
        text=True,
    )


@contextmanager
def load(system: System) -> Iterator[None]:
    """Charge all users from two processes, which must outlast the block, and then end them."""
    users = [str(user_id) for user_id in USERS]
    processes = [start(system, "load", str(LOAD_S_MAX), *users[part::2]) for part in range(2)]
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
        # In pages, so that records come between two of them.
        return reconcile(stream, stream, audit, page_size_max=len(USERS) // 5)


def deducts(system: System, user_id: UUID) -> int:
    """Count a user's deduct rows."""
    query = "select count(*) from public.credit_transactions where user_id = %s and type = 'deduct'"
    with psycopg.connect(system.database_url) as connection:
        row = connection.execute(query, [user_id]).fetchone()
    assert row is not None
    return int(row[0])


def test_a_thousand_charges_of_a_hundred_credits_allow_a_hundred(system: System) -> None:
    """From two processes, two hundred at once; the rows say the same."""
    user_id = uuid4()
    with psycopg.connect(system.database_url, autocommit=True) as connection:
        connection.execute("update faregate.ledger set starting_credits = 100")
        connection.execute("insert into auth.users (id) values (%s)", [user_id])
    with system.worker():
        processes = [
            start(system, "burst", str(user_id), "500", FAREGATE_STARTING_CREDITS="100")
            for _ in range(2)
        ]
        allowed = [int(process.communicate(timeout=WAIT_S_MAX)[0]) for process in processes]
        wait_for(system.drained, "everything is drained")
    assert sum(allowed) == deducts(system, user_id) == 100
    result = reconciled(system)
    assert (result.findings, result.pending_count, result.dead_letter_count) == ([], 0, 0)


def test_reconciliation_is_exact_under_load_and_names_altered_users(
    system: System, record_property: Record
) -> None:
    """Again and again while charges, refunds and grants flow; then one balance is changed."""
    system.charge()
    pending_seen = 0
    with system.worker(), load(system):
        before, left = system.rows(), RECONCILIATIONS

        def is_shown() -> bool:
            """Reconcile so often, and until the worker has drained while records were pending."""
            nonlocal pending_seen, left
            result = reconciled(system)
            assert result.findings == []
            assert result.users_count == len(USERS)
            pending_seen += result.pending_count
            left -= 1
            return left <= 0 and pending_seen > 0 and system.rows() > before

        wait_for(is_shown, "the worker drains, and records are pending")
    record_property(
        "soak", f"reconciliations under load: {RECONCILIATIONS}, {pending_seen} pending"
    )
    with system.worker():
        wait_for(system.drained, "everything is drained")
    assert reconciled(system).findings == []
    with open_stream(system.settings) as stream, open_audit(system.settings) as audit:
        assert verify(stream, stream, audit) == []
    altered = USERS[7]
    with Redis.from_url(system.redis_url) as redis:
        name = keys.account(altered, system.settings.shard_count)
        account = Account.unpack(value(redis, name))
        redis.set(name, replace(account, credits=account.credits + 5).pack())
    (finding,) = reconciled(system).findings
    assert (finding.kind, finding.user_id) == (DriftKind.LIVE, altered)
    assert str(altered) in finding.detail
    assert finding.expected is not None
    assert finding.found == finding.expected + 5


def test_a_wiped_redis_is_found(system: System) -> None:
    """Both commands say that Redis and Postgres do not belong together any more."""
    system.charge()
    with Redis.from_url(system.redis_url) as redis:
        redis.flushall()
    with open_stream(system.settings) as stream, open_audit(system.settings) as audit:
        kinds = {finding.kind for finding in verify(stream, stream, audit)}
    assert DriftKind.EPOCH in kinds
    assert DriftKind.EPOCH in {finding.kind for finding in reconciled(system).findings}


def test_a_balance_that_redis_has_lost_is_found(system: System) -> None:
    """Whether its records are pending or rows: a key that was evicted is a lost history."""
    system.charge()
    lost = USERS[5]
    with Redis.from_url(system.redis_url) as redis:
        redis.delete(keys.account(lost, system.settings.shard_count))
    (pending,) = reconciled(system).findings
    assert (pending.kind, pending.user_id) == (DriftKind.BEHIND, lost)
    system.drain()
    (drained,) = reconciled(system).findings
    assert (drained.kind, drained.user_id, drained.expected) == (DriftKind.BEHIND, lost, 3)


def test_a_deleted_user_has_no_credits_left(system: System) -> None:
    """Its records become dead letters, its balance goes, and it is charged no more."""
    system.charge()
    gone = USERS[9]
    with psycopg.connect(system.database_url, autocommit=True) as connection:
        connection.execute("delete from auth.users where id = %s", [gone])
    system.drain()
    with open_stream(system.settings) as stream:
        assert gone not in stream.read_many([gone])
    result = reconciled(system)
    assert (result.findings, result.dead_letter_count) == ([], 2)
    strict = system.settings.model_copy(update={"provision_users": False})
    assert asyncio.run(verdict_of(strict, gone)) is Verdict.UNKNOWN_USER


async def verdict_of(settings: Settings, user_id: UUID) -> Verdict:
    """Charge once."""
    async with open_gate(settings) as gate:
        return (await gate.charge(user_id)).verdict


def test_a_partial_refund_is_paid_once_for_good(system: System) -> None:
    """Redis has forgotten it after a day; Postgres has not."""
    count = system.settings.shard_count
    shard = keys.shards(count)[keys.shard_of(USERS[0], count)]

    async def refund_twice() -> list[Decision]:
        async with open_gate(system.settings) as gate:
            charge = await gate.charge(USERS[0], cost=3)
            first = await gate.refund(charge, amount=2)
            await asyncio.to_thread(system.drain)
            with Redis.from_url(system.redis_url) as redis:
                memory = shard.deduct(charge.transaction_id), shard.remembered(first.transaction_id)
                assert redis.delete(*memory) == len(memory)
            return [first, await gate.refund(charge, amount=2)]

    first, again = asyncio.run(refund_twice())
    assert (first.credits, first.repeated) == (2, False)
    assert (again.credits, again.repeated) == (2, True)
    assert reconciled(system).findings == []


def test_a_redis_that_went_back_in_time_is_found(system: System) -> None:
    """An older copy agrees with itself, but not with how far the rows go."""
    system.charge()
    system.drain()
    revived = USERS[3]
    name = keys.account(revived, system.settings.shard_count)
    with Redis.from_url(system.redis_url) as redis:
        account = Account.unpack(value(redis, name))
        assert (account.credits, account.sequence) == (1, 3)
        redis.set(name, replace(account, credits=2, sequence=2).pack())
    (finding,) = reconciled(system).findings
    assert (finding.kind, finding.user_id) == (DriftKind.BEHIND, revived)
    assert (finding.expected, finding.found) == (3, 2)
