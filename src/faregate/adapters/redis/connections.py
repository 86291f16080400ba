"""Makes the gate's connections to one server, to a node of a cluster, or to a service's primary."""

from collections.abc import Mapping
from typing import Any

from redis.asyncio import ConnectionPool, Sentinel
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.maint_notifications import MaintNotificationsConfig

from faregate.adapters.redis.topology import Node
from faregate.adapters.redis.wire import Make
from faregate.domain.redis_url import RedisKind, RedisUrl

#: How long one of several sentinels may take to connect, and to answer, in seconds.
SENTINEL_S_MAX = 0.3


def _options() -> dict[str, Any]:
    """Return options that take precedence: replies are bytes, and no command is sent twice."""
    return {
        "protocol": 2,
        "decode_responses": False,
        "socket_timeout": None,
        "health_check_interval": 0,
        "retry": Retry(NoBackoff(), 0),
    }


class Connections:
    """Makes connections, each of which a link takes over."""

    def __init__(self, url: RedisUrl) -> None:
        self._url = url
        self._sentinel: Sentinel | None = None
        if url.kind is RedisKind.SENTINEL:
            self._pool: ConnectionPool = self._of_service()
        else:
            self._pool = ConnectionPool.from_url(
                url.server_url, maint_notifications_config=MaintNotificationsConfig(enabled=False)
            )
        self._pool.connection_kwargs.update(_options())

    @property
    def name(self) -> str:
        """The address of the server, or the name of the service, for people."""
        if self._url.kind is RedisKind.SENTINEL:
            return self._url.service
        options: Mapping[str, Any] = self._pool.connection_kwargs
        return str(options.get("path") or f"{options.get('host')}:{options.get('port')}")

    def to(self, node: Node | None) -> Make:
        """Return what makes connections to a node of a cluster; for None, to the only server."""
        if node is None:
            return self._pool.make_connection

        def make() -> AbstractConnection:
            options = self._pool.connection_kwargs | {"host": node.host, "port": node.port}
            connection: AbstractConnection = self._pool.connection_class(**options)
            return connection

        return make

    def _of_service(self) -> ConnectionPool:
        options: dict[str, Any] = parse_url(self._url.server_url)  # type: ignore[no-untyped-call]
        is_tls = options.pop("connection_class", None) is not None
        # The sentinels have the same certificates, and a login of their own.
        tls = {name: value for name, value in options.items() if name.startswith("ssl")}
        of_sentinels = (
            tls
            | dict(self._url.sentinel_login)
            | {
                "ssl": is_tls,
                "socket_timeout": SENTINEL_S_MAX,
                "socket_connect_timeout": SENTINEL_S_MAX,
                "retry": Retry(NoBackoff(), 0),
            }
        )
        self._sentinel = Sentinel(list(self._url.seeds), sentinel_kwargs=of_sentinels)  # type: ignore[no-untyped-call]
        for name in ("host", "port"):
            options.pop(name, None)
        pool: ConnectionPool = SentinelConnectionPool(  # type: ignore[no-untyped-call]
            self._url.service, self._sentinel, ssl=is_tls, **options
        )
        return pool

    async def aclose(self) -> None:
        """Close the connections to the sentinels."""
        for sentinel in self._sentinel.sentinels if self._sentinel is not None else ():
            await sentinel.aclose()
