"""The servers of the tests of clusters: each fault that they make has happened."""

from collections.abc import Iterator

import pytest

from cluster_rig import SLOTS, Cluster, owners_seen_by, running_cluster, slots_of
from cut_replication import replication_cut
from faregate.cli.servers import Binaries
from sentinel_rig import Sentinels, running_sentinels
from slot_moves import add_primary, move_slots, remove_primary
from tcp_redis import TcpRedis
from waiting import wait_for

pytestmark = [pytest.mark.redis, pytest.mark.cluster]

STREAM = b"s{0}"
#: The slot of `0`.
SLOT = 13_907


@pytest.fixture
def cluster(binaries: Binaries) -> Iterator[Cluster]:
    with running_cluster(binaries.redis) as running:
        yield running


@pytest.fixture
def sentinels(binaries: Binaries) -> Iterator[Sentinels]:
    with running_sentinels(binaries.redis) as running:
        yield running


def append(node: TcpRedis, count: int) -> None:
    for number in range(count):
        node.client.xadd(STREAM, {"n": number})


def test_a_cluster_serves_all_slots_and_its_replicas_follow(cluster: Cluster) -> None:
    """Three primaries with as many slots each, and a replica each, which has what they have."""
    primaries = cluster.primaries()
    counts = sorted(len(slots_of(node)) for node in primaries)
    assert counts == [SLOTS // 3, SLOTS // 3, SLOTS // 3 + 1]
    assert [len(cluster.replicas(node)) for node in primaries] == [1, 1, 1]
    owner = cluster.owner(SLOT)
    append(owner, 3)
    assert owner.client.wait(1, 5_000) == 1


@pytest.mark.long
def test_a_killed_primary_is_succeeded_and_follows_when_it_is_back(cluster: Cluster) -> None:
    """All others agree; what the replica had got is there, and the next failover finds it."""
    for count in (3, 6):
        owner = cluster.owner(SLOT)
        append(owner, 3)
        assert owner.client.wait(1, 5_000) == 1
        failover = cluster.kill_primary(owner)
        assert failover.successor.client.xlen(STREAM) == count
        cluster.revive(failover)
        assert cluster.replicas(failover.successor) == [owner]


def test_a_promoted_replica_lacks_what_was_cut_off(cluster: Cluster) -> None:
    """Exactly the last records, for the primary that comes back, too."""
    owner = cluster.owner(SLOT)
    append(owner, 3)
    assert owner.client.wait(1, 5_000) == 1
    with replication_cut(owner, cluster.replicas(owner)) as cut:
        append(owner, 5)
        assert cut.lacks(STREAM) == 5
        failover = cluster.kill_primary(owner)
    assert failover.successor.client.xlen(STREAM) == 3
    cluster.revive(failover)
    append(failover.successor, 1)
    assert failover.successor.client.wait(1, 5_000) == 1


@pytest.mark.long
def test_slots_move_and_nodes_come_and_go(cluster: Cluster) -> None:
    """With all that is in them; the rest of the cluster agrees."""
    append(cluster.owner(SLOT), 3)
    first, second = [node for node in cluster.primaries() if node is not cluster.owner(SLOT)]
    move_slots(cluster, [SLOT], first)
    assert cluster.owner(SLOT) is first
    move_slots(cluster, range(SLOT - 5, SLOT + 5), second)
    added = add_primary(cluster)
    assert len(slots_of(added)) == SLOTS // 4
    move_slots(cluster, [SLOT], added)
    for leaving in (first, added):
        remove_primary(cluster, leaving)
        assert not leaving.is_alive
    assert sum(map(len, owners_seen_by(second).values())) == SLOTS
    assert cluster.owner(SLOT).client.xlen(STREAM) == 3


@pytest.mark.long
def test_sentinels_name_another_primary_and_the_killed_one_follows(sentinels: Sentinels) -> None:
    """Whose replicas had got nothing of the last records, which nobody has then."""
    primary = sentinels.primary()
    append(primary, 3)
    assert primary.client.wait(2, 5_000) == 2
    with replication_cut(primary, sentinels.replicas(primary)) as cut:
        append(primary, 5)
        assert cut.lacks(STREAM) == 5
        failover = sentinels.kill_primary(primary)
    assert failover.successor is not primary
    assert failover.successor.client.xlen(STREAM) == 3
    sentinels.revive(failover)
    assert primary in sentinels.replicas(failover.successor)
    append(failover.successor, 1)
    assert failover.successor.client.wait(2, 5_000) == 2


@pytest.mark.long
def test_a_primary_that_hangs_too_long_is_succeeded(cluster: Cluster) -> None:
    """Its process is stopped; when it runs again, it follows."""
    owner = cluster.owner(SLOT)
    (heir,) = cluster.replicas(owner)
    with owner.hanging():
        wait_for(lambda: SLOT in slots_of(heir), "the replica is elected")
    wait_for(lambda: cluster.replicas(heir) == [owner], "the one that hung follows")
    cluster.wait_until_agreed()
