"""The rules of the doctor for each server of the ledger: memory, disk, role.

Those for replicas, clusters and sentinels are in `replication`.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from faregate.domain.replication import LiveNode, LiveRedis
from faregate.domain.server import LiveServer, Severity, Symptom
from faregate.ops.replication import cluster_symptoms, replica_symptoms, sentinel_symptoms

#: The used part of Redis' memory limit that is a warning, in percent.
MEMORY_PERCENT_MAX = 90

_error = partial(Symptom, severity=Severity.ERROR)
_warning = partial(Symptom, severity=Severity.WARNING)


def redis_symptoms(found: LiveRedis) -> Iterator[Symptom]:
    """Iterate over the symptoms of all nodes, each with the name of its node, then of the whole."""
    is_alone = found.cluster is None
    for node in found.nodes:
        for symptom in _node_symptoms(node, is_alone=is_alone and found.sentinels is None):
            yield symptom if is_alone else replace(symptom, detail=f"{node.name}: {symptom.detail}")
    if found.cluster is not None:
        yield from cluster_symptoms(found.cluster, found.nodes)
    if found.sentinels is not None:
        yield from sentinel_symptoms(found.sentinels)


def _node_symptoms(node: LiveNode, *, is_alone: bool) -> Iterator[Symptom]:
    if node.server is None:
        yield _error(
            part="redis",
            detail=f"the primary does not answer: {node.shards} shards stop until a replica takes"
            " its place",
            remedy="start it, and check its log: see docs/cluster.md",
        )
    else:
        yield from _server_symptoms(node.server)
        yield from replica_symptoms(node, is_alone=is_alone)


def _server_symptoms(server: LiveServer) -> Iterator[Symptom]:
    error, warning = partial(_error, part="redis"), partial(_warning, part="redis")
    if server.role != "master":
        yield error(
            detail="Redis is a replica, and refuses writes",
            remedy="set FAREGATE_REDIS_URL to its primary",
        )
    if server.eviction_policy != "noeviction":
        yield error(
            detail=f"Redis evicts keys ({server.eviction_policy}): it loses balances and records",
            remedy="redis-cli CONFIG SET maxmemory-policy noeviction",
        )
    yield from _append_only(server)
    if not server.memory_max:
        yield warning(
            detail="Redis has no memory limit: the system kills it when memory runs out",
            remedy="redis-cli CONFIG SET maxmemory <bytes>",
        )
    elif 100 * server.memory_used >= MEMORY_PERCENT_MAX * server.memory_max:
        yield error(
            detail=f"Redis uses {100 * server.memory_used // server.memory_max} % of its memory;"
            " a full Redis refuses charges",
            remedy="redis-cli CONFIG SET maxmemory <bytes>, and check the backlog",
        )


def _append_only(server: LiveServer) -> Iterator[Symptom]:
    error = partial(_error, part="redis")
    if not server.append_only:
        yield error(
            detail="Redis writes no append-only file: a restart loses charges and their records",
            remedy="redis-cli CONFIG SET appendonly yes",
        )
    elif server.append_failed:
        yield error(
            detail="Redis cannot write its append-only file",
            remedy="free space on its disk, and check its log",
        )
    elif server.append_fsync == "no":
        yield error(
            detail="Redis does not sync its append-only file: a power loss loses up to 30 s",
            remedy="redis-cli CONFIG SET appendfsync everysec",
        )
