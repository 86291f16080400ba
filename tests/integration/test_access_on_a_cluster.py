"""On a cluster everything runs with the rights that `faregate access` prints, and nothing else."""

import asyncio
from collections.abc import Iterator

import pytest

from cluster_rig import Cluster, running_cluster
from faregate.adapters.redis import access, keys
from faregate.bootstrap import build_gate, open_stream
from faregate.cli.servers import Binaries, EmbeddedServers
from gate_use import POLICIES, use
from least_rights import Restricted, make_users, refused_by, restricted_ledger
from slot_moves import move_slots
from waiting import wait_for

pytestmark = [pytest.mark.redis, pytest.mark.postgres, pytest.mark.cluster, pytest.mark.long]

SHARD_COUNT = 16


@pytest.fixture(scope="module")
def cluster(binaries: Binaries) -> Iterator[Cluster]:
    with running_cluster(binaries.redis) as running:
        for node in running.nodes:
            make_users(node.client)
        yield running


@pytest.fixture(scope="module")
def ledger(
    cluster: Cluster, binaries: Binaries, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Restricted]:
    """A ledger on the cluster; its queue and its rows are elsewhere."""
    folder = tmp_path_factory.mktemp("access")
    with (
        EmbeddedServers(durable=False, binaries=binaries) as servers,
        restricted_ledger(servers, folder, ledger_url=cluster.url) as made,
    ):
        yield made


def is_drained(ledger: Restricted) -> bool:
    with open_stream(ledger.settings(access.OPERATOR, "app_auditor")) as stream:
        return not stream.pending_count()


async def test_nothing_is_refused_while_slots_move(cluster: Cluster, ledger: Restricted) -> None:
    """Neither to a gate, nor to a worker, nor to an operator, on any node."""
    gate = build_gate(ledger.settings(access.GATE, "app_api"), POLICIES)
    await gate.start()
    user = await use(gate)
    with ledger.worker() as worker:
        target = cluster.primaries()[0]
        slots = [shard.slot for shard in keys.shards(SHARD_COUNT)]
        moving = asyncio.create_task(asyncio.to_thread(move_slots, cluster, slots, target))
        while not moving.done():
            await use(gate)
        await moving
        wait_for(lambda: is_drained(ledger), "all is drained")
        wait_for(ledger.is_compared, "the worker compares numbers")
        assert ledger.command(access.WORKER, "app_worker", "worker", "--check")[0] == 0
        assert worker.poll() is None
        for code, words in (
            (0, ("reconcile",)),
            (0, ("verify",)),
            (0, ("history", str(user))),
            (0, ("users", "export", str(user))),
            (0, ("status",)),
            (0, ("holds", "list")),
        ):
            status, said = ledger.command(access.OPERATOR, "app_auditor", *words)
            assert status == code, said
    await gate.aclose()
    assert {node.address: refused_by(node.client) for node in cluster.nodes} == {
        node.address: [] for node in cluster.nodes
    }
    assert ledger.refused() == []
