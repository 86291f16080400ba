"""Facts about the servers of a ledger or a queue, for operators."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

from faregate.adapters.redis import keys
from faregate.adapters.redis.client import Client, checked
from faregate.adapters.redis.routes import Address
from faregate.adapters.redis.sentinels import ask_sentinels
from faregate.adapters.redis.server_facts import (
    SECTIONS,
    SETTINGS,
    fields,
    live_server,
    replicas,
    settings,
    slots_moving,
)
from faregate.adapters.redis.topology import Node
from faregate.adapters.redis.urls import LEDGER_SETTING, QUEUE_SETTING, check_url
from faregate.domain.errors import ConfigurationError
from faregate.domain.redis_url import QUEUE_IN_CLUSTER, RedisKind, RedisUrl
from faregate.domain.replication import ClusterState, LiveNode, LiveRedis, SentinelState
from faregate.domain.server import Queue


class RedisServer:
    """Reads facts about one server, or about all primaries of a cluster. It connects at first use.

    It never repeats a command.
    """

    def __init__(self, address: Address, shard_count: int = 1) -> None:
        self._address = address
        self._client = Client(address)
        self._shards = keys.shards(shard_count)

    @classmethod
    def from_url(cls, url: str, setting: str = LEDGER_SETTING, *, shard_count: int = 1) -> Self:
        """Return it for a URL; the number of shards is that of the ledger."""
        return cls(check_url(url, setting), shard_count)

    def inspect(self) -> LiveRedis:
        """Return the facts.

        Raises:
            LedgerUnavailableError: No server answers.
        """
        # First INFO, so that a node that does not answer is not waited for again.
        infos = self._ask_each("INFO", *SECTIONS)
        told = self._ask_each("CONFIG", "GET", *SETTINGS)
        given = {node: settings(reply) for node, reply in told.items()}
        clocks = self._clocks_ahead_ms()
        if all(isinstance(reply, Exception) for reply in infos.values()):
            checked(next(iter(infos.values())))
        nodes = tuple(
            self._node(node, reply, given.get(node, {}), clocks.get(node, 0))
            for node, reply in infos.items()
        )
        sentinels = self._sentinels()
        if sentinels is not None:
            # The client knows the service and not its server.
            nodes = tuple(replace(node, name=sentinels.primaries[0]) for node in nodes)
        cluster = self._cluster(given) if self._client.is_cluster else None
        return LiveRedis(nodes=nodes, cluster=cluster, sentinels=sentinels)

    def _ask_each(self, *command: str) -> Mapping[Node, Any]:
        return self._client.ask_each(*command)

    def _clocks_ahead_ms(self) -> dict[Node, int]:
        before_ms = time.time() * 1_000
        replies = self._ask_each("TIME")
        now_ms = (before_ms + time.time() * 1_000) / 2
        return {
            node: round(int(reply[0]) * 1_000 + int(reply[1]) / 1_000 - now_ms)
            for node, reply in replies.items()
            if not isinstance(reply, Exception)
        }

    def _node(
        self, node: Node, reply: Any, given: Mapping[str, str], clock_ahead_ms: int
    ) -> LiveNode:
        shards = sum(self._client.node(shard) == node for shard in self._shards)
        # A unix socket has no port.
        name = node.name if node.port else node.host
        if isinstance(reply, Exception):
            return LiveNode(name=name, shards=shards, server=None)
        info = fields(reply)
        server = live_server(info, given, clock_ahead_ms=clock_ahead_ms)
        return LiveNode(name=name, shards=shards, server=server, replicas=replicas(info))

    def _cluster(self, given: Mapping[Node, Mapping[str, str]]) -> ClusterState:
        states = {
            node: fields(reply)
            for node, reply in self._ask_each("CLUSTER", "INFO").items()
            if not isinstance(reply, Exception)
        }
        owned = max((int(one["cluster_slots_assigned"]) for one in states.values()), default=0)
        moving = self._ask_each("CLUSTER", "NODES").values()
        coverage = {one.get("cluster-require-full-coverage") for one in given.values()} - {None}
        timeouts = {one.get("cluster-node-timeout") for one in given.values()} - {None}
        return ClusterState(
            down_for=tuple(
                node.name for node, one in states.items() if one["cluster_state"] != "ok"
            ),
            slots_unowned=keys.SLOTS - owned,
            shards_unowned=tuple(
                shard.number for shard in self._shards if self._client.node(shard) is None
            ),
            slots_moving=sum(slots_moving(one) for one in moving if isinstance(one, bytes)),
            requires_full_coverage="yes" in coverage if coverage else None,
            node_timeout_ms=max((int(one) for one in timeouts if one), default=None),
        )

    def _sentinels(self) -> SentinelState | None:
        address = self._address
        if isinstance(address, RedisUrl) and address.kind is RedisKind.SENTINEL:
            return ask_sentinels(address)
        return None

    def inspect_queue(self, name: str) -> Queue:
        """Return the state of a queue of RQ and its workers.

        The key of a dead worker expires, but RQ leaves its name in the set of workers.

        Raises:
            LedgerUnavailableError: The server does not answer.
            ConfigurationError: It is a node of a cluster.
        """
        if fields(self._client.ask(None, "INFO", "cluster")).get("cluster_enabled") == "1":
            raise ConfigurationError(
                f"{QUEUE_SETTING} names a node of a cluster: {QUEUE_IN_CLUSTER}"
            )
        names = self._client.ask(None, "SMEMBERS", f"rq:workers:{name}")
        replies = self._client.ask_all((None, ("EXISTS", one)) for one in names)
        return Queue(
            workers=sum(map(checked, replies)),
            suspended=bool(self._client.ask(None, "EXISTS", "rq:suspended")),
        )

    def close(self) -> None:
        """Close all connections."""
        self._client.close()
