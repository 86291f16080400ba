"""Periods that begin without a request: once, whoever else begins them at the same time."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from durable import database
from faregate import Allowance, CreditPolicy, Gate, Period, PeriodKind, Settings, build_gate
from faregate.bootstrap import open_archive, open_audit, open_stream
from faregate.ops.reconcile import reconcile
from faregate.ops.renew import Renewal, renew_all
from faregate_worker.drain import DrainLimits, drain
from waiting import WAIT_S_MAX

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

LENGTH_MS = 1_500
POLICY = CreditPolicy(
    allowance=Allowance(amount=10, period=Period(kind=PeriodKind.ROLLING, length_ms=LENGTH_MS))
)
USERS = 12


@pytest.fixture
def settings(ledger_redis: str, database_url: str) -> Settings:
    """A fresh ledger on the session's servers."""
    return Settings(
        redis_url=ledger_redis,
        postgres_url=database_url,
        provision_users=True,
        decision_timeout_ms=10_000,
        shard_count=2,
    )


@pytest.fixture(autouse=True)
def _two_shards(database_url: str) -> None:
    with database(database_url) as tables:
        tables.run("update faregate.ledger set shard_count = 2")


@asynccontextmanager
async def gate_on(settings: Settings) -> AsyncIterator[Gate]:
    gate = build_gate(settings, POLICY)
    async with gate.lifespan():
        yield gate


def drain_all(settings: Settings) -> None:
    limits = DrainLimits(batch_size_max=1_000, seconds_max=10)
    with open_stream(settings) as stream, open_archive(settings) as archive:
        for shard in range(settings.shard_count):
            drain(stream, archive, shard, limits=limits)


async def period_ends(gate: Gate, users: list[UUID]) -> None:
    """Wait until the period of every user is over, by the clock of Redis."""
    found = [await gate.balance(user_id) for user_id in users]
    ends_ms = max(user.period_end_ms or 0 for user in found if user)
    while gate.now_ms() < ends_ms:
        await asyncio.sleep(0.05)
        await gate.balance(users[0])


async def test_two_sweeps_and_a_request_at_the_end_of_a_period_make_one_top_up(
    settings: Settings, database_url: str
) -> None:
    """In Postgres each user has one row for each of its periods, and the sum is exact."""
    users = [uuid4() for _ in range(USERS)]
    async with gate_on(settings) as one, gate_on(settings) as two:
        for user_id in users:
            assert (await one.charge(user_id, cost=4)).allowed
        await period_ends(one, users)
        async with asyncio.TaskGroup() as group:
            sweeps = [group.create_task(renew_all(gate)) for gate in (one, two)]
            charges = [group.create_task(one.charge(user_id)) for user_id in users]
        assert all(task.result().allowed for task in charges)
        first, second = (task.result() for task in sweeps)
        assert first.users == second.users == USERS
        # Nobody renewed a user twice, and what neither of them renewed its request did.
        assert first.renewed + second.renewed <= USERS
    drain_all(settings)
    with database(database_url) as tables:
        periods = tables.run(
            "select user_id, period_start, count(*) as rows, sum(amount) as credits"
            " from public.credit_transactions where description = 'allowance'"
            " group by user_id, period_start order by user_id, period_start"
        )
        assert {row["rows"] for row in periods} == {1}
        for user_id in users:
            credits_ = [row["credits"] for row in periods if row["user_id"] == user_id]
            # On a slow machine a third period may begin meanwhile.
            assert credits_[:2] == [10, 4]
    with open_stream(settings) as stream, open_audit(settings) as audit:
        assert reconcile(stream, stream, audit).is_exact


async def test_an_idle_user_is_current_in_postgres_after_a_sweep(
    settings: Settings, database_url: str
) -> None:
    """A user without any request has no period; one that has is brought up to date, once."""
    busy, newcomer = uuid4(), uuid4()
    async with gate_on(settings) as gate:
        assert (await gate.charge(busy, cost=9)).credits == 4
        assert await gate.balance(newcomer) is not None
        await period_ends(gate, [busy])
        looked_at: list[int] = []
        assert await renew_all(gate, looked_at.append) == Renewal(users=2, renewed=1, credits=9)
        assert looked_at == [2]
        assert await gate.renew(uuid4()) == 0, "it is provisioned, and has no period yet"
    drain_all(settings)
    with database(database_url) as tables:
        assert tables.profile(busy)[0] == 13
        assert tables.profile(newcomer)[0] == 3


APP = f"""
from faregate import Allowance, CreditPolicy, Period, PeriodKind, Settings, build_gate

POLICY = CreditPolicy(
    allowance=Allowance(amount=10, period=Period(kind=PeriodKind.ROLLING, length_ms={LENGTH_MS}))
)


def gate():
    return build_gate(Settings(decision_timeout_ms=10_000), POLICY)
"""


@pytest.mark.long
async def test_the_command_renews_by_the_policies_of_an_application(
    settings: Settings, tmp_path: Path
) -> None:
    """`faregate renew myapp:gate` prints what it did; a place without a gate is wrong use."""
    async with gate_on(settings) as gate:
        user_id = uuid4()
        assert (await gate.charge(user_id, cost=3)).allowed
        await period_ends(gate, [user_id])
    (tmp_path / "myapp.py").write_text(APP, encoding="utf-8")
    environment = {
        **os.environ,
        "FAREGATE_REDIS_URL": settings.redis_url,
        "FAREGATE_POSTGRES_URL": settings.postgres_url,
        "FAREGATE_SHARD_COUNT": "2",
    }

    def run(place: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "faregate.cli", "renew", place, "--json"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=WAIT_S_MAX,
            check=False,
        )

    done = run("myapp:gate")
    assert done.returncode == 0, done.stderr
    expected = {"users": 1, "renewed": 1, "credits": 3, "out_of_range": 0}
    assert json.loads(done.stdout) == expected
    for wrong in ("myapp", "myapp:nothing", "nowhere:gate", "myapp:POLICY"):
        refused = run(wrong)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "Traceback" not in refused.stderr
