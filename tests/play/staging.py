"""Where scenarios are played: a server, a connection and a loop, by the clock of the tests."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from redis import Redis

from clocks import Alter, Clock, use_test_clock
from faregate.adapters.redis import ledger
from faregate.adapters.redis.runner import Patience
from play.redis_side import Listening, RedisSide
from play.sides import MemorySide, Side

KINDS = ["memory", "redis"]
#: A machine that is busy with other things is no reason to give up.
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Stage:
    """Has room for one Redis side at a time: a new one begins with an empty server."""

    client: Redis
    runner: Listening
    loop: asyncio.Runner

    def side(self, kind: str, **bounds: int) -> Side:
        """Return a new side that has not started."""
        if kind == "memory":
            return MemorySide(Clock(), **bounds)
        return RedisSide(self.client, self.runner, **bounds)


@contextmanager
def staged(url: str, alter: Alter | None = None) -> Iterator[Stage]:
    """Open a stage, on which the scripts may be altered."""
    runner = Listening.from_url(url, _TIMEOUT_S)
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as loop:
        use_test_clock(patch, alter)
        patch.setattr(ledger, "_SLOW", Patience(_TIMEOUT_S))
        with Redis.from_url(url, protocol=2) as client:
            yield Stage(client, runner, loop)
        loop.run(runner.aclose())
