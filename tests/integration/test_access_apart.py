"""The users of `faregate access` on the nodes of a cluster, and on sentinels."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

from cluster_rig import Cluster, running_cluster
from faregate.adapters.redis import access
from faregate.adapters.redis.access import RedisUser
from faregate.adapters.redis.topology import read_topology
from faregate.cli.servers import Binaries
from faregate.domain.errors import LedgerUnavailableError
from faregate.domain.redis_url import RedisUrl
from faregate_worker.runtime import open_queue
from least_rights import SECRET, make_users, tell
from sentinel_rig import Sentinels, running_sentinels
from waiting import WAIT_S_MAX

pytestmark = pytest.mark.redis


def as_user(url: str, user: RedisUser) -> str:
    return url.replace("://", f"://{user.name}:{SECRET}@")


@pytest.fixture(scope="module")
def cluster(binaries: Binaries) -> Iterator[Cluster]:
    with running_cluster(binaries.redis, replicas=0) as running:
        for node in running.nodes[1:]:
            make_users(node.client)
        yield running


@pytest.fixture(scope="module")
def sentinels(binaries: Binaries) -> Iterator[Sentinels]:
    with running_sentinels(binaries.redis, replicas=1, watchers=1) as running:
        yield running


@pytest.mark.parametrize("user", access.USERS, ids=lambda user: user.name)
def test_each_user_may_read_the_topology(cluster: Cluster, user: RedisUser) -> None:
    url = as_user(cluster.url, user)
    topology = read_topology(RedisUrl.parse(url))
    assert [node.name for node in topology.primaries] == sorted(
        node.address for node in cluster.nodes
    )


def test_no_node_copies_its_users_to_another(cluster: Cluster) -> None:
    """So they are made on each."""
    names = [set(node.ask("ACL", "USERS")) for node in cluster.nodes]
    assert names[0] == {b"default"}
    assert all(access.GATE.name.encode() in one for one in names[1:])
    alone = RedisUrl.parse(as_user(f"redis+cluster://{cluster.nodes[0].address}", access.GATE))
    with pytest.raises(LedgerUnavailableError, match="invalid username-password"):
        read_topology(alone)


def test_a_program_logs_in_at_sentinels_as_a_user_that_may_only_ask(sentinels: Sentinels) -> None:
    """And at the primary as another."""
    (watcher,) = sentinels.sentinels
    make_users(watcher.client, [access.SENTINEL])
    for server in sentinels.servers:
        make_users(server.client)
    watcher.ask("ACL", "SETUSER", "default", "resetpass", f">{SECRET}")
    login = f"sentinel_username={access.SENTINEL.name}&sentinel_password={SECRET}"
    queue = open_queue(
        f"{as_user(sentinels.url, access.WORKER)}?{login}", socket_timeout_s=WAIT_S_MAX
    )
    with closing(queue.connection):
        assert queue.job_ids == []
    for words in (("SENTINEL", "FAILOVER", "faregate"), ("ACL", "USERS"), ("SHUTDOWN",)):
        with (
            pytest.raises(NoPermissionError),
            Redis.from_url(as_user(watcher.url, access.SENTINEL)) as client,
        ):
            tell(client, *words)
