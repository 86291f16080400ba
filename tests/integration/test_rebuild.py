"""A Redis that was lost is rebuilt from the rows, and from nothing else."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest
from redis import Redis

from durable import archive, as_role, database
from faregate import Settings, open_gate
from faregate.adapters.postgres.accounts import PostgresAccounts
from faregate.adapters.postgres.admin import PostgresAdmin
from faregate.adapters.redis import keys
from faregate.bootstrap import (
    open_admin,
    open_archive,
    open_audit,
    open_installer,
    open_stream,
)
from faregate.domain.errors import ConfigurationError, LedgerUninitialisedError
from faregate.domain.period import Period, PeriodKind
from faregate.domain.policy import Allowance, CreditPolicy
from faregate.domain.user import User
from faregate.ops.rebuild import rebuild
from faregate.ops.reconcile import reconcile, verify
from faregate_worker.drain import DrainLimits, drain
from redis_ledger import make_ledger, spend
from waiting import WAIT_S_MAX

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

LIMITS = DrainLimits(batch_size_max=1_000, seconds_max=WAIT_S_MAX)
#: Longer than any test, and without an end that the calendar sets.
ALLOWANCE = Allowance(amount=10, period=Period(kind=PeriodKind.ROLLING, length_ms=86_400_000))


@pytest.fixture
def settings(ledger_redis: str, database_url: str) -> Settings:
    """A fresh ledger on the session's servers."""
    return Settings(
        redis_url=ledger_redis,
        postgres_url=database_url,
        provision_users=True,
        decision_timeout_ms=10_000,
    )


def charge(settings: Settings, users: Sequence[UUID]) -> list[tuple[int, int]]:
    """Charge each user once, from an API that starts; return credits and sequences."""

    async def charge_all() -> list[tuple[int, int]]:
        async with open_gate(settings) as gate:
            decisions = [await gate.charge(user_id) for user_id in users]
        assert all(decision.allowed for decision in decisions)
        return [(decision.credits, decision.sequence) for decision in decisions]

    return asyncio.run(charge_all())


def drain_all(settings: Settings) -> None:
    """Make rows of all that is pending."""
    with open_stream(settings) as stream, open_archive(settings) as rows:
        for shard in range(stream.shard_count):
            drain(stream, rows, shard, limits=LIMITS)
        assert stream.pending_count() == 0


def lose(settings: Settings) -> None:
    """Lose all that Redis has."""
    with Redis.from_url(settings.redis_url) as redis:
        redis.flushall()


def rebuilt(settings: Settings) -> int:
    """Rebuild as the command does."""
    with (
        open_stream(settings) as stream,
        open_installer(settings) as installer,
        open_admin(settings) as admin,
    ):
        made = rebuild(stream, installer, admin, admin.identity(), settings.shard_count)
    return made.epoch


def assert_exact(settings: Settings) -> None:
    """Every number agrees, and no history has a gap, a fork or a break."""
    with open_stream(settings) as stream, open_audit(settings) as audit:
        assert reconcile(stream, stream, audit).findings == []
        assert verify(stream, stream, audit) == []


def test_a_lost_redis_serves_again_after_a_rebuild(settings: Settings) -> None:
    """Until then nobody is served; from then on balances and numbers go on where rows ended."""
    users = [uuid4() for _ in range(20)]
    assert charge(settings, users) == [(2, 2)] * len(users)
    drain_all(settings)
    lose(settings)
    with pytest.raises(LedgerUninitialisedError):
        charge(settings, users)

    assert rebuilt(settings) == 2

    assert_exact(settings)
    assert charge(settings, users) == [(1, 3)] * len(users)
    assert_exact(settings)
    drain_all(settings)
    assert_exact(settings)
    with database(settings.postgres_url) as tables:
        rows = tables.rows(users[0])
    assert [(row["sequence"], row["balance_after"], row["epoch"]) for row in rows] == [
        (2, 2, 1),
        (3, 1, 2),
    ]


def test_an_api_that_kept_running_serves_again(settings: Settings) -> None:
    """Nothing needs a restart."""
    user_id = uuid4()

    async def outlive() -> tuple[int, int]:
        async with open_gate(settings) as gate:
            await gate.charge(user_id)
            await asyncio.to_thread(drain_all, settings)
            lose(settings)
            with pytest.raises(LedgerUninitialisedError):
                await gate.charge(user_id)
            await asyncio.to_thread(rebuilt, settings)
            decision = await gate.charge(user_id)
        return decision.credits, decision.sequence

    assert asyncio.run(outlive()) == (1, 3)
    assert_exact(settings)


def test_records_that_were_not_drained_are_lost(settings: Settings) -> None:
    """Its numbers are given again, and the sum is that of the rows."""
    user_id = uuid4()
    charge(settings, [user_id])
    drain_all(settings)
    assert charge(settings, [user_id]) == [(1, 3)]
    lose(settings)
    rebuilt(settings)
    assert charge(settings, [user_id]) == [(1, 3)]
    drain_all(settings)
    assert_exact(settings)


@pytest.mark.parametrize("shards", [range(16), [7]], ids=["all shards", "one shard"])
def test_a_redis_that_holds_an_epoch_is_not_rebuilt(
    settings: Settings, shards: Sequence[int]
) -> None:
    """It may still hold balances that no row has; the message says what to do."""
    charge(settings, [uuid4()])
    with Redis.from_url(settings.redis_url) as redis:
        for shard in set(range(settings.shard_count)) - set(shards):
            redis.delete(keys.shards(settings.shard_count)[shard].state)
    with pytest.raises(ConfigurationError, match=rf"not lost: {len(shards)} of .* an empty Redis"):
        rebuilt(settings)
    with open_admin(settings) as admin:
        assert (admin.identity().epoch, admin.identity().installed) == (1, True)


