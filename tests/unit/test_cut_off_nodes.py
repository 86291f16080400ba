"""A node of a cluster that is cut off from the others, and still says that it has its slots."""

from collections.abc import Collection, Iterable

import pytest
from redis.exceptions import ClusterDownError

from faregate.adapters.redis import routes, topology
from faregate.adapters.redis.keys import shards
from faregate.adapters.redis.link import Argument
from faregate.adapters.redis.routes import Cluster
from faregate.adapters.redis.sending import CommandSender, Sending
from faregate.adapters.redis.topology import Node, Topology
from faregate.domain.redis_url import RedisUrl

CUT_OFF, SUCCESSOR = Node("127.0.0.1", 1), Node("127.0.0.1", 2)
URL = RedisUrl.parse(f"redis+cluster://{CUT_OFF.name},{SUCCESSOR.name}")
SHARD = shards(1)[0]


class Connection:
    """A connection to one of the two nodes."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def pack_commands(self, commands: Iterable[tuple[Argument, ...]]) -> list[bytes]:
        return [b"" for _ in commands]

    def send_packed_command(self, _: list[bytes]) -> None:
        pass

    def read_response(self) -> bytes:
        if self._node == CUT_OFF:
            raise ClusterDownError("The cluster is down")
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
    monkeypatch.setattr(routes, "REFRESH_PAUSE_S", 0.0)
    monkeypatch.setattr(Cluster, "connect", lambda _, node: Connection(node))
    monkeypatch.setattr(Cluster, "put_back", lambda *_: None)
    (reply,) = CommandSender(Cluster(URL)).send([Sending(("GET", SHARD.state), SHARD)])
    assert reply == b"value"
