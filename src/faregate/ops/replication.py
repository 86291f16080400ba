"""The rules of the doctor for replicas, clusters and sentinels."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

from faregate.domain.replication import ClusterState, LiveNode, Replica, SentinelState
from faregate.domain.server import Severity, Symptom

#: The largest lag of a replica: in bytes, and in seconds since its last confirmation.
REPLICA_LAG_BYTES_MAX = 1_000_000
REPLICA_LAG_S_MAX = 10
#: The smallest number of sentinels of which one may die.
SENTINELS_MIN = 3

_GUIDE = "see docs/cluster.md"
_error = partial(Symptom, part="redis", severity=Severity.ERROR)
_warning = partial(Symptom, part="redis", severity=Severity.WARNING)


def replica_symptoms(node: LiveNode, *, is_alone: bool) -> Iterator[Symptom]:
    """Iterate over the symptoms of a primary and its replicas.

    Args:
        node: A primary that answers.
        is_alone: Whether it is one server, without sentinels or a cluster.
    """
    assert node.server is not None  # noqa: S101
    if node.server.replicas and not node.server.needs_replicas:
        yield _warning(
            detail="Redis accepts writes that no replica has: a failover loses them",
            remedy="redis-cli CONFIG SET min-replicas-to-write 1",
        )
    for replica in node.replicas:
        yield from _lags(replica)
    if node.server.refuses_writes:
        yield _error(
            detail="Redis refuses writes, since too few replicas follow it",
            remedy="start its replicas, and check their logs",
        )
    if not is_alone and not node.replicas:
        yield _warning(
            detail="the primary has no replica: a failover is impossible",
            remedy=f"start or add a replica: {_GUIDE}",
        )
    elif not is_alone and {one.host for one in node.replicas} == {node.host}:
        yield _warning(
            detail="the primary and its replicas are on one host: both fail with it",
            remedy=f"add a replica on another host: {_GUIDE}",
        )


def _lags(replica: Replica) -> Iterator[Symptom]:
    if not replica.is_online:
        yield _warning(
            detail=f"the replica {replica.name} still loads its copy: it cannot take over",
            remedy="wait, and check the replica's log if it does not end",
        )
    elif replica.lag_bytes > REPLICA_LAG_BYTES_MAX or replica.lag_s > REPLICA_LAG_S_MAX:
        yield _warning(
            detail=f"the replica {replica.name} is {replica.lag_bytes:,} bytes behind, and has been"
            f" silent for {replica.lag_s} s: a failover to it loses charges and their records",
            remedy="check the replica's log, and the network between both",
        )


def cluster_symptoms(cluster: ClusterState, nodes: Sequence[LiveNode]) -> Iterator[Symptom]:
    """Iterate over the symptoms of a cluster as a whole."""
    yield from _slots(cluster)
    if cluster.requires_full_coverage:
        yield _warning(
            detail="the cluster stops as a whole when one slot has no primary"
            " (cluster-require-full-coverage yes)",
            remedy="redis-cli --cluster call <node> CONFIG SET cluster-require-full-coverage no",
        )
    hosts = Counter(node.host for node in nodes if node.shards)
    for host in (host for host, count in hosts.items() if count > 1):
        yield _warning(
            detail=f"{hosts[host]} primaries are on the host {host}: their shards stop together",
            remedy=f"redis-cli -h <replica> CLUSTER FAILOVER, on another host: {_GUIDE}",
        )


def _slots(cluster: ClusterState) -> Iterator[Symptom]:
    if cluster.down_for:
        yield _error(
            detail=f"the cluster is down, say {', '.join(cluster.down_for)}",
            remedy="redis-cli --cluster check <node>",
        )
    if cluster.shards_unowned:
        numbers = ", ".join(map(str, cluster.shards_unowned))
        yield _error(
            detail=f"no node has the slots of the shards {numbers}: their users are not charged",
            remedy="redis-cli --cluster check <node>, then --cluster fix <node>",
        )
    elif cluster.slots_unowned:
        yield _warning(
            detail=f"{cluster.slots_unowned} slots have no node; no shard is in one of them",
            remedy="redis-cli --cluster check <node>, then --cluster fix <node>",
        )
    if cluster.slots_moving:
        yield _warning(
            detail=f"{cluster.slots_moving} slots are on their way to another node",
            remedy="wait for the end of the resharding, or redis-cli --cluster fix <node>",
        )


def sentinel_symptoms(found: SentinelState) -> Iterator[Symptom]:
    """Iterate over the symptoms of the sentinels of a service."""
    if len(found.primaries) > 1:
        yield _error(
            detail=f"sentinels name several primaries: {', '.join(found.primaries)}",
            remedy="check the network between them, and their logs",
        )
    if found.silent:
        yield _warning(
            detail=f"sentinels do not answer, or do not know the service:"
            f" {', '.join(found.silent)}",
            remedy="start them, or correct FAREGATE_REDIS_URL",
        )
    if found.obstacle:
        yield _error(
            detail=f"the sentinels cannot agree on a failover: {found.obstacle}",
            remedy="start the sentinels that are away, and check their logs",
        )
    elif found.known < SENTINELS_MIN:
        yield _warning(
            detail=f"{found.known} sentinels watch the service: none of them may die",
            remedy=f"run {SENTINELS_MIN} sentinels on hosts of their own: {_GUIDE}",
        )
