"""The sides that must be equal, of which one is here: the memory adapters. Each has its own rows.

Memory stands for one shard at a time, so that it is there once for each.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from clocks import Clock
from faregate.adapters.memory.books import MemoryBooks, MemoryStream
from faregate.adapters.memory.holds import MemoryHoldLedger
from faregate.adapters.memory.shadows import MemoryShadows
from faregate.adapters.memory.sweeper import MemorySweeper
from faregate.adapters.redis import keys
from faregate.domain.decision import Verdict
from faregate.domain.hold import HoldState
from faregate.domain.transaction import CreditTransaction
from faregate.domain.user import User
from faregate.ports import HoldLedger, Shadows, TransactionStream
from faregate_worker.drain import drain_step
from play.steps import STARTING_CREDITS, USERS

#: More than any scenario needs, unless it says so.
STREAM_LENGTH_MAX = 100_000
#: Whoever asks again after a loss asks with an id that is too old.
REBUILD_MS = 70_000


@dataclass(frozen=True, slots=True)
class Seen:
    """What is there at one moment."""

    live: Mapping[UUID, User]
    #: The records that are not acknowledged, shard by shard.
    pending: Sequence[CreditTransaction]
    #: The records that have been appended since the last look, shard by shard.
    new: Sequence[CreditTransaction]
    #: How many holds are open.
    holds_count: int


class Side(ABC):
    """A ledger with its shadows, its stream, its rows and its clock."""

    name: str
    #: Each stream with the number of a shard in it.
    streams: Sequence[tuple[TransactionStream, int]]

    def __init__(self, clock: Clock, shard_count: int, stream_length_max: int) -> None:
        self.clock = clock
        self.shard_count = shard_count
        self.stream_length_max = stream_length_max
        self.books = MemoryBooks(
            starting_credits=STARTING_CREDITS, shard_count=shard_count, now_ms=clock
        )

    @abstractmethod
    def ledger_of(self, user_id: UUID) -> HoldLedger:
        """Return the ledger that knows a user."""

    @abstractmethod
    def shadows_of(self, user_id: UUID) -> Shadows:
        """Return the shadows of a user."""

    @abstractmethod
    async def counts(self, policy: str) -> Mapping[Verdict, int]:
        """Return how often each verdict would have been given, over all shards."""

    @abstractmethod
    async def sweep(self) -> int:
        """End all holds whose time is over, as the worker does; return how many."""

    @abstractmethod
    async def look(self) -> Seen:
        """Return what is there now, and what has been appended since the last look."""

    @abstractmethod
    def fill(self) -> None:
        """Let the stream take no more than it holds."""

    @abstractmethod
    def lose_all(self) -> None:
        """Lose all that is live, and begin again with nothing."""

    @abstractmethod
    async def attach(self) -> None:
        """Take over the identity that the rows have."""

    async def start(self) -> None:
        """Begin with the users that the rows know."""
        await self.attach()
        for user_id in USERS.values():
            user = await self.books.open(user_id, provision=True)
            assert user is not None
            assert await self.ledger_of(user_id).install(user)

    async def lose(self) -> None:
        """Lose all that is live, and go on from the rows."""
        self.clock.advance(REBUILD_MS)
        self.lose_all()
        self.books.begin_epoch((await self.books.identity()).epoch)
        await self.start()

    def drain(self, batch_size: int, *, dies: bool) -> None:
        """Make rows of all records, or die before the first batch is acknowledged; and trim."""
        rows = cast("Any", self.books)
        for stream, shard in self.streams:
            if dies:
                self.books.store(shard, stream.read(shard, batch_size))
            while not dies and drain_step(stream, rows, shard, batch_size_max=batch_size).read:
                pass
            stream.trim(shard)


class MemorySide(Side):
    """The executable specification."""

    name = "memory"

    def __init__(
        self, clock: Clock, *, shard_count: int = 1, stream_length_max: int = STREAM_LENGTH_MAX
    ) -> None:
        super().__init__(clock, shard_count, stream_length_max)
        self.lose_all()

    def lose_all(self) -> None:
        self._shards = [
            MemoryHoldLedger(now_ms=self.clock, stream_length_max=self.stream_length_max)
            for _ in range(self.shard_count)
        ]
        self._shadows = [MemoryShadows(now_ms=self.clock) for _ in self._shards]
        self.streams = [(MemoryStream(ledger), 0) for ledger in self._shards]
        self._seen: set[tuple[int, str]] = set()

    def fill(self) -> None:
        for ledger in self._shards:
            ledger.records._length_max = len(ledger.records._stream)

    def ledger_of(self, user_id: UUID) -> MemoryHoldLedger:
        return self._shards[keys.shard_of(user_id, self.shard_count)]

    def shadows_of(self, user_id: UUID) -> Shadows:
        return self._shadows[keys.shard_of(user_id, self.shard_count)]

    async def counts(self, policy: str) -> Mapping[Verdict, int]:
        total: Counter[Verdict] = Counter()
        for shadows in self._shadows:
            total.update(await shadows.counts(policy))
        return total

    async def sweep(self) -> int:
        return sum(MemorySweeper(ledger).sweep(0) for ledger in self._shards)

    async def look(self) -> Seen:
        live, new, pending = {}, [], []
        for user_id in USERS.values():
            user = await self.ledger_of(user_id).read(user_id)
            assert user is not None
            live[user_id] = user
        for shard, ledger in enumerate(self._shards):
            pending += list(ledger.pending.values())
            fresh = [place for place in ledger.pending if (shard, place) not in self._seen]
            self._seen.update((shard, place) for place in fresh)
            new += [ledger.pending[place] for place in fresh]
        holds_count = sum(
            held.state is HoldState.OPEN for each in self._shards for held in each._holds.values()
        )
        return Seen(live, pending, new, holds_count)

    async def attach(self) -> None:
        identity = await self.books.identity()
        for ledger in self._shards:
            await ledger.attach(identity)
