"""A node of a cluster that is cut off from the others, or refuses all writes."""

from collections.abc import Collection, Iterable

import pytest
from redis.exceptions import ClusterDownError, RedisError, ResponseError

from faregate.adapters.redis import routes, topology
from faregate.adapters.redis.keys import shards
from faregate.adapters.redis.link import Argument
from faregate.adapters.redis.routes import Cluster
from faregate.adapters.redis.sending import CommandSender, Sending
from faregate.adapters.redis.topology import Node, Topology
from faregate.domain.errors import NodeUnavailableError
from faregate.domain.redis_url import RedisUrl

CUT_OFF, SUCCESSOR = Node("127.0.0.1", 1), Node("127.0.0.1", 2)
URL = RedisUrl.parse(f"redis+cluster://{CUT_OFF.name},{SUCCESSOR.name}")
SHARD = shards(1)[0]


class Connection:
    """A connection to one of the two nodes."""

    def __init__(self, node: Node, refusal: RedisError | None = None) -> None:
        self._node = node
        self._refusal = refusal or ClusterDownError("The cluster is down")

    def pack_commands(self, commands: Iterable[tuple[Argument, ...]]) -> list[bytes]:
        return [b"" for _ in commands]

    def send_packed_command(self, _: list[bytes]) -> None:
        pass

    def read_response(self) -> bytes:
        if self._node == CUT_OFF:
            raise self._refusal
        return b"value"


def test_a_worker_believes_the_others_and_not_a_node_that_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The topology is that of the node which is asked first, and the cut-off node names itself."""

    def read_topology(
        url: RedisUrl, known: Iterable[Node] = (), doubted: Collection[Node] = ()
    ) -> Topology:
        first = topology._order(url, known, doubted)[0]
        return Topology.of({SHARD.slot: [first]})

    monkeypatch.setattr(routes, "read_topology", read_topology)
    monkeypatch.setattr(routes, "TOPOLOGY_PAUSE_S", 0.0)
    monkeypatch.setattr(Cluster, "connect", lambda _, node: Connection(node))
    monkeypatch.setattr(Cluster, "put_back", lambda *_: None)
    (reply,) = CommandSender(Cluster(URL)).send([Sending(("GET", SHARD.state), SHARD)])
    assert reply == b"value"


@pytest.mark.parametrize("code", ["NOREPLICAS", "MISCONF"])
def test_a_node_that_refuses_all_writes_keeps_only_its_own_shards(
    monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """A worker leaves those, and goes on with the shards of other nodes."""
    first, second = shards(2)
    owners = {first.slot: [CUT_OFF], second.slot: [SUCCESSOR]}
    refusal = ResponseError(f"{code} no writes")
    refusal.status_code = code
    monkeypatch.setattr(routes, "read_topology", lambda *_: Topology.of(owners))
    monkeypatch.setattr(Cluster, "connect", lambda _, node: Connection(node, refusal))
    monkeypatch.setattr(Cluster, "put_back", lambda *_: None)
    sendings = [Sending(("SET", shard.state, ""), shard) for shard in (first, second)]
    refused, reply = CommandSender(Cluster(URL)).send(sendings)
    assert isinstance(refused, NodeUnavailableError)
    assert f"{code} for shard 0" in str(refused)
    assert reply == b"value"
