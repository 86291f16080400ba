"""A ledger moves to another Redis, or gets another number of shards, and loses nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import pytest
from redis import Redis

from commands import CommandLine
from durable import as_role
from faregate import Gate, Settings, open_gate
from faregate.bootstrap import open_admin, open_installer, open_stream
from faregate.domain.decision import Verdict
from faregate.domain.errors import (
    ConfigurationError,
    LedgerUnavailableError,
    LedgerUninitialisedError,
)
from faregate.ops.move import retire
from faregate_worker.jobs import work_on
from faregate_worker.runtime import Stop
from moved import assert_exact, changed, charge_all, working
from operated import Ledger, drain
from waiting import WAIT_S_MAX

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


@pytest.fixture
def faregate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], operated: Ledger
) -> CommandLine:
    """The command line, in the environment of the ledger."""
    monkeypatch.setenv("FAREGATE_PROVISION_USERS", "true")
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def settings(operated: Ledger) -> Settings:
    """Where the ledger is at first."""
    return changed(operated.settings, provision_users=True, decision_timeout_ms=10_000)


@pytest.fixture
def target(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Where it is to go: the environment names it."""
    moved = changed(settings, redis_url=f"{settings.redis_url}&db=1")
    monkeypatch.setenv("FAREGATE_REDIS_URL", moved.redis_url)
    return moved


def close(settings: Settings) -> None:
    with open_installer(settings) as installer:
        installer.close_shards()


def test_a_ledger_moves_while_its_worker_runs(
    faregate: CommandLine, settings: Settings, target: Settings
) -> None:
    """One command; the former Redis takes nothing more, and every charge is there."""
    users = [uuid4() for _ in range(20)]
    charge_all(settings, users, 2)
    with working(settings):
        told = faregate.tell("rebuild", "--all-users", "--from", settings.redis_url)
    assert told == {"epoch": 2, "users": 21, "installed": 21}
    with pytest.raises(LedgerUninitialisedError):
        charge_all(settings, users, 1)
    charge_all(target, users, 1)
    assert_exact(target)
    drain(target)
    assert_exact(target)


async def test_a_gate_on_the_former_redis_is_refused_every_operation(
    faregate: CommandLine, settings: Settings, target: Settings
) -> None:
    """One that kept running, which knows the user."""
    user = uuid4()
    async with open_gate(settings) as gate:
        assert (await gate.charge(user)).credits == 2
        await asyncio.to_thread(drain, settings)
        await asyncio.to_thread(faregate.tell, "rebuild", "--from", settings.redis_url)
        asked: list[Callable[[], Awaitable[object]]] = [
            lambda: gate.charge(user),
            lambda: gate.grant(user, 1),
            lambda: gate.charge(uuid4()),
        ]
        for ask in asked:
            with pytest.raises(LedgerUninitialisedError):
                await ask()
    async with open_gate(target) as gate:
        assert (await gate.charge(user)).credits == 1


async def test_holds_can_end_in_a_closed_redis(settings: Settings) -> None:
    """Charges, holds and credits are refused; refunds and settlements are not, and are rows."""
    user = uuid4()
    async with open_gate(settings) as gate:
        charged = await gate.charge(user)
        hold = await gate.hold(user, 2, ttl_ms=60_000)
        close(settings)
        asked: list[Callable[[], Awaitable[object]]] = [
            lambda: gate.charge(user),
            lambda: gate.hold(user, 1, ttl_ms=1_000),
            lambda: gate.grant(user, 1),
        ]
        for ask in asked:
            with pytest.raises(LedgerUninitialisedError):
                await ask()
        assert (await gate.refund(charged)).verdict is Verdict.ALLOWED
        assert await left_to_do(settings) == (3, 1)
        await gate.settle(hold, 1)
        assert await credits_of(gate, user) == 2
    await asyncio.to_thread(drain, settings)
    assert await left_to_do(settings) == (0, 0)
    await asyncio.to_thread(assert_exact, settings)


async def left_to_do(settings: Settings) -> tuple[int, int]:
    """How many records and holds a closed Redis has."""
    with open_installer(settings) as installer:
        left = installer.close_shards()
    return left.records, left.holds


async def credits_of(gate: Gate, user: UUID) -> int:
    balance = await gate.balance(user)
    assert balance is not None
    return balance.credits


def test_nothing_is_closed_where_the_other_redis_is_not_empty(
    faregate: CommandLine, settings: Settings, target: Settings
) -> None:
    """It may hold another ledger, or what is left of this one."""
    users = [uuid4()]
    charge_all(settings, users, 2)
    with open_admin(settings) as admin, open_installer(target) as installer:
        installer.create(admin.identity())
    said = faregate.run("rebuild", "--from", settings.redis_url)
    assert said.code == 2
    assert "not lost: 16 of its 16 shards hold epoch 1" in said.err
    charge_all(settings, users, 1)


