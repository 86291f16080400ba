"""The side that serves: Redis, by the clock of the tests."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from redis import Redis

from clocks import RedisClock
from faregate.adapters.redis import keys, records
from faregate.adapters.redis.holds import RedisHoldLedger
from faregate.adapters.redis.pool import ConnectionPool
from faregate.adapters.redis.runner import Arguments, Patience, ScriptRunner
from faregate.adapters.redis.shadows import RedisShadows
from faregate.adapters.redis.stream import RedisStream
from faregate.adapters.redis.sweeper import RedisSweeper
from faregate.domain.decision import Verdict
from faregate.domain.transaction import CreditTransaction
from faregate.domain.user import User
from faregate.ports import Shadows
from play.sides import STREAM_LENGTH_MAX, Seen, Side
from play.steps import USERS

_TIMEOUT_S = 5.0


class Listening(ScriptRunner):
    """Runs scripts, and notes what they reply."""

    def __init__(self, pool: ConnectionPool) -> None:
        super().__init__(pool)
        self.heard: list[tuple[str, str]] = []

    async def run(
        self, name: str, keys: Sequence[str], arguments: Arguments, patience: Patience
    ) -> list[Any]:
        reply = await super().run(name, keys, arguments, patience)
        self.heard.append((name, reply[0].decode()))
        return reply


class RedisSide(Side):
    """What serves."""

    name = "redis"

    def __init__(
        self,
        client: Redis,
        runner: "Listening",
        *,
        shard_count: int = 1,
        stream_length_max: int = STREAM_LENGTH_MAX,
    ) -> None:
        self.client = client
        # Time begins anew, and ids of a stream cannot go back.
        client.flushall()
        super().__init__(RedisClock(client), shard_count, stream_length_max)
        self._runner = runner
        #: Which script was run, and the status that it replied, one by one.
        self.heard = runner.heard
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
        self._seen: set[tuple[int, bytes]] = set()
        self._records: dict[bytes, CreditTransaction] = {}

    def lose_all(self) -> None:
        self.client.flushall()
        self.clock.advance(0)
        self._connect()

    def fill(self) -> None:
        lengths = [self.client.xlen(keys.stream(shard)) for shard in range(self.shard_count)]
        self.ledger._stream_length_max = max(lengths)

    def ledger_of(self, user_id: UUID) -> RedisHoldLedger:
        return self.ledger

    def shadows_of(self, user_id: UUID) -> Shadows:
        return self._shadows

    async def counts(self, policy: str) -> Mapping[Verdict, int]:
        return await self._shadows.counts(policy)

    async def sweep(self) -> int:
        return sum(self._sweeper.sweep(shard) for shard in range(self.shard_count))

    async def look(self) -> Seen:
        pipeline = self.client.pipeline(transaction=False)
        for shard in range(self.shard_count):
            pipeline.get(keys.epoch(shard))
            pipeline.zcard(keys.holds(shard))
            pipeline.xrange(keys.stream(shard))
            pipeline.xinfo_groups(keys.stream(shard))
            pipeline.xpending_range(keys.stream(shard), keys.GROUP, "-", "+", 1_000)
        for user_id in USERS.values():
            pipeline.hgetall(keys.user(keys.shard_of(user_id, self.shard_count), user_id))
        replies = pipeline.execute(raise_on_error=False)
        new, pending, holds_count, epochs = [], [], 0, set()
        for shard in range(self.shard_count):
            epoch, open_count, entries, groups, delivered = replies[5 * shard : 5 * shard + 5]
            holds_count += open_count
            epochs.add(int(epoch))
            waiting = _waiting(entries, groups, delivered)
            for place, held in entries:
                record = self._decoded(held[records.FIELD])
                if place in waiting:
                    pending.append(record)
                if (shard, place) not in self._seen:
                    new.append(record)
            self._seen.update((shard, place) for place, _ in entries)
        hashes = zip(USERS.values(), replies[5 * self.shard_count :], strict=True)
        (epoch,) = epochs
        live = {user_id: _user(user_id, held, epoch) for user_id, held in hashes}
        return Seen(live, pending, new, holds_count)

    def _decoded(self, payload: bytes) -> CreditTransaction:
        if payload not in self._records:
            self._records[payload] = records.decode(payload)
        return self._records[payload]

    async def attach(self) -> None:
        await self.ledger.attach(await self.books.identity())


def _waiting(entries: Any, groups: Any, delivered: Any) -> set[bytes]:
    """Return the places of records that are not acknowledged: delivered or not."""
    if isinstance(groups, Exception) or not groups:
        return {place for place, _ in entries}
    last = _parts(groups[0]["last-delivered-id"])
    again = {each["message_id"] for each in delivered}
    return again | {place for place, _ in entries if _parts(place) > last}


def _parts(place: bytes) -> tuple[int, ...]:
    return tuple(map(int, place.split(b"-")))


def _user(user_id: UUID, fields: Mapping[bytes, bytes], epoch: int) -> User:
    return User(
        id=user_id,
        credits=int(fields[b"c"]),
        sequence=int(fields[b"s"]),
        epoch=epoch,
        allowance_left=int(fields.get(b"a", 0)),
        period_start_ms=int(fields[b"p"]) if b"p" in fields else None,
        held=int(fields.get(b"h", 0)),
    )
