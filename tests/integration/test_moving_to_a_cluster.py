"""A ledger moves from one server to a cluster, and back."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from cluster_rig import Cluster, running_cluster
from commands import CommandLine
from faregate.cli.servers import Binaries
from faregate.domain.errors import LedgerUninitialisedError
from moved import assert_exact, changed, charge_all, working
from operated import Ledger, drain

pytestmark = [pytest.mark.redis, pytest.mark.postgres, pytest.mark.cluster, pytest.mark.long]


@pytest.fixture
def cluster(binaries: Binaries) -> Iterator[Cluster]:
    with running_cluster(binaries.redis, replicas=0) as running:
        yield running


def test_a_ledger_moves_to_a_cluster_and_loses_nothing(
    cluster: Cluster,
    operated: Ledger,
    command_line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the command that moves to any Redis, and with more shards; the former takes no more."""
    monkeypatch.setenv("FAREGATE_PROVISION_USERS", "true")
    former = changed(operated.settings, provision_users=True, decision_timeout_ms=10_000)
    users = [uuid4() for _ in range(20)]
    charge_all(former, users, 2)
    monkeypatch.setenv("FAREGATE_REDIS_URL", cluster.url)
    monkeypatch.setenv("FAREGATE_QUEUE_URL", former.redis_url)
    words = ("--all-users", "--from", former.redis_url, "--shard-count", "24")
    with working(former):
        told = command_line.tell("rebuild", *words)
    assert told == {"epoch": 2, "users": 21, "installed": 21}
    with pytest.raises(LedgerUninitialisedError):
        charge_all(changed(former, shard_count=24), users, 1)
    moved = changed(former, redis_url=cluster.url, shard_count=24)
    charge_all(moved, users, 1)
    drain(moved)
    assert_exact(moved)
    assert all(node.ask("DBSIZE") for node in cluster.nodes)
