"""The URL of a Redis: one server, a Redis Cluster, or a service that sentinels watch.

    redis://user:password@host:6379/0
    redis+cluster://user:password@host:6379,host:6379
    redis+sentinel://user:password@host:26379,host:26379/service/0

With `rediss` all connections use TLS, those to sentinels included.
"""

import re
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

from faregate.domain.errors import ConfigurationError

_SCHEMES: Final = (
    "redis", "rediss", "unix",
    "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel",
)  # fmt: skip
#: The schemes of URLs, for people.
SCHEMES_TEXT: Final = "redis://, redis+cluster://, redis+sentinel://, the same with rediss, unix://"
#: The rule about the server of RQ's queue, for people.
QUEUE_IN_CLUSTER: Final = (
    "RQ's queue cannot live in a Redis Cluster; name a server outside of it, as redis://host:port,"
    " or sentinels, as redis+sentinel://host:port,host:port/service"
)
_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_PORT_MAX: Final = 65_535
_DATABASE: Final = re.compile(r"(/\d*)?")
_HOST: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\[\]:@/?#,\s]+)(?::(?P<port>\d{1,5}))?")
#: Options of a URL that are the login at the sentinels.
_SENTINEL_LOGIN: Final = {"sentinel_username": "username", "sentinel_password": "password"}
_REDIS_FORM: Final = (
    "a Redis URL is redis://host:port/number, with a port from 0 to 65535; what stands for itself"
    " in a password, such as : / @ and #, is written in percent"
)
_CLUSTER_FORM: Final = (
    "the URL of a cluster is redis+cluster://user:password@host:port,host:port, without a database"
)
_SENTINEL_FORM: Final = (
    "the URL of sentinels is redis+sentinel://user:password@host:port,host:port/service/number"
)


class RedisKind(Enum):
    """How the primary of a key is found."""

    #: There is one server.
    SERVER = auto()
    #: A Redis Cluster: each primary has a part of the slots.
    CLUSTER = auto()
    #: Sentinels know the primary of a service.
    SENTINEL = auto()


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A parsed URL."""

    kind: RedisKind
    #: The URL of the server; of a cluster or a service, the URL of its first host. It may hold a
    #: password.
    server_url: str = field(repr=False)
    #: The hosts and ports of a cluster or of sentinels to begin with; empty for one server.
    seeds: tuple[tuple[str, int], ...] = ()
    #: The name of the service that the sentinels watch.
    service: str = ""
    #: The login at the sentinels: `username` and `password`.
    sentinel_login: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @property
    def is_cluster(self) -> bool:
        """Whether it is the URL of a cluster."""
        return self.kind is RedisKind.CLUSTER

    @classmethod
    def parse(cls, url: str) -> Self:
        """Parse a URL.

        Raises:
            ConfigurationError: It is ill-formed. The error does not quote it, since it may hold a
                password.
        """
        scheme = url.partition("://")[0]
        if scheme not in _SCHEMES or "://" not in url:
            raise ConfigurationError(
                f"a Redis URL starts with {SCHEMES_TEXT}, such as redis://host:port/number"
            )
        tls, _, kind = scheme.partition("+")
        if kind == "cluster":
            return cls._cluster(url, tls)
        if kind == "sentinel":
            return cls._sentinel(url, tls)
        _check_server(url)
        return cls(RedisKind.SERVER, url)

    @classmethod
    def _cluster(cls, url: str, tls: str) -> Self:
        login, seeds, path, query = _parts(url, _PORT, _CLUSTER_FORM)
        if path not in {"", "/", "/0"}:
            raise ConfigurationError(_CLUSTER_FORM)
        host, port = seeds[0]
        return cls(
            RedisKind.CLUSTER, f"{tls}://{login}{_bracketed(host)}:{port}/0{_query(query)}", seeds
        )

    @classmethod
    def _sentinel(cls, url: str, tls: str) -> Self:
        login, seeds, path, query = _parts(url, _SENTINEL_PORT, _SENTINEL_FORM)
        service, _, database = path.removeprefix("/").partition("/")
        if not service or not (database.isdecimal() or not database):
            raise ConfigurationError(_SENTINEL_FORM)
        given = {name: value for name, value in query if name in _SENTINEL_LOGIN}
        rest = [pair for pair in query if pair[0] not in _SENTINEL_LOGIN]
        host, port = seeds[0]
        return cls(
            RedisKind.SENTINEL,
            f"{tls}://{login}{_bracketed(host)}:{port}/{database or 0}{_query(rest)}",
            seeds,
            service,
            tuple((_SENTINEL_LOGIN[name], value) for name, value in given.items()),
        )


def _check_server(url: str) -> None:
    try:
        # Read only for its error.
        _ = urlsplit(url).port
    except ValueError:
        # The message of the error quotes the URL, which may hold a password.
        raise ConfigurationError(_REDIS_FORM) from None
    # For an invalid database number redis-py would use 0.
    if not (url.startswith("unix://") or _DATABASE.fullmatch(urlsplit(url).path)):
        raise ConfigurationError(_REDIS_FORM)


def _parts(
    url: str, default_port: int, form: str
) -> tuple[str, tuple[tuple[str, int], ...], str, list[tuple[str, str]]]:
    """Return the login with its @, the hosts with ports, the path, and the options."""
    try:
        split = urlsplit(url)
        # The query is read strictly, since an option that is lost would change the connection.
        query = parse_qsl(split.query, keep_blank_values=True, strict_parsing=bool(split.query))
    except ValueError:
        raise ConfigurationError(form) from None
    login, at, hosts = split.netloc.rpartition("@")
    seeds = tuple(_seed(text, default_port, form) for text in hosts.split(","))
    if split.fragment or "@" in login:
        raise ConfigurationError(form)
    return login + at, tuple(dict.fromkeys(seeds)), split.path, query


def _seed(text: str, default_port: int, form: str) -> tuple[str, int]:
    found = _HOST.fullmatch(text.strip())
    if found is None:
        raise ConfigurationError(form)
    port = int(found["port"] or default_port)
    if not 0 < port <= _PORT_MAX:
        raise ConfigurationError(form)
    return found["host"].strip("[]"), port


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _query(pairs: list[tuple[str, str]]) -> str:
    return f"?{urlencode(pairs)}" if pairs else ""
