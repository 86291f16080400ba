"""The servers that a gate talks to, and which of them serves a shard.

Outside of a cluster one server serves all shards. In a cluster each primary serves those whose
slots it has. A server that says where a shard is now is believed at once; the topology is read
again in the background.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Self, TypeAlias
from uuid import UUID

from redis.exceptions import RedisError

from faregate.adapters.redis.clock import ShardClocks
from faregate.adapters.redis.keys import Shard
from faregate.adapters.redis.lane import Lane
from faregate.adapters.redis.link import LinkLostError, pack_command
from faregate.adapters.redis.topology import ANSWER_S_MAX, Node, SlotRanges, read_topology
from faregate.adapters.redis.wire import Wire
from faregate.domain.durability import Durability
from faregate.domain.errors import LedgerUnavailableError
from faregate.domain.redis_url import RedisUrl

#: The pause before the topology is read once more, in seconds.
READ_PAUSE_S = 0.25
_SLOTS = pack_command(("CLUSTER", "SLOTS"))

#: Returns the primary of a slot; None if no node has it.
OwnerOf: TypeAlias = Callable[[int], Node | None]

_MEMORY: Final = Durability.MEMORY

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """One server: the connection to it, its clock, and the lane of its spends."""

    #: Its address in a cluster; None for the only server.
    node: Node | None
    wire: Wire
    clocks: ShardClocks
    lane: Lane
    #: Makes the endpoint of the same server whose connection confirms what it sends.
    make_confirmed: Callable[[Durability], Self] | None = None
    #: Those that were used, by their durability.
    confirmed: dict[Durability, Self] = field(default_factory=dict)

    def to(self, durability: Durability) -> Self:
        """Return the endpoint of the same server for a durability."""
        if durability is _MEMORY:
            return self
        return self.confirmed.get(durability) or self._confirmed(durability)

    def _confirmed(self, durability: Durability) -> Self:
        if self.make_confirmed is None:
            raise AssertionError("this endpoint confirms")
        made = self.confirmed[durability] = self.make_confirmed(durability)
        return made

    @property
    def lanes(self) -> Sequence[Lane]:
        """The lanes of all its durabilities."""
        return [self.lane, *(one.lane for one in self.confirmed.values())]

    async def aclose(self) -> None:
        """Fail all waiting attempts, and close the connections."""
        for confirmed in tuple(self.confirmed.values()):
            await confirmed.aclose()
        await self.lane.aclose()
        await self.wire.aclose()


class Nodes:
    """Finds the endpoint of a shard. It belongs to the event loop in which it is made."""

    def __init__(
        self,
        url: RedisUrl,
        shards: tuple[Shard, ...],
        make: Callable[[Node | None], Endpoint],
        *,
        close_delay_s: float,
    ) -> None:
        """Know no endpoint before `open`.

        Args:
            url: The URL of the ledger.
            shards: All shards.
            make: Makes the endpoint of a node.
            close_delay_s: How long a server without shards stays open, in seconds.
        """
        self.is_cluster = url.is_cluster
        self._url = url
        self._shards = shards
        self._make = make
        self._by_node: dict[Node | None, Endpoint] = {}
        self._reading: asyncio.Task[None] | None = None
        self._left = _Left(close_delay_s)
        self._is_wanted = self._is_closed = False
        self._doubted: set[Endpoint] = set()
        #: Called when a shard was placed at another node.
        self.on_moved: Callable[[Shard], None] = lambda _: None
        #: The endpoint of each shard.
        self.by_shard: list[Endpoint] = []

    def open(self) -> None:
        """Begin with the first host of the URL for all shards; nothing connects."""
        seed = Node(*self._url.seeds[0]) if self.is_cluster else None
        self.by_shard = [self._at(seed)] * len(self._shards)

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """All endpoints with shards."""
        return list(dict.fromkeys(self.by_shard))

    def of(self, shard: Shard) -> Endpoint:
        """Return the endpoint of a shard, as far as is known."""
        return self.by_shard[shard.number]

    def lane(self, user_id: UUID, durability: Durability) -> Lane:
        """Return the lane of a user, as far as is known."""
        by_shard = self.by_shard
        endpoint = by_shard[(user_id.int & 0xFFFF) % len(by_shard)]
        return endpoint.lane if durability is _MEMORY else endpoint.to(durability).lane

    def note_moved(self, shard: Shard, node: Node | None) -> None:
        """Note that a server says where a shard is; None if it does not know the address."""
        self.read_soon()
        if node is not None and not self._is_closed:
            self._place(shard, node)

    def read_soon(self, doubted: Endpoint | None = None) -> None:
        """Read the topology in the background, if there is one; one reading at a time.

        Args:
            doubted: A server that may be cut off from the others, so it is asked last.
        """
        if not self.is_cluster or self._is_closed:
            return
        if doubted is not None:
            self._doubted.add(doubted)
        self._is_wanted = True
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_while_wanted())

    async def read(self) -> None:
        """Read the topology now, if there is one.

        Raises:
            LedgerUnavailableError: No node answers.
        """
        if self.is_cluster:
            self._apply(await self._read())

    async def _read_while_wanted(self) -> None:
        try:
            while self._is_wanted:
                self._is_wanted = False
                try:
                    self._apply(await self._read())
                except LedgerUnavailableError as error:
                    _log.debug("topology not read: %s", error)
                await asyncio.sleep(READ_PAUSE_S)
        finally:
            self._reading = None

    async def _read(self) -> OwnerOf:
        """Ask a node over its link, which takes microseconds; without a link, look for one.

        Raises:
            LedgerUnavailableError: No node answers.
        """
        answering = [one for one in self.endpoints if one.wire.is_answering]
        doubted, self._doubted = self._doubted, set()
        for endpoint in answering:
            ranges = None if endpoint in doubted else await _slots_known_to(endpoint)
            if ranges is not None:
                return ranges.owner
        known = [one.node for one in answering if one.node is not None]
        last = {one.node for one in doubted if one.node is not None}
        topology = await asyncio.to_thread(read_topology, self._url, known, last)
        return topology.primary

    def _apply(self, owner_of: OwnerOf) -> None:
        """Place each shard where the topology says; one without a primary stays where it was."""
        for shard in self._shards:
            node = owner_of(shard.slot)
            if node is not None:
                self._place(shard, node)
        self._close_left()

    def _place(self, shard: Shard, node: Node) -> None:
        if node != self.by_shard[shard.number].node:
            _log.info("shard moved: %d is at %s", shard.number, node.name)
            self.by_shard[shard.number] = self._at(node)
            self.on_moved(shard)

    def _at(self, node: Node | None) -> Endpoint:
        found = self._by_node.get(node)
        if found is None:
            found = self._by_node[node] = self._make(node)
        return found

    def _close_left(self) -> None:
        """Close the endpoints that have no shards any more, once nobody waits for them."""
        left = [one for one in self._by_node.values() if one not in self.by_shard]
        for endpoint in left:
            del self._by_node[endpoint.node]
            self._left.add(endpoint)

    async def aclose(self) -> None:
        """Fail all waiting attempts, and close all connections."""
        self._is_closed = True
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        for endpoint in tuple(self._by_node.values()):
            await endpoint.aclose()
        await self._left.aclose()


class _Left:
    """Endpoints without shards, and the tasks that will close them."""

    def __init__(self, close_delay_s: float) -> None:
        self._close_delay_s = close_delay_s
        self._tasks: dict[Endpoint, asyncio.Task[None]] = {}

    def add(self, endpoint: Endpoint) -> None:
        self._tasks[endpoint] = asyncio.create_task(self._close_later(endpoint))

    async def _close_later(self, endpoint: Endpoint) -> None:
        await asyncio.sleep(self._close_delay_s)
        await endpoint.aclose()
        del self._tasks[endpoint]

    async def aclose(self) -> None:
        """Close all of them now."""
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())
        for endpoint in self._tasks:
            await endpoint.aclose()


async def _slots_known_to(endpoint: Endpoint) -> SlotRanges | None:
    try:
        link = await endpoint.wire.link()
        async with asyncio.timeout(ANSWER_S_MAX):
            return SlotRanges.of(await link.ask(_SLOTS), endpoint.node)
    except (LedgerUnavailableError, LinkLostError, RedisError, TimeoutError) as error:
        _log.debug("topology not read from %s: %s", endpoint.lane.name, error)
        return None
