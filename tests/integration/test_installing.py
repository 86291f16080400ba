"""All users are brought into an empty Redis, while gates serve and whatever is killed."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import pytest
from redis import Redis

from durable import Database, archive
from faregate import Settings, open_gate
from faregate.bootstrap import open_admin, open_audit, open_installer, open_stream
from faregate.domain.errors import LedgerUninitialisedError
from faregate.ops.rebuild import Installed, Progress, install_all, rebuild
from faregate_worker.jobs import work_on
from faregate_worker.runtime import Stop
from moved import assert_exact

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

USERS = 300


@pytest.fixture
def settings(ledger_redis: str, database_url: str) -> Settings:
    """A ledger of which Redis has nothing."""
    return Settings(redis_url=ledger_redis, postgres_url=database_url, decision_timeout_ms=10_000)


@pytest.fixture
def users(settings: Settings, tables: Database, monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
    """Users with rows, more than one page of them; the epoch has begun."""
    monkeypatch.setattr("faregate.ops.rebuild.PAGE_SIZE_MAX", 64)
    made = [tables.user() for _ in range(USERS)]
    with archive(settings.postgres_url) as store:
        store.store(0, [user.record(-1) for user in made])
    with (
        open_stream(settings) as stream,
        open_installer(settings) as installer,
        open_admin(settings) as admin,
    ):
        rebuild(stream, installer, admin, admin.identity(), settings.shard_count)
    return [user.user_id for user in made]


def install(settings: Settings, on_progress: Progress | None = None) -> Installed:
    with (
        open_stream(settings) as stream,
        open_installer(settings) as installer,
        open_audit(settings) as audit,
        open_admin(settings) as admin,
    ):
        return install_all(stream, installer, audit, admin, on_progress)


async def charge(settings: Settings, users: Sequence[UUID]) -> list[int]:
    """Charge users at once, by a gate of their own; return their sequences."""
    async with open_gate(settings) as gate:
        decisions = await asyncio.gather(*(gate.charge(user) for user in users))
    return [decision.sequence for decision in decisions]


def test_every_user_is_there_with_balance_and_sequence(
    settings: Settings, users: list[UUID]
) -> None:
    """As at first sight; a second run has nothing to do."""
    told: list[int] = []
    assert install(settings, lambda done, _: told.append(done)) == Installed(
        users=USERS, installed=USERS
    )
    assert (told[0], told[-1]) == (64, USERS)
    with open_stream(settings) as stream:
        live = stream.read_many(users)
    assert {(user.credits, user.sequence, user.epoch) for user in live.values()} == {(2, 2, 2)}
    assert len(live) == USERS
    assert install(settings) == Installed(users=USERS, installed=0)
    assert_exact(settings)


def test_a_run_that_was_killed_goes_on(settings: Settings, users: list[UUID]) -> None:
    """Those who are there are passed over, and so is whatever was charged of them since."""

    def die(done: int, _: int | None) -> None:
        if done > USERS // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        install(settings, die)
    assert asyncio.run(charge(settings, users[:10])) == [3] * 10
    done = install(settings)
    assert done.users == USERS
    assert 0 < done.installed < USERS
    assert_exact(settings)
    assert asyncio.run(charge(settings, users[:10])) == [4] * 10


async def test_twenty_gates_may_install_the_same_users_meanwhile(
    settings: Settings, users: list[UUID]
) -> None:
    """Each charge counts once, whoever brought the user in, and whatever is stored meanwhile."""
    stop = Stop()
    work = asyncio.create_task(asyncio.to_thread(work_on, settings, stop, 60.0))
    installing = asyncio.create_task(asyncio.to_thread(install, settings))
    sequences = await asyncio.gather(*(charge(settings, users[::2]) for _ in range(20)))
    assert (await installing).users == USERS
    stop.request()
    await work
    # Two credits were there, so two of twenty charges of each user were allowed.
    allowed = [number for of_gate in sequences for number in of_gate if number]
    assert sorted(allowed) == sorted([3, 4] * len(users[::2]))
    await asyncio.to_thread(assert_exact, settings)


def test_no_user_is_installed_in_a_redis_that_was_lost_again(
    settings: Settings, users: list[UUID]
) -> None:
    """The command ends with an error, and gates go on to refuse."""
    with Redis.from_url(settings.redis_url) as redis:
        redis.flushall()
    with pytest.raises(LedgerUninitialisedError):
        install(settings)
    with pytest.raises(LedgerUninitialisedError):
        asyncio.run(charge(settings, users[:1]))


def test_a_user_who_was_deleted_is_not_installed(
    settings: Settings, users: list[UUID], tables: Database
) -> None:
    """Not even where the list of users was read before."""
    tables.run("delete from auth.users where id = %s", users[0])
    with open_admin(settings) as admin:
        assert [user.id for user in admin.open(users[:2])] == users[1:2]
    assert install(settings).installed == USERS - 1
