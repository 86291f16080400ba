"""A cluster behind a relay that breaks: all clients and replicas reach its nodes through it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cluster_rig import Cluster
from lossy_proxy import LossyProxy, lossy_proxies
from tcp_redis import HOST
from waiting import wait_for


@asynccontextmanager
async def relayed(cluster: Cluster) -> AsyncIterator[tuple[LossyProxy, str]]:
    """Put a relay before each node, whose ports the nodes announce; yield it and the URL."""
    ports = [node.port for node in cluster.nodes]
    async with lossy_proxies(ports) as (proxy, relays):
        await asyncio.to_thread(_announce, cluster, relays)
        try:
            yield proxy, f"redis+cluster://{','.join(f'{HOST}:{port}' for port in relays)}"
        finally:
            await asyncio.to_thread(_announce, cluster, ports)


def _announce(cluster: Cluster, ports: list[int]) -> None:
    for node, port in zip(cluster.nodes, ports, strict=True):
        node.ask("CONFIG", "SET", "cluster-announce-port", port)

    def is_known() -> bool:
        told = [node.ask("CLUSTER", "SLOTS") for node in cluster.nodes]
        seen = {owner[1] for ranges in told for one in ranges for owner in one[2:]}
        return seen == set(ports)

    wait_for(is_known, "all nodes know by which ports they are reached")
    cluster.wait_until_agreed()
