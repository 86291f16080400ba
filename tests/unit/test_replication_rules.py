"""The doctor's rules for clusters and sentinels: each by itself, with how bad it is."""

from dataclasses import replace

import pytest

from faregate.domain.replication import (
    ClusterState,
    LiveNode,
    LiveRedis,
    Replica,
    SentinelState,
)
from faregate.domain.server import Severity
from faregate.ops.redis_rules import redis_symptoms
from well_redis import WELL_REDIS

SERVER = replace(WELL_REDIS, replicas=1, needs_replicas=True)
REPLICA = Replica(name="10.0.0.9:6379", is_online=True, lag_bytes=0, lag_s=0)
NODES = tuple(
    LiveNode(name=f"10.0.0.{number}:6379", shards=8, server=SERVER, replicas=(REPLICA,))
    for number in (1, 2)
)
CLUSTER = ClusterState(
    down_for=(),
    slots_unowned=0,
    shards_unowned=(),
    slots_moving=0,
    requires_full_coverage=False,
    node_timeout_ms=5_000,
)
SENTINELS = SentinelState(
    service="main",
    asked=("10.0.0.1:26379",),
    silent=(),
    known=3,
    quorum=2,
    primaries=("10.0.0.1:6379",),
    obstacle="",
)
ON_A_CLUSTER = LiveRedis(nodes=NODES, cluster=CLUSTER)
BEHIND_SENTINELS = LiveRedis(nodes=NODES[:1], sentinels=SENTINELS)


def cluster(**changed: object) -> LiveRedis:
    return replace(ON_A_CLUSTER, cluster=replace(CLUSTER, **changed))  # type: ignore[arg-type]


def sentinels(**changed: object) -> LiveRedis:
    return replace(BEHIND_SENTINELS, sentinels=replace(SENTINELS, **changed))  # type: ignore[arg-type]


def first(**changed: object) -> LiveRedis:
    """A cluster whose first node is another."""
    return replace(ON_A_CLUSTER, nodes=(replace(NODES[0], **changed), NODES[1]))  # type: ignore[arg-type]


RULES = {
    "down": (cluster(down_for=("10.0.0.1:6379",)), "error", "is down, say 10.0.0.1:6379"),
    "a lost shard": (
        cluster(slots_unowned=2, shards_unowned=(3, 4)),
        "error",
        "slots of the shards 3, 4",
    ),
    "a lost slot": (cluster(slots_unowned=2), "warning", "2 slots have no node"),
    "moving": (cluster(slots_moving=1), "warning", "1 slots are on their way"),
    "coverage": (cluster(requires_full_coverage=True), "warning", "stops as a whole"),
    "silent": (first(server=None), "error", "10.0.0.1:6379: the primary does not answer: 8 shards"),
    "alone": (first(replicas=()), "warning", "10.0.0.1:6379: the primary has no replica"),
    "beside its replica": (
        first(replicas=(replace(REPLICA, name="10.0.0.1:6380"),)),
        "warning",
        "10.0.0.1:6379: the primary and its replicas are on one host",
    ),
    "two on a host": (first(name="10.0.0.2:6380"), "warning", "2 primaries are on the host"),
    "two primaries": (
        sentinels(primaries=("10.0.0.1:6379", "10.0.0.2:6379")),
        "error",
        "several primaries: 10.0.0.1:6379, 10.0.0.2:6379",
    ),
    "a silent sentinel": (sentinels(silent=("10.0.0.1:26379",)), "warning", "10.0.0.1:26379"),
    "no quorum": (sentinels(obstacle="NOQUORUM 1 usable"), "error", "NOQUORUM 1 usable"),
    "two sentinels": (sentinels(known=2), "warning", "none of them may die"),
}


@pytest.mark.parametrize("found", [ON_A_CLUSTER, BEHIND_SENTINELS, cluster(node_timeout_ms=None)])
def test_where_all_is_well_nothing_is_said(found: LiveRedis) -> None:
    """Nor of what a user may not read."""
    assert list(redis_symptoms(found)) == []
    assert found.worst == SERVER


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_each_fault_is_one_symptom_with_a_remedy(rule: tuple[LiveRedis, str, str]) -> None:
    found, severity, detail = rule
    (symptom,) = redis_symptoms(found)
    assert (symptom.part, symptom.severity) == ("redis", Severity(severity))
    assert detail in symptom.detail
    assert symptom.remedy


def test_the_facts_of_a_cluster_are_the_worst_of_its_nodes() -> None:
    """Each by itself; a node that does not answer has none."""
    bad = replace(
        SERVER,
        version="7.0.15",
        memory_used=900,
        eviction_policy="allkeys-lru",
        append_fsync="no",
        needs_replicas=False,
        replica_lag_s=7,
        clock_ahead_ms=-9,
    )
    silent = replace(NODES[1], server=None)
    found = replace(ON_A_CLUSTER, nodes=(NODES[0], replace(NODES[1], server=bad), silent))
    assert found.worst == bad
