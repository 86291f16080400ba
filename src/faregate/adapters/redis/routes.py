"""Where the commands of the worker and of the command line go: the nodes, and connections to them.

A ledger lies on one server, on a service that sentinels watch, or on a cluster. Of a cluster, the
node of each shard is looked up in the topology, which is read again after a sign of change.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final, Protocol, TypeAlias

from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.connection import Connection, parse_url
from redis.exceptions import RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from faregate.adapters.redis.keys import Shard
from faregate.adapters.redis.sentinels import sentinel_pool
from faregate.adapters.redis.topology import Node, Topology, read_topology
from faregate.domain.errors import LedgerUnavailableError
from faregate.domain.redis_url import RedisKind, RedisUrl

#: How long a server may take to connect, and to answer, in seconds.
TIMEOUT_S: Final = 5.0
#: How long the first answer of a node may take, or that after a failure, in seconds.
PROBE_S_MAX: Final = 1.0
#: The first and the longest pause in which nothing is sent to such a node, in seconds.
PAUSE_S_MIN: Final = 0.5
PAUSE_S_MAX: Final = 4.0
#: The pause between two readings of the topology, in seconds.
TOPOLOGY_PAUSE_S: Final = 0.25
#: Options of the URL that are ignored: replies are bytes, and no command is sent twice.
_OPTIONS: Final[dict[str, Any]] = {
    "protocol": 2,
    "decode_responses": False,
    "socket_timeout": TIMEOUT_S,
    "socket_connect_timeout": TIMEOUT_S,
    "health_check_interval": 0,
    "retry": Retry(NoBackoff(), 0),
    # Notifications need RESP3.
    "maint_notifications_config": MaintNotificationsConfig(enabled=False),
}

#: A URL, or a client of the one server, whose connections are not used.
Address: TypeAlias = RedisUrl | Redis


class Routes(Protocol):
    """The nodes of a ledger, and their connections."""

    #: Whether the shards may lie on several nodes.
    is_cluster: bool

    @property
    def nodes(self) -> Sequence[Node]:
        """All primaries.

        Raises:
            LedgerUnavailableError: They are not known, since no node answers.
        """
        ...

    def node(self, shard: Shard) -> Node | None:
        """Return the primary of a shard; None if no node has it. Raises as `nodes` does."""
        ...

    def connect(self, node: Node) -> Connection:
        """Return a connection to a node, to be released.

        Raises:
            RedisError, OSError: There is none, or the node did not answer shortly before.
        """
        ...

    def put_back(self, node: Node, connection: Connection) -> None:
        """Take back a connection without replies that are due."""
        ...

    def note_failure(self, node: Node, error: Exception) -> None:
        """Note that a node did not answer."""
        ...

    def note_moved(self, shard: Shard, node: Node) -> None:
        """Note that a shard has moved to a node."""
        ...

    def note_doubt(self, node: Node) -> None:
        """Note that a node may be cut off from the others, so its topology may be an old one."""
        ...

    def update_topology(self) -> None:
        """Read the topology again, if there is one, and not just now."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


class OneServer:
    """The routes to one server, or to the primary of a service."""

    is_cluster = False

    def __init__(self, node: Node, pool: ConnectionPool) -> None:
        self.nodes = (node,)
        self._pool = pool

    def node(self, _shard: Shard) -> Node:
        """Return the server."""
        return self.nodes[0]

    def connect(self, _node: Node) -> Connection:
        """Return a connection; see `Routes`."""
        return self._pool.get_connection()

    def put_back(self, _node: Node, connection: Connection) -> None:
        """Take back a connection."""
        self._pool.release(connection)

    def note_failure(self, node: Node, error: Exception) -> None:
        """Do nothing: the next command connects again."""

    def note_moved(self, shard: Shard, node: Node) -> None:
        """Do nothing: all shards are here."""

    def note_doubt(self, node: Node) -> None:
        """Do nothing: there is no topology."""

    def update_topology(self) -> None:
        """Do nothing: there is no topology."""

    def close(self) -> None:
        """Close all connections."""
        self._pool.disconnect()


@dataclass(frozen=True, slots=True)
class _Pause:
    """A node to which nothing is sent for a while."""

    seconds: float
    ends_at: float
    #: Why it was left alone.
    error: Exception


