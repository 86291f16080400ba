"""The worker while its servers hang, die and come back."""

import asyncio
import signal
import time
from pathlib import Path
from uuid import UUID

import pytest
from redis import Redis
from redis.exceptions import OutOfMemoryError

from clocks import ENDS_KEY, NOW_KEY, RedisClock, ToldClocks, clock_of_the_test
from faregate import open_gate
from faregate.adapters.postgres.migrations import Migrator
from faregate.cli.servers import EmbeddedServers, EmbeddedValkey
from faregate.config import QUEUE_NAME
from faregate.domain.errors import LedgerUnavailableError
from waiting import WAIT_S_MAX, wait_for
from worker_process import ROWS, USERS, System

pytestmark = [pytest.mark.redis, pytest.mark.postgres, pytest.mark.long]

HOUR_MS = 3_600_000
#: As many users as have some megabytes of records.
MANY = [UUID(int=number << 64 | number) for number in range(1, 301)]


@pytest.fixture
def own_system(own_redis: EmbeddedValkey, database_url: str, tmp_path: Path) -> System:
    """A fresh ledger on a Redis that the test may kill and pause."""
    return System(redis_url=own_redis.url, database_url=database_url, log=tmp_path / "worker.log")


def test_a_paused_redis_is_waited_out(own_system: System, own_redis: EmbeddedValkey) -> None:
    """A Redis that hangs and comes back finds the same worker at work."""
    with own_system.worker() as worker:
        own_system.charge(USERS[:8])
        wait_for(own_system.drained, "the first records are drained")
        own_redis.pause()
        wait_for(lambda: "ticker waits" in own_system.log.read_text(), "the ticker has noticed")
        own_redis.resume()

        own_system.charge(USERS[8:])
        wait_for(own_system.drained, "the rest is drained")
        assert worker.poll() is None

    assert own_system.rows() == ROWS


def test_a_restarted_redis_is_waited_out(own_system: System, own_redis: EmbeddedValkey) -> None:
    """The queue's Redis may die under the worker and come back."""
    with own_system.worker() as worker:
        own_system.charge(USERS[:8])
        wait_for(own_system.drained, "the first records are drained")
        own_redis.kill()
        wait_for(lambda: "outage" in own_system.log.read_text(), "an outage")
        own_redis.start()

        own_system.charge(USERS[8:])
        wait_for(own_system.drained, "the rest is drained")
        assert worker.poll() is None
        wait_for(lambda: own_system.check() == 0, "the worker is healthy again")

    assert own_system.rows() == ROWS


def test_a_restarted_postgres_is_waited_out(own_servers: EmbeddedServers, tmp_path: Path) -> None:
    """While Postgres is away records stay pending, and no failed job piles up in Redis."""
    Migrator(own_servers.postgres_url).apply()
    system = System(
        redis_url=own_servers.redis_url,
        database_url=own_servers.postgres_url,
        log=tmp_path / "worker.log",
    )
    system.charge()
    own_servers.postgres.kill()
    with system.worker() as worker:
        wait_for(lambda: "left pending" in system.log.read_text(), "an outage")
        assert system.pending() == 2 * len(USERS)
        own_servers.postgres.start()

        wait_for(system.drained, "everything is drained")
        assert worker.poll() is None

    assert system.rows() == ROWS
    with Redis.from_url(system.queue_url) as redis:
        assert redis.zcard(f"rq:failed:{QUEUE_NAME}") == 0


def charge_an_hour_ago(system: System, redis: Redis) -> None:
    """Make records that are old, and large."""
    with clock_of_the_test():
        clock = ToldClocks.clock = RedisClock(redis)
        clock.advance(round(time.time() * 1_000) - HOUR_MS - clock.ms)

        async def charge_all() -> None:
            async with open_gate(system.settings) as gate:
                for user in MANY:
                    for _ in range(2):
                        charged = await gate.charge(user, metadata={"note": "x" * 8_000})
                        assert charged.allowed

        asyncio.run(charge_all())
        redis.delete(NOW_KEY, ENDS_KEY)


def is_charged(system: System, user: UUID) -> bool:
    """Charge a user, unless Redis refuses."""

    async def charge() -> bool:
        async with open_gate(system.settings) as gate:
            return (await gate.charge(user)).allowed

    try:
        return asyncio.run(charge())
    except LedgerUnavailableError:
        return False


def test_a_full_redis_recovers_by_itself(own_system: System, own_redis: EmbeddedValkey) -> None:
    """No job fits into it. The worker stores what is pending and deletes it, and charges go on."""
    with Redis.from_url(own_redis.url) as redis:
        charge_an_hour_ago(own_system, redis)
        redis.config_set("maxmemory", redis.info("memory")["used_memory"] - 1_500_000)
        with pytest.raises(OutOfMemoryError):
            redis.set("any", b"")
        assert not is_charged(own_system, MANY[0])
        with own_system.worker():
            wait_for(own_system.drained, "everything is drained")
            wait_for(lambda: is_charged(own_system, MANY[0]), "a charge is allowed again")
            wait_for(own_system.drained, "that is drained, too")
        assert "ticker drains without a job" in own_system.log.read_text()

    assert own_system.rows() == 3 * len(MANY) + 1


def test_sigterm_ends_a_worker_whose_redis_is_away(
    own_system: System, own_redis: EmbeddedValkey
) -> None:
    """An outage is no reason not to stop."""
    with own_system.worker() as worker:
        wait_for(lambda: own_system.check() == 0, "the worker is healthy")
        own_redis.kill()
        wait_for(lambda: "outage" in own_system.log.read_text(), "an outage")

        worker.send_signal(signal.SIGTERM)

        assert worker.wait(WAIT_S_MAX) == 0
