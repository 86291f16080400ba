"""Callers on 64 connections and a drain, which go on while a test breaks and corrects something."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from clocks import patience
from faregate import CreditPolicy, Gate
from faregate.adapters.postgres.accounts import PostgresAccounts
from faregate.adapters.postgres.archive import PostgresArchive
from faregate.adapters.redis.stream import RedisStream
from faregate.domain.errors import ArchiveUnavailableError, LedgerError
from faregate.domain.policy import GateOptions
from faregate_worker.drain import DrainLimits, drain
from redis_ledger import make_ledger
from waiting import WAIT_S_MAX, wait_for

CONNECTIONS = 64
#: What each user is given, beside what it starts with.
GRANTED = 1_000_000
TIMEOUT_MS = 10_000
#: A caller comes again after this time, in seconds, unless it is told otherwise; a drain, too.
PAUSE_S = 0.05
_LIMITS = DrainLimits(batch_size_max=500, seconds_max=WAIT_S_MAX)


@dataclass(slots=True)
class Callers:
    """Charges users from 64 gates of one connection each, in a thread, and counts."""

    redis_url: str
    database_url: str
    users: Sequence[UUID]
    shard_count: int
    #: A caller comes again after this time, in seconds.
    pause_s: float = PAUSE_S
    #: How many charges of each user were allowed.
    allowed: Counter[UUID] = field(default_factory=Counter)
    _is_over: bool = False
    _is_paused: bool = False
    _idle: set[Gate] = field(default_factory=set)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Charge during the block."""
        with patience():
            thread = threading.Thread(target=asyncio.run, args=[self._run()])
            thread.start()
            try:
                self.wait_for_more()
                yield
            finally:
                self._is_over = True
                thread.join(WAIT_S_MAX)
            assert not thread.is_alive()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let nobody charge during the block, which begins when all charges are answered."""
        self._is_paused = True
        wait_for(lambda: len(self._idle) == CONNECTIONS, "all callers pause")
        yield
        self._is_paused = False

    def wait_for_more(self, count: int = 2) -> None:
        """Wait until each user was charged so often again."""
        before = Counter(self.allowed)
        wait_for(
            lambda: all(self.allowed[user] >= before[user] + count for user in self.users),
            f"{count} charges of each user",
        )

    async def _run(self) -> None:
        accounts = PostgresAccounts(self.database_url)
        gates = [self._gate(accounts) for _ in range(CONNECTIONS)]
        for user_id in self.users:
            await gates[0].grant(user_id, GRANTED, idempotency_key="enough")
        await asyncio.gather(*(self._call(gate, number) for number, gate in enumerate(gates)))
        await asyncio.gather(*(gate.aclose() for gate in gates))

    def _gate(self, accounts: PostgresAccounts) -> Gate:
        ledger = make_ledger(self.redis_url, shard_count=self.shard_count, timeout_ms=TIMEOUT_MS)
        return Gate(ledger, accounts, CreditPolicy(), GateOptions(decision_timeout_ms=TIMEOUT_MS))

    async def _call(self, gate: Gate, number: int) -> None:
        while not self._is_over:
            if self._is_paused:
                self._idle.add(gate)
                await asyncio.sleep(PAUSE_S)
                continue
            self._idle.discard(gate)
            number += 1
            user_id = self.users[number % len(self.users)]
            try:
                decision = await gate.charge(user_id)
            except (LedgerError, ArchiveUnavailableError):
                continue
            finally:
                await asyncio.sleep(self.pause_s)
            self.allowed[user_id] += decision.allowed


@contextmanager
def draining(redis_url: str, database_url: str, shard_count: int) -> Iterator[None]:
    """Make rows of records during the block, and of all at its end."""
    is_over = threading.Event()

    def run() -> None:
        with (
            closing(RedisStream.from_url(redis_url, shard_count)) as stream,
            closing(PostgresArchive(database_url)) as archive,
        ):
            while not is_over.wait(PAUSE_S):
                for shard in range(shard_count):
                    try:
                        drain(stream, archive, shard, limits=_LIMITS)
                    except (LedgerError, ArchiveUnavailableError):
                        continue

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(WAIT_S_MAX)
    assert not thread.is_alive()