class Cluster:
    """The routes to the primaries of a cluster.

    Nothing is sent to a node before it has answered a probe, and after it did not answer. So it
    delays the shards of other nodes by little.
    """

    is_cluster = True

    def __init__(self, url: RedisUrl) -> None:
        self._url = url
        options = dict(parse_url(url.server_url))  # type: ignore[no-untyped-call]
        of_one_node = {"host", "port", "db", "path"}
        self._options = {name: one for name, one in options.items() if name not in of_one_node}
        self._topology: Topology | None = None
        self._moved: dict[int, Node] = {}
        self._doubted: set[Node] = set()
        self._pools: dict[Node, ConnectionPool] = {}
        self._pauses: dict[Node, _Pause] = {}
        self._lock = Lock()
        self._update_at = 0.0

    @property
    def nodes(self) -> Sequence[Node]:
        """All primaries; see `Routes`."""
        return self._read().primaries

    def node(self, shard: Shard) -> Node | None:
        """Return the primary of a shard; see `Routes`."""
        return self._moved.get(shard.slot) or self._read().primary(shard.slot)

    def connect(self, node: Node) -> Connection:
        """Return a connection; see `Routes`."""
        pause = self._pauses.get(node)
        if pause is not None and time.monotonic() < pause.ends_at:
            raise pause.error
        if pause is not None or node not in self._pools:
            self._probe(node)
        return self._pools[node].get_connection()

    def put_back(self, node: Node, connection: Connection) -> None:
        """Take back a connection."""
        self._pools[node].release(connection)

    def note_failure(self, node: Node, error: Exception) -> None:
        """Leave a node alone for a while, for longer each time."""
        former = self._pauses.get(node)
        if former is not None and former.error is error:
            return
        seconds = PAUSE_S_MIN if former is None else min(2 * former.seconds, PAUSE_S_MAX)
        self._pauses[node] = _Pause(seconds, time.monotonic() + seconds, error)

    def note_moved(self, shard: Shard, node: Node) -> None:
        """Believe the node that says where a shard is, until the topology is read again."""
        self._moved[shard.slot] = node

    def note_doubt(self, node: Node) -> None:
        """Ask a node last when the topology is read again."""
        self._doubted.add(node)

    def update_topology(self) -> None:
        """Read the topology again; without an answer the last one stays."""
        with self._lock:
            if time.monotonic() < self._update_at:
                return
            known = () if self._topology is None else self._topology.primaries
            try:
                asked = [node for node in known if node not in self._pauses]
                self._topology = read_topology(self._url, asked, self._doubted)
                self._moved, self._doubted = {}, set()
            except LedgerUnavailableError:
                if self._topology is None:
                    raise
            finally:
                self._update_at = time.monotonic() + TOPOLOGY_PAUSE_S

    def _read(self) -> Topology:
        if self._topology is None:
            self._update_at = 0.0
            self.update_topology()
        assert self._topology is not None  # noqa: S101
        return self._topology

    def _probe(self, node: Node) -> None:
        """Ask a node whether it answers again, by a connection of its own."""
        pool = self._pool(node, socket_timeout=PROBE_S_MAX, socket_connect_timeout=PROBE_S_MAX)
        try:
            connection = pool.get_connection()
            connection.send_command("PING")  # type: ignore[no-untyped-call]
            with suppress(ResponseError):
                connection.read_response()
        except (RedisError, OSError) as error:
            self.note_failure(node, error)
            raise
        finally:
            pool.disconnect()
        with self._lock:
            known = self._pools.setdefault(node, self._pool(node))
        # Connections from before a pause may be dead.
        known.disconnect(inuse_connections=False)
        self._pauses.pop(node, None)

    def _pool(self, node: Node, **timeouts: float) -> ConnectionPool:
        given = {**self._options, **_OPTIONS, "driver_info": None, **timeouts}
        return ConnectionPool(host=node.host, port=node.port, **given)

    def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            pool.disconnect()


def routes_to(address: Address) -> Routes:
    """Return the routes to a ledger. Nothing connects before its first use."""
    if isinstance(address, Redis):
        pool = address.connection_pool
        # Over TCP, redis-py adds handlers of notifications to the options.
        given = {
            name: value
            for name, value in pool.connection_kwargs.items()
            if not name.startswith("maint_")
        }
        return _one_server(
            ConnectionPool(connection_class=pool.connection_class, **{**given, **_OPTIONS})
        )
    if address.kind is RedisKind.CLUSTER:
        return Cluster(address)
    if address.kind is RedisKind.SENTINEL:
        return OneServer(Node(address.service, 0), sentinel_pool(address, **_OPTIONS))
    maint = "maint_notifications_config"
    pool = ConnectionPool.from_url(address.server_url, **{maint: _OPTIONS[maint]})
    # After it, since for redis-py the options of a URL take precedence.
    pool.connection_kwargs.update(
        {name: value for name, value in _OPTIONS.items() if name != maint}
    )
    return _one_server(pool)


def _one_server(pool: ConnectionPool) -> OneServer:
    options = pool.connection_kwargs
    node = Node(options.get("path") or options.get("host", "localhost"), options.get("port", 0))
    return OneServer(node, pool)
