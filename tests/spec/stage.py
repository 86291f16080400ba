"""Where scenarios are played: a server, a connection and a loop, by the clock of the tests."""

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from redis import Redis
from redis.cluster import RedisCluster

from clocks import Alter, Clock, clock_of_the_test
from faregate.domain.redis_url import RedisKind, RedisUrl
from spec.backends import Backend, MemoryBackend
from spec.redis_backend import RedisBackend
from waiting import WAIT_S_MAX

KINDS = ["memory", "redis"]


@dataclass(slots=True)
class Stage:
    """Has room for one backend of each kind at a time: a new one begins with nothing."""

    client: Redis | RedisCluster
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


def _client(url: str) -> Redis:
    return Redis.from_url(url, protocol=2, socket_timeout=WAIT_S_MAX)


def _cluster_client(url: str) -> RedisCluster:
    first = url.partition("://")[2].partition(",")[0]
    return RedisCluster.from_url(f"redis://{first}", protocol=2, socket_timeout=WAIT_S_MAX)


@contextmanager
def staged(url: str, alter: Alter | None = None) -> Iterator[Stage]:
    """Open a stage, on which the scripts may be altered."""
    is_cluster = RedisUrl.parse(url).kind is RedisKind.CLUSTER
    with (
        clock_of_the_test(alter, is_cluster=is_cluster),
        asyncio.Runner() as loop,
        closing(_cluster_client(url) if is_cluster else _client(url)) as client,
    ):
        stage = Stage(client, url, loop)
        try:
            yield stage
        finally:
            stage.close()
