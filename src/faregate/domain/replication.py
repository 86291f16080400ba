"""Facts about the nodes of a ledger: primaries, their replicas, a cluster, sentinels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from faregate.domain.server import LiveServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A replica, as its primary sees it."""

    #: Host and port.
    name: str
    #: Whether it follows; otherwise it still loads a copy.
    is_online: bool
    #: The bytes that it has not confirmed, and the time since its last confirmation, in seconds.
    lag_bytes: int
    lag_s: int

    @property
    def host(self) -> str:
        """The host without its port."""
        return self.name.rpartition(":")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveNode:
    """A primary of the ledger, or its one server."""

    #: Host and port.
    name: str
    #: How many shards of the ledger it has.
    shards: int
    #: None if it does not answer.
    server: LiveServer | None
    replicas: tuple[Replica, ...] = ()

    @property
    def host(self) -> str:
        """The host without its port."""
        return self.name.rpartition(":")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterState:
    """A cluster as a whole."""

    #: The primaries that say that the cluster is down.
    down_for: tuple[str, ...]
    #: Slots that no primary has.
    slots_unowned: int
    #: Shards of the ledger that lie in such slots.
    shards_unowned: tuple[int, ...]
    #: Slots that are on the way from one primary to another.
    slots_moving: int
    #: Whether one slot without a primary stops all of them; None if the user may not read it.
    requires_full_coverage: bool | None
    #: After this time without an answer a node counts as failed; None if the user may not read it.
    node_timeout_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SentinelState:
    """The sentinels of a service."""

    service: str
    #: The sentinels of the URL, and those of them that do not answer.
    asked: tuple[str, ...]
    silent: tuple[str, ...]
    #: How many sentinels watch the service, as those that answer know.
    known: int
    #: How many of them must agree that the primary is dead.
    quorum: int
    #: The primaries that they name: one, unless they disagree.
    primaries: tuple[str, ...]
    #: Why they could not agree on a failover now; empty if they could.
    obstacle: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRedis:
    """The Redis of the ledger: one server, a service behind sentinels, or a cluster."""

    #: The primaries in a fixed order; at least one answers.
    nodes: tuple[LiveNode, ...]
    cluster: ClusterState | None = None
    sentinels: SentinelState | None = None

    @property
    def servers(self) -> tuple[LiveServer, ...]:
        """The primaries that answer."""
        return tuple(node.server for node in self.nodes if node.server is not None)

    @property
    def worst(self) -> LiveServer:
        """The worst value of each fact among all primaries; of one server its facts."""
        first, *others = self.servers
        return _worst([first, *others]) if others else first


def _worst(servers: Sequence[LiveServer]) -> LiveServer:
    fullest = max(servers, key=_used_part)
    return LiveServer(
        version=min((one.version for one in servers), key=_version),
        role=max(one.role for one in servers),
        memory_used=fullest.memory_used,
        memory_max=fullest.memory_max,
        eviction_policy=next(_evicting(servers), servers[0].eviction_policy),
        append_only=all(one.append_only for one in servers),
        append_failed=any(one.append_failed for one in servers),
        append_fsync=_least_synced(servers),
        replicas=min(one.replicas for one in servers),
        needs_replicas=all(one.needs_replicas for one in servers),
        refuses_writes=any(one.refuses_writes for one in servers),
        replica_lag_bytes=max(one.replica_lag_bytes for one in servers),
        replica_lag_s=max(one.replica_lag_s for one in servers),
        clock_ahead_ms=max((one.clock_ahead_ms for one in servers), key=abs),
    )


def _used_part(server: LiveServer) -> float:
    # A server without a limit is the worst.
    return server.memory_used / server.memory_max if server.memory_max else float("inf")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdecimal())


def _evicting(servers: Sequence[LiveServer]) -> Iterator[str]:
    policies = (one.eviction_policy for one in servers)
    return (policy for policy in policies if policy != "noeviction")


def _least_synced(servers: Sequence[LiveServer]) -> str | None:
    found = {one.append_fsync for one in servers}
    return next((one for one in ("no", None, "everysec", "always") if one in found), None)
