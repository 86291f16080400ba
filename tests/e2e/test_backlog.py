"""How many records may wait for Postgres: the cap counts those that are no rows, and no others."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from redis import Redis

from faregate import Decision, Gate, Settings, Verdict, open_gate
from faregate.adapters.redis import keys
from faregate.adapters.redis.records import StreamEntryHeader
from faregate.adapters.redis.values import ShardState
from redis_ledger import value
from waiting import until
from worker_process import System

CAP = 400
#: The most that one call appends.
CALL_MAX = 128
AT_ONCE = 64
SHARD_COUNT = 16
#: Users of the first shard, and one of another.
USERS = [UUID(int=number << 64 | number * SHARD_COUNT, version=4) for number in range(1, 33)]
ELSEWHERE = UUID(int=1 << 64 | 1, version=4)
CREDITS = 1_000_000


@pytest.fixture
def system(ledger_redis: str, database_url: str, tmp_path: Path) -> System:
    """A fresh ledger, whose users have enough."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("update faregate.ledger set starting_credits = %s", [CREDITS])
    return System(redis_url=ledger_redis, database_url=database_url, log=tmp_path / "worker.log")


def settings_of(system: System) -> Settings:
    """Return settings by which few records may wait."""
    more = {"pending_max": CAP, "starting_credits": CREDITS}
    return system.settings.model_copy(update=more)


def shard_state(system: System) -> ShardState:
    """Return the state of the shard of `USERS`."""
    with Redis.from_url(system.redis_url) as client:
        return ShardState.unpack(value(client, keys.shards(SHARD_COUNT)[0].state))


def records_count(system: System) -> int:
    """Return how many records are in the stream of the shard of `USERS`."""
    with Redis.from_url(system.redis_url) as client:
        entries = client.xrange(keys.shards(SHARD_COUNT)[0].stream)
    return sum(StreamEntryHeader.unpack(fields[b"r"]).count for _, fields in entries)


async def charge(gate: Gate, count: int) -> Sequence[Decision]:
    """Charge that often, all at once."""
    return await asyncio.gather(*(gate.charge(USERS[n % len(USERS)]) for n in range(count)))


async def charge_until_full(gate: Gate) -> None:
    """Charge until it is refused, and make sure that it stays so."""
    verdicts = {Verdict.ALLOWED}
    while Verdict.BACKLOG not in verdicts:
        verdicts = {decision.verdict for decision in await charge(gate, AT_ONCE)}
        assert verdicts <= {Verdict.ALLOWED, Verdict.BACKLOG}
    again = await charge(gate, AT_ONCE)
    assert {decision.verdict for decision in again} == {Verdict.BACKLOG}


async def test_without_a_worker_the_cap_refuses_at_its_number(system: System) -> None:
    """No sooner, and later by one call at most; other shards go on. A worker makes room."""
    async with open_gate(settings_of(system)) as gate:
        await charge_until_full(gate)
        assert CAP <= shard_state(system).pending_count < CAP + CALL_MAX
        assert (await gate.charge(ELSEWHERE)).allowed
        with system.worker():
            await until(lambda: shard_state(system).pending_count == 0, "the worker drains")
        assert all(decision.allowed for decision in await charge(gate, AT_ONCE))
        await charge_until_full(gate)
        assert CAP <= shard_state(system).pending_count < CAP + CALL_MAX


async def test_records_that_are_rows_never_count(system: System) -> None:
    """They stay in the stream for a while, many more of them than may wait, and refuse nobody."""
    most = 0
    async with open_gate(settings_of(system)) as gate:
        with system.worker():
            while shard_state(system).ordinal < 5 * CAP:
                decisions = await charge(gate, CAP // 2)
                assert {decision.verdict for decision in decisions} == {Verdict.ALLOWED}
                await until(
                    lambda: shard_state(system).pending_count <= CAP // 2, "the worker drains"
                )
                most = max(most, records_count(system))
    assert most > 2 * CAP
