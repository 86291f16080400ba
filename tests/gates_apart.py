"""Two gates whose machines have clocks of their own, on a server whose clock a test sets."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from uuid import UUID

import pytest
from redis import Redis

from clocks import RedisClock, ToldClocks, clock_of_the_test
from faregate import Gate
from faregate.adapters.memory.store import MemoryStore
from faregate.adapters.redis import keys, session
from faregate.adapters.redis.clock import ShardClocks
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.session import LedgerOptions
from faregate.adapters.redis.stream import RedisStream
from faregate.domain.policy import BreakerOptions, CreditPolicy, GateOptions
from faregate.domain.transaction import CreditTransaction
from redis_ledger import TIMEOUT_MS

SHARD_COUNT = 3
POLICY = CreditPolicy(starting_credits=1_000_000)
MINUTE_MS = 60_000


class Local:
    """The clock of a machine: microseconds since whenever."""

    def __init__(self, ahead_ms: int) -> None:
        self.us = ahead_ms * 1_000

    def __call__(self) -> int:
        return self.us


@dataclass(slots=True)
class Times:
    """The clock of the server, and those of two machines, which are a minute apart."""

    server: RedisClock
    locals: tuple[Local, Local] = field(default_factory=lambda: (Local(1), Local(MINUTE_MS)))

    def go_on(self, ms: int) -> None:
        """Let time pass for all."""
        self.server.advance(ms)
        for local in self.locals:
            local.us += ms * 1_000

    def step(self, ms: int) -> None:
        """Set the clock of the server."""
        self.server.advance(ms)


@contextmanager
def learnt_clock(client: Redis) -> Iterator[RedisClock]:
    """Let the scripts read the clock of the test, while ledgers learn it from replies."""
    with clock_of_the_test(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "ShardClocks", ShardClocks)
        ToldClocks.clock = RedisClock(client)
        yield ToldClocks.clock


def store_at(times: Times) -> MemoryStore:
    """Return rows that are empty."""
    return MemoryStore(
        starting_credits=POLICY.starting_credits, shard_count=SHARD_COUNT, now_ms=times.server
    )


@asynccontextmanager
async def gates_at(
    url: str, times: Times, store: MemoryStore, timeout_ms: int = TIMEOUT_MS
) -> AsyncIterator[list[Gate]]:
    """Open two gates on one ledger, each on a machine with a clock of its own."""
    options = GateOptions(
        decision_timeout_ms=timeout_ms,
        provision_users=True,
        breaker=BreakerOptions(failures_max=10_000),
        close_timeout_s=0,
    )
    gates = []
    for local in times.locals:
        ledger = LedgerOptions(
            url=url,
            shard_count=SHARD_COUNT,
            pending_max=1_000_000,
            decision_timeout_ms=timeout_ms,
            local=local,
        )
        gates.append(Gate(RedisLedger(ledger), store, POLICY, options))
    try:
        for gate in gates:
            await gate.start()
        yield gates
    finally:
        for gate in gates:
            await gate.aclose()


class Rows:
    """All records, which are made rows now and then, as a worker does."""

    def __init__(self, client: Redis, store: MemoryStore) -> None:
        self._stream = RedisStream(client, SHARD_COUNT)
        self._store = store
        self.all: list[CreditTransaction] = []

    def drain(self) -> None:
        """Make rows of all records, and delete those that are old."""
        for shard in range(SHARD_COUNT):
            cursor = self._store.cursors().get(shard)
            while batch := self._stream.read(shard, cursor, 1_000):
                entries = batch.records()
                assert not [entry.problem for entry in entries if entry.problem]
                self.all += [entry.transaction for entry in entries if entry.transaction]
                cursor = self._store.store(batch).cursor
            self._stream.note_stored(shard, cursor)

    def spent(self, user_id: UUID) -> int:
        """Return what a user has spent, less what was given back, as far as it is drained."""
        return -sum(row.amount for row in self.all if row.user_id == user_id)

    def check_times(self) -> None:
        """Make sure that the records of a shard never go back in time, and have an id each."""
        for shard in range(SHARD_COUNT):
            rows = [row for row in self.all if keys.shard_of(row.user_id, SHARD_COUNT) == shard]
            assert rows
            assert all(before.timestamp <= row.timestamp for before, row in pairwise(rows))
        assert len({row.id for row in self.all}) == len(self.all)

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()
