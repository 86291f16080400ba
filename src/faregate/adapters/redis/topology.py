"""The topology of a Redis Cluster: which primary has which slots.

redis-py's cluster client reads it, and nothing else of that client is used: connections, pools and
retries are ours, so no command that may have been executed is repeated unnoticed.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from redis.cluster import ClusterNode, NodesManager
from redis.connection import parse_url
from redis.exceptions import RedisClusterException, RedisError
from redis.maint_notifications import MaintNotificationsConfig

from faregate.adapters.redis.keys import SLOTS
from faregate.domain.errors import LedgerUnavailableError
from faregate.domain.redis_url import RedisUrl

#: How long one node may take to connect, and to answer, in seconds.
ANSWER_S_MAX = 1.0
_OPTIONS = {
    "protocol": 2,
    "decode_responses": False,
    "socket_timeout": ANSWER_S_MAX,
    "socket_connect_timeout": ANSWER_S_MAX,
    "health_check_interval": 0,
    # To tell it redis-py would look up its own version for each node, which takes ten times as long
    # as the question.
    "driver_info": None,
}


@dataclass(frozen=True, slots=True, order=True)
class Node:
    """A server of a cluster."""

    host: str
    port: int

    @property
    def name(self) -> str:
        """Its address, for people."""
        return f"{self.host}:{self.port}" if self.port else self.host


@dataclass(frozen=True, slots=True)
class Topology:
    """The primaries of a cluster, and their replicas."""

    #: redis-py's nodes of each slot, the primary first; slots without one are missing.
    by_slot: Mapping[int, Sequence[Any]] = field(repr=False)
    #: The replicas of each primary.
    replicas: Mapping[Node, tuple[Node, ...]]

    @property
    def primaries(self) -> tuple[Node, ...]:
        """All primaries with slots, in a fixed order."""
        return tuple(sorted(self.replicas))

    def primary(self, slot: int) -> Node | None:
        """Return the primary of a slot; None if no server has it."""
        nodes = self.by_slot.get(slot)
        return None if nodes is None else _node(nodes[0])

    @classmethod
    def of(cls, by_slot: Mapping[int, Sequence[Any]]) -> Self:
        """Return the topology from redis-py's nodes of each slot."""
        # All slots of a range share one list.
        lists = {id(nodes): nodes for nodes in by_slot.values()}
        found = [[_node(one) for one in nodes] for nodes in lists.values()]
        return cls(by_slot, {nodes[0]: tuple(sorted(nodes[1:])) for nodes in found})


@dataclass(frozen=True, slots=True)
class SlotRanges:
    """Which primary has which slots, as a node answers CLUSTER SLOTS."""

    #: First slot, last slot and primary of each range, in the order of the slots.
    ranges: Sequence[tuple[int, int, Node]]

    @classmethod
    def of(cls, reply: Sequence[Any], asked: Node | None) -> Self:
        """Read a reply. A primary without an address is at the host that was asked."""
        host_asked = "" if asked is None else asked.host
        return cls(
            sorted(
                (first, last, Node(host.decode() if host else host_asked, port))
                for first, last, (host, port, *_), *_ in reply
            )
        )

    def owner(self, slot: int) -> Node | None:
        """Return the primary of a slot; None if no node has it."""
        place = bisect_right(self.ranges, slot, key=lambda one: one[0]) - 1
        if place < 0:
            return None
        _, last, node = self.ranges[place]
        return node if slot <= last else None


def read_topology(
    url: RedisUrl, known: Iterable[Node] = (), doubted: Collection[Node] = ()
) -> Topology:
    """Ask the nodes of a cluster, one after another until one knows who has all slots.

    If none does, the answer with the most slots counts.

    It takes some milliseconds of processor time, and a second for each node that does not answer.
    So an event loop runs it in a thread.

    Args:
        url: The URL of the cluster, whose hosts are asked, too.
        known: Nodes of an earlier topology.
        doubted: Nodes that may be cut off from the others, so they are asked last.

    Raises:
        LedgerUnavailableError: No node answers.
    """
    found: Topology | None = None
    problem = ""
    for node in _order(url, known, doubted):
        try:
            told = _ask(url, node)
        except (RedisClusterException, RedisError, OSError) as error:
            problem = problem or str(error)
            continue
        # A node that has not joined yet knows no slot of the others.
        if found is None or len(told.by_slot) > len(found.by_slot):
            found = told
        if len(found.by_slot) == SLOTS:
            break
    if found is None:
        raise LedgerUnavailableError(f"no node of the cluster answers: {problem}")
    return found


def _ask(url: RedisUrl, node: Node) -> Topology:
    """Return what a node says. Nodes without an address are at the host that was asked."""
    options = _connection_options(parse_url(url.server_url))  # type: ignore[no-untyped-call]
    if options.pop("connection_class", None) is not None:
        options["ssl"] = True
    manager = None
    try:
        manager = NodesManager(
            [_start(node.host, node.port)],
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
            dynamic_startup_nodes=False,
            address_remap=lambda address: (address[0] or node.host, address[1]),
            **options,
        )
        return Topology.of(manager.slots_cache)
    finally:
        if manager is not None:
            manager.close()


def _node(one: Any) -> Node:
    return Node(one.host, int(one.port))


def _start(host: str, port: int) -> ClusterNode:
    return ClusterNode(host, port)  # type: ignore[no-untyped-call]


def _connection_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the URL for connections to any node, with ours."""
    of_one_node = {"host", "port", "db", "path"}
    return {name: value for name, value in options.items() if name not in of_one_node} | _OPTIONS


def _order(url: RedisUrl, known: Iterable[Node], doubted: Collection[Node]) -> Sequence[Node]:
    """Return all nodes that may be asked, the doubted ones last."""
    nodes = dict.fromkeys([*known, *(Node(*seed) for seed in url.seeds)])
    return sorted(nodes, key=doubted.__contains__)