@pytest.mark.usefixtures("target")
def test_nothing_is_closed_by_a_role_that_may_not_begin_an_epoch(
    faregate: CommandLine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said before the Redis that serves is given up."""
    users = [uuid4()]
    charge_all(settings, users, 2)
    drain(settings)
    monkeypatch.setenv("FAREGATE_POSTGRES_URL", as_role(settings.postgres_url, "faregate_api"))
    said = faregate.run("rebuild", "--from", settings.redis_url)
    assert (said.code, "may not begin an epoch" in said.err) == (2, True)
    charge_all(settings, users, 1)


@pytest.mark.usefixtures("target")
def test_a_redis_of_another_ledger_is_not_closed(faregate: CommandLine, settings: Settings) -> None:
    """As where two URLs were mixed up."""
    charge_all(settings, [uuid4()], 2)
    said = faregate.run("rebuild", "--from", f"{settings.redis_url}&db=2")
    assert (said.code, "does not hold this ledger" in said.err) == (2, True)
    charge_all(settings, [uuid4()], 2)


def test_a_move_that_waits_in_vain_can_be_cancelled(
    faregate: CommandLine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a worker its records stay; until it is opened again the Redis refuses."""
    users = [uuid4()]
    charge_all(settings, users, 2)
    with (
        open_admin(settings) as admin,
        open_stream(settings) as stream,
        open_installer(settings) as installer,
        pytest.raises(LedgerUnavailableError, match="1 records that are not rows and 0 open holds"),
    ):
        retire(stream, installer, admin.identity(), seconds_max=0)
    with pytest.raises(LedgerUninitialisedError):
        charge_all(settings, users, 1)
    assert faregate.tell("reopen") == {"epoch": 1}
    charge_all(settings, users, 1)
    drain(settings)
    assert_exact(settings)
    monkeypatch.setenv("FAREGATE_REDIS_URL", f"{settings.redis_url}&db=1")
    assert faregate.tell("rebuild", "--from", settings.redis_url) == {"epoch": 2}
    monkeypatch.setenv("FAREGATE_REDIS_URL", settings.redis_url)
    said = faregate.run("reopen")
    assert (said.code, "16 shards have been given up" in said.err) == (2, True)


@pytest.mark.parametrize("count", [4, 24])
def test_a_ledger_gets_another_number_of_shards(
    faregate: CommandLine, settings: Settings, target: Settings, count: int
) -> None:
    """Cursors of the former epoch mislead nobody, and every number agrees, before and after."""
    users = [uuid4() for _ in range(40)]
    charge_all(settings, users, 2)
    drain(settings)
    told = faregate.tell("rebuild", "--from", settings.redis_url, "--shard-count", count)
    assert told == {"epoch": 2}
    other = changed(target, shard_count=count)
    charge_all(other, users, 1)
    assert_exact(other)
    drain(other)
    assert_exact(other)
    with pytest.raises(ConfigurationError, match=f"{count} shards, the settings 16"):
        charge_all(target, users, 0)
    with pytest.raises(ConfigurationError, match=f"{count} shards, the settings say 16"):
        work_on(target, Stop(), WAIT_S_MAX)
    assert faregate.run("rebuild", "--all-users").code == 2


async def test_a_gate_with_the_former_number_of_shards_charges_no_user(
    faregate: CommandLine, settings: Settings
) -> None:
    """It kept running while its Redis was emptied and made anew: the names of keys are alike."""
    users = [uuid4() for _ in range(40)]
    async with open_gate(settings) as gate:
        await gate.charge(users[0])
        await asyncio.to_thread(drain, settings)
        with Redis.from_url(settings.redis_url) as redis:
            redis.flushall()
        await asyncio.to_thread(faregate.tell, "rebuild", "--shard-count", 4)
        for user in users:
            with pytest.raises((ConfigurationError, LedgerUninitialisedError)):
                await gate.charge(user)
    await asyncio.to_thread(assert_exact, changed(settings, shard_count=4))


def test_a_redis_that_was_left_is_not_treated_as_empty(
    faregate: CommandLine,
    settings: Settings,
    target: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its accounts would come back, with the number of shards that it had or one of these names."""
    users = [uuid4()]
    charge_all(settings, users, 2)
    drain(settings)
    faregate.tell("rebuild", "--from", settings.redis_url, "--shard-count", 8)
    second = changed(target, shard_count=8)
    charge_all(second, users, 1)
    drain(second)
    monkeypatch.setenv("FAREGATE_REDIS_URL", settings.redis_url)
    said = faregate.run("rebuild", "--from", target.redis_url, "--shard-count", 100)
    assert (said.code, "keeps what is left of an earlier ledger" in said.err) == (2, True)
    charge_all(second, users, 0)
