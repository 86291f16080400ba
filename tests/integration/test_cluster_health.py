"""What doctor, status and verify see of a cluster and of sentinels: each fault, by its node."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from cluster_rig import Cluster, node_id, running_cluster
from commands import CommandLine
from faregate.adapters.redis.server import RedisServer
from faregate.cli.servers import Binaries
from faregate.domain.errors import LedgerUnavailableError
from faregate.domain.replication import LiveRedis
from faregate.ops.redis_rules import redis_symptoms
from sentinel_rig import SERVICE, Sentinels, running_sentinels
from tcp_redis import TcpRedis
from waiting import wait_for

pytestmark = [pytest.mark.redis, pytest.mark.cluster, pytest.mark.long]

SHARD_COUNT = 16
#: Enough for any server that is empty.
MEMORY_MAX = 2**40
#: What is so with each cluster of the tests, whose nodes are on one host.
ON_ONE_HOST = ("and its replicas are on one host", "primaries are on the host 127.0.0.1")


@pytest.fixture(scope="module")
def cluster(binaries: Binaries) -> Iterator[Cluster]:
    """A cluster with nothing to find, but for its one host."""
    with running_cluster(binaries.redis) as running:
        for node in running.nodes:
            make_well(node)
            set_config(node, "min-replicas-to-write", 1)
        yield running


@pytest.fixture
def sentinels(binaries: Binaries) -> Iterator[Sentinels]:
    with running_sentinels(binaries.redis, replicas=1) as running:
        for server in running.servers:
            make_well(server)
        yield running


def make_well(server: TcpRedis) -> None:
    set_config(server, "maxmemory", MEMORY_MAX)
    set_config(server, "appendfsync", "everysec")


def set_config(server: TcpRedis, name: str, value: object) -> None:
    server.ask("CONFIG", "SET", name, value)


def inspected(url: str) -> LiveRedis:
    with closing(RedisServer.from_url(url, shard_count=SHARD_COUNT)) as server:
        return server.inspect()


def details(url: str) -> list[str]:
    """What is wrong, but for the one host."""
    found = [symptom.detail for symptom in redis_symptoms(inspected(url))]
    return [text for text in found if not any(said in text for said in ON_ONE_HOST)]


def test_each_primary_is_shown_with_its_shards_and_its_replicas(cluster: Cluster) -> None:
    found = inspected(cluster.url)
    assert [node.name for node in found.nodes] == sorted(
        node.address for node in cluster.primaries()
    )
    assert sorted(node.shards for node in found.nodes) == [5, 5, 6]
    for node in found.nodes:
        (primary,) = [one for one in cluster.primaries() if one.address == node.name]
        assert {one.name for one in node.replicas} == {
            one.address for one in cluster.replicas(primary)
        }
    assert found.cluster is not None
    assert (found.cluster.slots_unowned, found.cluster.slots_moving) == (0, 0)
    assert (found.cluster.requires_full_coverage, found.cluster.node_timeout_ms) == (False, 2_000)
    assert found.worst.version == found.servers[0].version
    assert details(cluster.url) == []
    said = [symptom.detail for symptom in redis_symptoms(found)]
    for word in ON_ONE_HOST:
        assert any(word in text for text in said)


def test_a_fault_of_one_node_is_named_with_the_node(cluster: Cluster) -> None:
    """And with nothing else."""
    node = cluster.primaries()[0]
    for name, bad, good, word in (
        ("maxmemory-policy", "allkeys-lru", "noeviction", "evicts keys"),
        ("min-replicas-to-write", "0", "1", "that no replica has"),
        ("maxmemory", "0", str(MEMORY_MAX), "no memory limit"),
    ):
        set_config(node, name, bad)
        (said,) = details(cluster.url)
        set_config(node, name, good)
        assert said.startswith(f"{node.address}: Redis ")
        assert word in said


def test_a_cluster_that_one_dead_node_stops_is_warned_of(cluster: Cluster) -> None:
    set_config(cluster.primaries()[1], "cluster-require-full-coverage", "yes")
    (said,) = details(cluster.url)
    set_config(cluster.primaries()[1], "cluster-require-full-coverage", "no")
    assert "stops as a whole" in said


def test_slots_on_their_way_and_slots_without_a_node_are_seen(cluster: Cluster) -> None:
    """Those of our shards, by the numbers of these."""
    slot = 1
    giving = cluster.owner(slot)
    taking = next(one for one in cluster.primaries() if one is not giving)
    giving.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(taking))
    assert details(cluster.url) == ["1 slots are on their way to another node"]
    giving.ask("CLUSTER", "SETSLOT", slot, "STABLE")
    for one in cluster.primaries():
        one.ask("CLUSTER", "DELSLOTS", slot)
    unowned = "1 slots have no node; no shard is in one of them"
    wait_for(lambda: unowned in details(cluster.url), "the slot has no node")
    giving.ask("CLUSTER", "ADDSLOTS", slot)
    wait_for(lambda: details(cluster.url) == [], "the slot has a node again")


def test_a_primary_that_does_not_answer_hides_no_other(cluster: Cluster) -> None:
    """Its shards are counted; and a primary without a replica is warned of."""
    node = cluster.primaries()[0]
    (replica,) = cluster.replicas(node)
    # Without its replica, nobody succeeds it.
    with replica.hanging(), node.hanging():
        found = inspected(cluster.url)
        (silent,) = [one for one in found.nodes if one.server is None]
        assert silent.name == node.address
        assert len(found.servers) == 2
        (said,) = [text for text in details(cluster.url) if node.address in text]
        assert f"the primary does not answer: {silent.shards} shards stop" in said
    cluster.wait_until_agreed()


def test_a_primary_without_a_replica_is_warned_of(cluster: Cluster) -> None:
    """And told that it refuses writes, where it needs one."""
    primary = cluster.primaries()[0]
    (replica,) = cluster.replicas(primary)
    replica.kill()
    expected = [
        f"{primary.address}: Redis refuses writes, since too few replicas follow it",
        f"{primary.address}: the primary has no replica: a failover is impossible",
    ]
    wait_for(lambda: details(cluster.url) == expected, "both are seen")
    replica.start()
    cluster.wait_until_agreed()


def test_sentinels_are_asked_each_and_for_their_quorum(sentinels: Sentinels) -> None:
    """One may die; with two of three dead no failover is possible, and none answers in the end."""
    found = inspected(sentinels.url)
    assert found.sentinels is not None
    assert (found.sentinels.service, found.sentinels.known, found.sentinels.quorum) == (
        SERVICE,
        3,
        2,
    )
    assert [node.name for node in found.nodes] == [sentinels.primary().address]
    assert [one.name for node in found.nodes for one in node.replicas] == [
        one.address for one in sentinels.replicas(sentinels.primary())
    ]
    no_wait = "Redis accepts writes that no replica has: a failover loses them"
    assert details(sentinels.url) == [no_wait]
    first, second, third = sentinels.sentinels
    first.kill()
    silent = "sentinels do not answer, or do not know the service: "
    assert details(sentinels.url) == [no_wait, f"{silent}{first.address}"]
    second.kill()
    wait_for(
        lambda: any(
            "cannot agree on a failover: NOQUORUM" in one for one in details(sentinels.url)
        ),
        "the last sentinel notices that it is alone",
    )
    third.kill()
    with pytest.raises(LedgerUnavailableError):
        inspected(sentinels.url)


@pytest.mark.postgres
def test_the_commands_show_the_nodes_and_name_a_queue_without_a_place(
    cluster: Cluster,
    database_url: str,
    ledger_redis: str,
    command_line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the fields of one server, which are those of the worst node."""
    monkeypatch.setenv("FAREGATE_REDIS_URL", cluster.url)
    monkeypatch.setenv("FAREGATE_POSTGRES_URL", database_url)
    queue = [one for one in command_line.tell("doctor", code=3) if one["part"] == "queue"]
    assert ["FAREGATE_QUEUE_URL is not set: RQ's queue" in one["detail"] for one in queue] == [True]
    monkeypatch.setenv("FAREGATE_QUEUE_URL", ledger_redis)
    told = command_line.tell("status", code=1)
    addresses = sorted(node.address for node in cluster.primaries())
    assert [node["name"] for node in told["redis"]["nodes"]] == addresses
    assert told["redis"]["memory_max"] == MEMORY_MAX
    assert told["redis"]["cluster"]["slots_unowned"] == 0
    assert told["redis"]["sentinels"] is None
    shown = command_line.run("status").out
    for address in addresses:
        assert f"node {address}, " in shown
    warnings = command_line.tell("verify")["warnings"]
    assert any(ON_ONE_HOST[1] in one["detail"] for one in warnings)
