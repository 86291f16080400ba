"""Voids of charges that are rows already, and that Redis knows no more: however young they are."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from redis import Redis

from clocks import RedisClock, ToldClocks, clock_of_the_test
from faregate import Gate
from faregate.adapters.memory.store import MemoryStore
from faregate.adapters.redis import keys
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.stream import RedisStream
from faregate.domain.attempt import Attempt
from faregate.domain.journal import Collection, JournalEntry
from faregate.domain.policy import CreditPolicy, GateOptions
from faregate.domain.spend import Spend
from faregate.domain.windows import STORED_MS
from redis_ledger import SHARD, TIMEOUT_MS, make_ledger

pytestmark = pytest.mark.redis

POLICY = CreditPolicy(starting_credits=10)
#: After the deadline, and within a minute.
LATER_MS = TIMEOUT_MS + 5_000
USER, OTHER = UUID(int=1 << 64 | 1, version=4), UUID(int=2 << 64 | 2, version=4)


class World:
    """A gate, its rows, and the time of Redis."""

    def __init__(self, client: Redis, url: str, clock: RedisClock) -> None:
        self.client, self.clock, self._url = client, clock, url
        self.store = MemoryStore(starting_credits=POLICY.starting_credits, now_ms=clock)
        self.stream = RedisStream(client, 1)
        self._open()

    def _open(self) -> None:
        self.ledger: RedisLedger = make_ledger(self._url)
        self.gate = Gate(self.ledger, self.store, POLICY, GateOptions(provision_users=True))

    async def charge_unheard(self) -> Attempt:
        """Charge, and return the attempt as one of which its caller has heard nothing."""
        assert await self.credits() == 10
        attempt = Attempt(Spend(USER, 3, POLICY))
        assert (await self.ledger.decide(attempt)).allowed
        return attempt

    async def credits(self) -> int:
        user = await self.gate.balance(USER)
        assert user is not None
        return user.credits

    def drain(self) -> None:
        """Make rows of all records, and delete those that are old."""
        cursor = self.store.cursors().get(SHARD)
        if batch := self.stream.read(SHARD, cursor, 100):
            cursor = self.store.store(batch).cursor
        self.stream.note_stored(SHARD, cursor)

    async def rebuild(self) -> None:
        """Lose Redis, and begin the next epoch."""
        await self.gate.aclose()
        self.client.flushall()
        self.clock.advance(0)
        self.store.begin_epoch(1)
        self._open()

    async def void(self, attempt: Attempt, outcome: Collection = Collection.VOIDED) -> None:
        """Void an attempt as the import of a journal does, to which it was left."""
        void = attempt.void()
        entry = JournalEntry(
            attempt_id=void.transaction_id,
            user_id=void.user_id,
            cost=0,
            description="request",
            asked_at_ms=void.asked_at_ms,
            deadline_ms=void.deadline_ms,
            served_at_ms=void.asked_at_ms,
            may_be_charged=True,
            is_served=False,
        )
        assert (await self.gate.collect(entry)).outcome is outcome


@pytest.fixture
async def world(client: Redis, ledger_redis: str) -> AsyncIterator[World]:
    with clock_of_the_test():
        ToldClocks.clock = RedisClock(client)
        made = World(client, ledger_redis, ToldClocks.clock)
        await made.gate.start()
        yield made
        await made.gate.aclose()
        made.stream.close()


async def test_a_void_after_a_rebuild_gives_back_a_charge_that_is_a_row(world: World) -> None:
    """Also within the minute after the charge."""
    attempt = await world.charge_unheard()
    world.drain()
    world.clock.advance(LATER_MS)
    await world.rebuild()
    for _ in range(2):
        await world.void(attempt)
        assert await world.credits() == 10


async def test_a_void_after_the_clock_went_back_gives_back_a_charge_that_is_a_row(
    world: World,
) -> None:
    """The record was deleted while the clock of Redis was ahead."""
    attempt = await world.charge_unheard()
    world.clock.advance(2 * STORED_MS)
    assert (await world.gate.charge(OTHER)).allowed
    world.drain()
    assert world.client.xlen(keys.shards(1)[SHARD].stream) == 1
    world.clock.advance(LATER_MS - 2 * STORED_MS)
    for _ in range(2):
        await world.void(attempt)
        assert await world.credits() == 10


async def test_a_void_leaves_a_row_that_a_later_call_was_charged(world: World) -> None:
    """Its deadline had passed by then, so nothing was charged for the call that is voided."""
    attempt = await world.charge_unheard()
    attempt.deadline_ms = world.clock() - 1
    world.drain()
    world.clock.advance(LATER_MS)
    await world.rebuild()
    await world.void(attempt, Collection.KNOWN)
    assert await world.credits() == 7


async def test_a_void_that_finds_neither_record_nor_row_gives_nothing_back(world: World) -> None:
    """What was never charged stays so."""
    attempt = await world.charge_unheard()
    world.clock.advance(LATER_MS)
    await world.rebuild()
    await asyncio.sleep(0)
    await world.void(attempt)
    assert await world.credits() == 10
    assert not [row for row in world.store.rows.values() if row.amount < 0]
