"""Connections to the primary of a service that sentinels watch.

Each new connection asks the sentinels for the primary. A connection to a server that has become a
replica is closed at its first refused write, so the next command asks again.
"""

from typing import Any

from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.connection import SSLConnection, parse_url
from redis.exceptions import RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from faregate.domain.errors import LedgerUnavailableError
from faregate.domain.redis_url import RedisUrl
from faregate.domain.replication import SentinelState

#: How long one sentinel may take to connect, and to answer, in seconds.
ANSWER_S_MAX = 1.0
_OF_ONE_SERVER = frozenset({"host", "port", "connection_class"})
_OF_THE_SERVICE = frozenset({"db", "username", "password", "client_name"})


def sentinel_pool(url: RedisUrl, **given: Any) -> ConnectionPool:
    """Return a pool of connections to the primary of a service. Nothing connects yet.

    Args:
        url: The URL of sentinels.
        given: Options of redis-py for the connections to the primary; they override the URL.
    """
    options: dict[str, Any] = dict(parse_url(url.server_url))  # type: ignore[no-untyped-call]
    is_tls = options.get("connection_class") is SSLConnection
    options = {name: value for name, value in options.items() if name not in _OF_ONE_SERVER}
    return SentinelConnectionPool(  # type: ignore[no-untyped-call]
        url.service, _manager(url), ssl=is_tls, is_master=True, **options | given
    )


def ask_sentinels(url: RedisUrl) -> SentinelState:
    """Ask each sentinel of a URL about its service.

    Raises:
        LedgerUnavailableError: None answers, or none knows the service.
    """
    told: dict[str, dict[str, Any]] = {}
    obstacle = ""
    asked = tuple(f"{host}:{port}" for host, port in url.seeds)
    manager = _manager(url)
    for name, sentinel in zip(asked, manager.sentinels, strict=True):
        try:
            # A dict in RESP2, which its type does not say.
            services: Any = sentinel.sentinel_masters()
            told[name] = services[url.service]
            obstacle = obstacle or _obstacle(sentinel, url.service)
        except (RedisError, OSError, KeyError):
            continue
    manager.close()
    if not told:
        raise LedgerUnavailableError(f"no sentinel answers that knows the service {url.service}")
    return SentinelState(
        service=url.service,
        asked=asked,
        silent=tuple(name for name in asked if name not in told),
        known=max(int(one["num-other-sentinels"]) + 1 for one in told.values()),
        quorum=max(int(one["quorum"]) for one in told.values()),
        primaries=tuple(sorted({f"{one['ip']}:{one['port']}" for one in told.values()})),
        obstacle=obstacle,
    )


def _obstacle(sentinel: Redis, service: str) -> str:
    """Return why sentinels cannot agree on a failover now."""
    try:
        sentinel.execute_command("SENTINEL CKQUORUM", service)  # type: ignore[no-untyped-call]
    except ResponseError as error:
        # Other errors, such as a missing right, say nothing about a failover.
        return str(error) if str(error).startswith("NOQUORUM") else ""
    return ""


def _manager(url: RedisUrl) -> Sentinel:
    options: dict[str, Any] = dict(parse_url(url.server_url))  # type: ignore[no-untyped-call]
    is_tls = options.get("connection_class") is SSLConnection
    shared = {name: value for name, value in options.items() if name not in _OF_ONE_SERVER}
    return Sentinel(  # type: ignore[no-untyped-call]
        url.seeds, sentinel_kwargs=_sentinel_options(url, shared, is_tls=is_tls)
    )


def _sentinel_options(url: RedisUrl, options: dict[str, Any], *, is_tls: bool) -> dict[str, Any]:
    """Return the options of connections to sentinels: TLS as for the primary, a login apart."""
    shared = {name: value for name, value in options.items() if name not in _OF_THE_SERVICE}
    return {
        **shared,
        **dict(url.sentinel_login),
        "ssl": is_tls,
        "protocol": 2,
        "socket_timeout": ANSWER_S_MAX,
        "socket_connect_timeout": ANSWER_S_MAX,
        "retry": Retry(NoBackoff(), 0),
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
