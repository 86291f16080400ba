"""The two sides that must be equal: the memory adapters, and Redis; each with rows of its own.

Memory stands for one shard at a time, so that it is there once for each.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast
from uuid import UUID

from redis import Redis

from clocks import Clock, RedisClock
from faregate.adapters.memory.books import MemoryBooks, MemoryStream
from faregate.adapters.memory.holds import MemoryHoldLedger
from faregate.adapters.memory.shadows import MemoryShadows
from faregate.adapters.redis import keys, records
from faregate.adapters.redis.holds import RedisHoldLedger
from faregate.adapters.redis.runner import ScriptRunner
from faregate.adapters.redis.shadows import RedisShadows
from faregate.adapters.redis.stream import RedisStream
from faregate.adapters.redis.sweeper import RedisSweeper
from faregate.domain.decision import Verdict
from faregate.domain.transaction import CreditTransaction
from faregate.ports import HoldLedger, Shadows, TransactionStream
from faregate_worker.drain import drain_step
from steps import STARTING_CREDITS, USERS

#: More than any scenario needs, unless it says so.
STREAM_LENGTH_MAX = 100_000
#: Whoever asks again after a loss asks with an id that is too old.
REBUILD_MS = 70_000

_TIMEOUT_S = 5.0


class Side(ABC):
    """A ledger with its shadows, its stream, its rows and its clock."""

    name: str
    #: Each stream with the number of a shard in it.
    streams: Sequence[tuple[TransactionStream, int]]

    def __init__(self, clock: Clock, shard_count: int, stream_length_max: int) -> None:
        self.clock = clock
        self.shard_count = shard_count
        self.stream_length_max = stream_length_max
        self.books = MemoryBooks(starting_credits=STARTING_CREDITS, shard_count=shard_count)

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
    def appended(self) -> list[CreditTransaction]:
        """Return the records that were appended since this was last asked."""

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
        """Make rows of all records, and trim; or die before the first batch is acknowledged."""
        rows = cast("Any", self.books)
        for stream, shard in self.streams:
            if dies:
                self.books.store(shard, stream.read(shard, batch_size))
                continue
            while drain_step(stream, rows, shard, batch_size_max=batch_size).read:
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
        ended = 0
        for user_id in USERS.values():
            while found := await self.ledger_of(user_id).expire_due(user_id):
                ended += found
        return ended

    def appended(self) -> list[CreditTransaction]:
        found = []
        for shard, ledger in enumerate(self._shards):
            new = [place for place in ledger.pending if (shard, place) not in self._seen]
            self._seen.update((shard, place) for place in new)
            found += [ledger.pending[place] for place in new]
        return found

    async def attach(self) -> None:
        identity = await self.books.identity()
        for ledger in self._shards:
            await ledger.attach(identity)


class RedisSide(Side):
    """What serves."""

    name = "redis"

    def __init__(
        self,
        client: Redis,
        runner: ScriptRunner,
        *,
        shard_count: int = 1,
        stream_length_max: int = STREAM_LENGTH_MAX,
    ) -> None:
        self.client = client
        # Time begins anew, and ids of a stream cannot go back.
        client.flushall()
        super().__init__(RedisClock(client), shard_count, stream_length_max)
        self._runner = runner
        self.stream = RedisStream(client, shard_count)
        self.streams = [(self.stream, shard) for shard in range(shard_count)]
        self._sweeper = RedisSweeper(client, shard_count)
        self._shadows = RedisShadows(runner, shard_count=shard_count, timeout_s=_TIMEOUT_S)
        self._connect()

    def _connect(self) -> None:
        # The ledger learns the time from replies. A new one has not heard of the time before.
        self.ledger = RedisHoldLedger(
            self._runner, shard_count=self.shard_count, stream_length_max=self.stream_length_max
        )
        self._seen = ["0-0"] * self.shard_count

    def lose_all(self) -> None:
        self.client.flushall()
        self.clock.advance(0)
        self._connect()

    def ledger_of(self, user_id: UUID) -> RedisHoldLedger:
        return self.ledger

    def shadows_of(self, user_id: UUID) -> Shadows:
        return self._shadows

    async def counts(self, policy: str) -> Mapping[Verdict, int]:
        return await self._shadows.counts(policy)

    async def sweep(self) -> int:
        return sum(self._sweeper.sweep(shard) for shard in range(self.shard_count))

    def appended(self) -> list[CreditTransaction]:
        pipeline = self.client.pipeline(transaction=False)
        for shard, seen in enumerate(self._seen):
            pipeline.xrange(keys.stream(shard), f"({seen}", "+")
        found = []
        for shard, pairs in enumerate(pipeline.execute()):
            for stream_id, held in pairs:
                self._seen[shard] = stream_id.decode()
                found.append(records.decode(held[records.FIELD]))
        return found

    async def attach(self) -> None:
        await self.ledger.attach(await self.books.identity())
