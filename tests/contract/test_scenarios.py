"""Redis and the memory adapter answer alike: one table, played on both."""

from collections.abc import AsyncIterator

import pytest
from redis import Redis

from clocks import Clock, use_test_clock
from faregate.adapters.redis.runner import ScriptRunner
from player import Player
from scenarios import SCENARIOS
from sides import MemorySide, RedisSide, Side
from steps import USERS

pytestmark = pytest.mark.redis


@pytest.fixture(params=["memory", "redis"])
async def side(
    request: pytest.FixtureRequest, ledger_redis: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Side]:
    """One of the implementations, by the clock of the test."""
    if request.param == "memory":
        yield MemorySide(Clock())
        return
    use_test_clock(monkeypatch)
    runner = ScriptRunner.from_url(ledger_redis, 5.0)
    with Redis.from_url(ledger_redis, protocol=2) as client:
        yield RedisSide(client, runner)
    await runner.aclose()


@pytest.mark.parametrize("name", SCENARIOS)
async def test_the_ledger_answers_as_the_table_says(name: str, side: Side) -> None:
    """Each step's answer, balance and whatever else the table says of it."""
    await side.start()
    player = Player(side)
    for number, step in enumerate(SCENARIOS[name], start=1):
        played = await player.play(step)
        where = f"step {number}: {step}, but {played}"
        assert (played.answer, played.repeated) == (step.answer, step.repeated), where
        live = await side.ledger_of(USERS[step.user]).read(USERS[step.user])
        assert live is not None
        told = {"held": live.held, **played.tells}
        assert {name: told.get(name) for name in step.tells} == step.tells, where
