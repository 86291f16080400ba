"""Redis and the memory adapter begin periods without a request alike."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest
from redis import Redis

from clocks import Clock, RedisClock, use_test_clock
from faregate.adapters.memory.ledger import MemoryLedger
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.runner import ScriptRunner
from faregate.domain.errors import AmountError, LedgerUnavailableError
from faregate.domain.transaction import CREDITS_MAX
from faregate.ports import Ledger
from player import Player
from steps import CARRYING, HOUR_MS, TEN, add, charge

STREAM_LENGTH_MAX = 4


@asynccontextmanager
async def ledger_of(kind: str, url: str, user_id: UUID) -> AsyncIterator[Player]:
    """A ledger with one user, and room for few records."""
    if kind == "memory":
        clock = Clock()
        ledger: Ledger = MemoryLedger(now_ms=clock, stream_length_max=STREAM_LENGTH_MAX)
        player = Player(ledger, user_id, clock)
        await player.start()
        yield player
        return
    with Redis.from_url(url) as client:
        runner = ScriptRunner.from_url(url)
        ledger = RedisLedger(runner, shard_count=1, stream_length_max=STREAM_LENGTH_MAX)
        player = Player(ledger, user_id, RedisClock(client))
        await player.start()
        yield player
        await ledger.aclose()


@pytest.fixture(params=["memory", "redis"])
async def player(
    request: pytest.FixtureRequest, ledger_redis: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Player]:
    use_test_clock(monkeypatch)
    async with ledger_of(request.param, ledger_redis, uuid4()) as made:
        yield made


async def test_a_period_that_lasts_or_was_not_touched_is_left_alone(player: Player) -> None:
    """Only what the next charge would restore is restored, and only once."""
    assert await player.ledger.renew(player.user_id, TEN) == 0
    await player.play(charge("a", 4, allowance=TEN))
    assert await player.ledger.renew(player.user_id, TEN) == 0
    player.clock.advance(HOUR_MS)
    assert await player.ledger.renew(player.user_id, TEN) == 4
    assert await player.ledger.renew(player.user_id, TEN) == 0
    player.clock.advance(HOUR_MS)
    assert await player.ledger.renew(player.user_id, TEN) == 0
    played = await player.play(charge("b", 1, allowance=TEN))
    assert (played.credits, played.left) == (14, 9)


async def test_what_is_carried_over_is_reckoned_with(player: Player) -> None:
    """Ten come anew, and two of the four that were left."""
    await player.play(charge("a", 6, allowance=CARRYING))
    player.clock.advance(HOUR_MS)
    assert await player.ledger.renew(player.user_id, CARRYING) == 8
    user = await player.ledger.read(player.user_id, CARRYING)
    assert user is not None
    assert (user.credits, user.allowance_left) == (17, 12)


async def test_what_cannot_be_renewed_changes_nothing(player: Player) -> None:
    """An unknown user, a balance that is full, a stream that is."""
    assert await player.ledger.renew(uuid4(), TEN) is None
    await player.play(charge("a", 10, allowance=TEN))
    await player.play(add("b", CREDITS_MAX - 5))
    player.clock.advance(HOUR_MS)
    before = await player.ledger.read(player.user_id)
    with pytest.raises(AmountError):
        await player.ledger.renew(player.user_id, TEN)
    await player.play(charge("c", 10))
    with pytest.raises(LedgerUnavailableError):
        await player.ledger.renew(player.user_id, TEN)
    after = await player.ledger.read(player.user_id)
    assert before is not None
    assert after is not None
    assert (after.credits, after.sequence) == (before.credits - 10, before.sequence + 1)