def test_a_redis_that_keeps_accounts_of_another_epoch_is_not_rebuilt(settings: Settings) -> None:
    """They would count as installed, with balances of then."""
    charge(settings, [uuid4()])
    with Redis.from_url(settings.redis_url) as redis:
        redis.delete(*(shard.state for shard in keys.shards(settings.shard_count)))
    with pytest.raises(ConfigurationError, match="left of an earlier ledger"):
        rebuilt(settings)


def test_a_rebuild_that_was_killed_is_made_again(settings: Settings) -> None:
    """Its epoch counts, and no Redis has it; a gate must not give it to one that is empty."""
    charge(settings, [uuid4()])
    drain_all(settings)
    lose(settings)
    with open_admin(settings) as admin:
        admin.begin_epoch(1, settings.shard_count)
    with pytest.raises(LedgerUninitialisedError):
        charge(settings, [uuid4()])
    assert rebuilt(settings) == 3
    charge(settings, [uuid4()])
    assert_exact(settings)


def test_two_rebuilds_at_once_begin_one_epoch(settings: Settings) -> None:
    """The second one looked at an epoch that does not count any more, or finds Redis made."""
    with open_admin(settings) as admin, open_installer(settings) as installer:
        begun = admin.begin_epoch(1, settings.shard_count)
        assert (begun.epoch, begun.installed) == (2, True)
        assert begun == admin.identity()
        with pytest.raises(ConfigurationError, match="not of epoch 1 any more"):
            admin.begin_epoch(1, settings.shard_count)
        assert [installer.create(begun), installer.create(begun)] == [True, False]


def test_settings_of_another_ledger_are_refused(settings: Settings) -> None:
    """With too few shards some would not even be looked at."""
    charge(settings, [uuid4()])
    lose(settings)
    refused = run_rebuild(settings.model_copy(update={"shard_count": 4}))
    assert refused.returncode == 2
    assert "16 shards, the settings say 4" in refused.stderr


@pytest.mark.parametrize("role", ["faregate_api", "faregate_worker"])
def test_only_the_owner_begins_an_epoch(database_url: str, role: str) -> None:
    """Neither an API nor a worker can make Redis forget."""
    admin = PostgresAdmin(as_role(database_url, role))
    assert admin.identity().epoch == 1
    with pytest.raises(ConfigurationError, match="the one that ran the migrations"):
        admin.begin_epoch(1, 16)
    admin.close()


def test_a_dead_letter_counts_after_a_rebuild_as_before(settings: Settings) -> None:
    """It moved the balance that was lost; its number is not given again."""
    with database(settings.postgres_url) as tables:
        user = tables.user()
    with archive(settings.postgres_url) as store:
        store.store(0, [user.record(-1), user.record(-1, description="\0")])
    assert charge(settings, [user.user_id]) == [(0, 4)]
    drain_all(settings)
    assert_exact(settings)


async def test_an_allowance_survives_a_rebuild_within_its_period(settings: Settings) -> None:
    """Nothing of it is lost, and the period's top-up is not paid a second time."""
    user_id = uuid4()
    assert await charged(settings, user_id, 4) == (9, 6)
    await asyncio.to_thread(drain_all, settings)
    lose(settings)
    await asyncio.to_thread(rebuilt, settings)
    assert await charged(settings, user_id, 1) == (8, 5)
    await asyncio.to_thread(drain_all, settings)
    await asyncio.to_thread(assert_exact, settings)
    with database(settings.postgres_url) as tables:
        rows = tables.rows(user_id)
    assert [(row["type"], row["amount"], row["allowance_after"]) for row in rows] == [
        ("add", 10, 10),
        ("deduct", -4, 6),
        ("deduct", -1, 5),
    ]
    assert len({row["period_start"] for row in rows}) == 1


async def charged(settings: Settings, user_id: UUID, cost: int) -> tuple[int, int]:
    """Charge a user with an allowance; return its credits and what is left of the allowance."""
    accounts = PostgresAccounts(settings.postgres_url)
    ledger = make_ledger(settings.redis_url, shard_count=settings.shard_count)
    identity = await accounts.identity()
    await ledger.attach(identity)
    await accounts.mark_installed(identity.epoch)
    user = await accounts.open(user_id, provision=True)
    assert isinstance(user, User)
    await ledger.install(user)
    decision = await spend(ledger, user_id, cost, CreditPolicy(allowance=ALLOWANCE))
    await ledger.aclose()
    await accounts.aclose()
    return decision.credits, decision.allowance_left


def test_the_command_rebuilds(settings: Settings) -> None:
    """Exit status 2 and what to do while Redis is there; then the new epoch, as JSON."""
    charge(settings, [uuid4()])
    refused = run_rebuild(settings)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "Redis is not lost" in refused.stderr
    lose(settings)
    done = run_rebuild(settings)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"epoch": 2})


def run_rebuild(settings: Settings) -> "subprocess.CompletedProcess[str]":
    """Run the command in a process of its own."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "FAREGATE_REDIS_URL": settings.redis_url,
        "FAREGATE_POSTGRES_URL": settings.postgres_url,
        "FAREGATE_SHARD_COUNT": str(settings.shard_count),
    }
    return subprocess.run(
        [sys.executable, "-m", "faregate.cli", "rebuild", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=WAIT_S_MAX,
        check=False,
    )
