"""The endpoints of a gate: those that are left, and the close."""

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import Any, cast

import pytest

from faregate.adapters.redis import nodes
from faregate.adapters.redis.keys import Shard, shards
from faregate.adapters.redis.lane import Lane
from faregate.adapters.redis.nodes import Endpoint, Nodes
from faregate.adapters.redis.topology import Node, Topology
from faregate.adapters.redis.wire import Wire
from faregate.domain.redis_url import RedisUrl
from waiting import until

SHARDS = shards(4)
FIRST, SECOND, THIRD = (Node("127.0.0.1", port) for port in (1, 2, 3))
URL = RedisUrl.parse(f"redis+cluster://{FIRST.name}")


class Part:
    """A lane or a wire, as far as its close."""

    def __init__(self) -> None:
        self.is_closed = self.is_answering = False
        self.on_close: Callable[[], None] = lambda: None

    async def aclose(self) -> None:
        self.on_close()
        await asyncio.sleep(0)
        self.is_closed = True


class Made:
    """The endpoints that were made."""

    def __init__(self) -> None:
        self.parts: dict[Node | None, tuple[Part, Part]] = {}
        self.moved: list[Shard] = []
        self.nodes = Nodes(URL, SHARDS, self._make, close_delay_s=60)
        self.nodes.on_moved = self.moved.append
        self.nodes.open()

    def _make(self, node: Node | None) -> Endpoint:
        wire, lane = self.parts[node] = Part(), Part()
        return Endpoint(node, cast("Wire", wire), cast("Any", None), cast("Lane", lane))

    @property
    def open_nodes(self) -> list[Node | None]:
        closed = {node: all(one.is_closed for one in parts) for node, parts in self.parts.items()}
        return [node for node, is_closed in closed.items() if not is_closed]


async def test_a_server_that_may_be_cut_off_is_asked_last_for_the_topology(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Though the gate has a connection to no other one: it would name itself for ever."""
    made = Made()
    made.parts[FIRST][0].is_answering = True
    asked = list[tuple[Iterable[Node], Collection[Node]]]()

    def read_topology(_: RedisUrl, known: Iterable[Node], doubted: Collection[Node]) -> Topology:
        asked.append((known, doubted))
        return Topology.of({shard.slot: [SECOND] for shard in SHARDS})

    monkeypatch.setattr(nodes, "read_topology", read_topology)
    made.nodes.read_soon(made.nodes.of(SHARDS[0]))
    await until(lambda: made.nodes.of(SHARDS[0]).node == SECOND)
    assert asked == [([FIRST], {FIRST})]
    await made.nodes.aclose()


async def test_a_close_waits_for_no_endpoint_that_was_left_just_now() -> None:
    """The task that would close it later has not even begun."""
    made = Made()
    made.nodes._apply(lambda _: SECOND)
    await made.nodes.aclose()
    assert list(made.parts) == [FIRST, SECOND]
    assert made.open_nodes == []


async def test_a_shard_that_moves_during_the_close_makes_no_endpoint() -> None:
    """Attempts on the way are refused with MOVED while other lanes are being closed."""
    made = Made()
    made.nodes.note_moved(SHARDS[1], SECOND)
    _, lane = made.parts[FIRST]
    lane.on_close = lambda: made.nodes.note_moved(SHARDS[2], THIRD)
    await made.nodes.aclose()
    assert list(made.parts) == [FIRST, SECOND]
    assert made.open_nodes == []


async def test_each_shard_that_is_placed_elsewhere_is_told_once() -> None:
    """Since the history of a successor may be shorter, though there was a link to it before."""
    made = Made()
    made.nodes.note_moved(SHARDS[1], SECOND)
    made.nodes.note_moved(SHARDS[1], SECOND)
    made.nodes._apply(lambda slot: SECOND if slot == SHARDS[1].slot else FIRST)
    assert made.moved == [SHARDS[1]]
    made.nodes._apply(lambda _: FIRST)
    assert made.moved == [SHARDS[1]] * 2
    await made.nodes.aclose()
