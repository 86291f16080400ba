"""Where scenarios are played: a server, a connection and a loop, by the clock of the tests."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from redis import Redis

from clocks import Alter, Clock, clock_of_the_test
from spec.backends import Backend, MemoryBackend
from spec.redis_backend import RedisBackend
from waiting import WAIT_S_MAX

KINDS = ["memory", "redis"]


@dataclass(slots=True)
class Stage:
    """Has room for one backend of each kind at a time: a new one begins with nothing."""

    client: Redis
    url: str
    loop: asyncio.Runner
    _last: RedisBackend | None = field(default=None, init=False)

    def backend(self, kind: str, **bounds: int) -> Backend:
        """Return a new backend that has not started."""
        if kind == "memory":
            return MemoryBackend(Clock(), **bounds)
        self.close()
        self._last = RedisBackend(self.client, self.url, **bounds)
        return self._last

    def close(self) -> None:
        """Close the connections of the last backend."""
        if self._last is not None:
            self.loop.run(self._last.aclose())


@contextmanager
def staged(url: str, alter: Alter | None = None) -> Iterator[Stage]:
    """Open a stage, on which the scripts may be altered."""
    with (
        clock_of_the_test(alter),
        asyncio.Runner() as loop,
        Redis.from_url(url, protocol=2, socket_timeout=WAIT_S_MAX) as client,
    ):
        stage = Stage(client, url, loop)
        try:
            yield stage
        finally:
            stage.close()
