"""A ledger with one user, in memory or in Redis, from which journaled requests are collected."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

from redis import Redis

from clocks import Clock, RedisClock, ToldClocks, clock_of_the_test
from faregate.adapters.memory.ledger import MemoryLedger
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.stream import RedisStream
from faregate.domain.attempt import Attempt
from faregate.domain.decision import Decision
from faregate.domain.idempotency import IdempotencyKey
from faregate.domain.identity import LedgerIdentity
from faregate.domain.journal import JournalEntry
from faregate.domain.period import Period, PeriodKind
from faregate.domain.policy import Allowance, CreditPolicy
from faregate.domain.request import Refund
from faregate.domain.spend import Spend, SpendOptions
from faregate.domain.transaction import (
    CreditTransaction,
    CreditTransactionId,
)
from faregate.domain.user import User
from faregate.ports import Ledger
from redis_ledger import records_after

IDENTITY = LedgerIdentity(
    ledger_id=UUID(int=1), shard_count=1, starting_credits=5, epoch=1, installed=False
)
HOUR_MS = 3_600_000
TEN = Allowance(amount=10, period=Period(kind=PeriodKind.ROLLING, length_ms=HOUR_MS))
KEY = IdempotencyKey(key="once", fingerprint="GET /", lifetime_ms=HOUR_MS, lease_ms=HOUR_MS)


@dataclass(slots=True)
class Collector:
    """A ledger with one user of five credits, and its clock."""

    ledger: Ledger
    clock: Clock
    user_id: UUID
    redis_url: str = ""

    def entry(self, name: str, cost: int, **rest: object) -> JournalEntry:
        """Return the entry that a name stands for."""
        return JournalEntry(
            attempt_id=identify(name),
            user_id=self.user_id,
            cost=cost,
            description=f"request {name}",
            metadata={"name": name},
            asked_at_ms=1,
            deadline_ms=2,
            served_at_ms=1_800_000_000_000,
            **rest,  # type: ignore[arg-type]
        )

    async def collect(self, name: str, cost: int, **rest: object) -> tuple[object, ...]:
        """Collect; return what came of it."""
        return seen(await self.ledger.collect(self.entry(name, cost, **rest)))

    async def charge(self, cost: int, key: IdempotencyKey | None = None) -> Decision:
        """Charge as a request would."""
        spend = Spend(self.user_id, cost, CreditPolicy(), SpendOptions(key=key))
        return await self.ledger.decide(Attempt(spend))

    async def give_back(self, name: str, amount: int | None) -> tuple[object, ...]:
        """Refund what was collected."""
        refund = Refund(
            user_id=self.user_id,
            deduct_id=self.entry(name, 0).deduct_id,
            transaction_id=identify(f"refund {name} {amount}"),
            amount=amount,
            description="refund",
        )
        return seen(await self.ledger.refund(refund))

    def records(self) -> list[CreditTransaction]:
        """Return all records, oldest first."""
        if isinstance(self.ledger, MemoryLedger):
            return list(self.ledger.pending.values())
        stream = RedisStream.from_url(self.redis_url, 1)
        try:
            return [entry.transaction for entry in records_after(stream) if entry.transaction]
        finally:
            stream.close()


def identify(name: str) -> CreditTransactionId:
    """Return the id that a name stands for, the same one on both."""
    return CreditTransactionId.derive(name, UUID(int=7))


def seen(decision: Decision) -> tuple[object, ...]:
    """Return what both adapters must agree on."""
    return (
        str(decision.verdict),
        decision.amount if decision.allowed else None,
        decision.credits,
        decision.allowance_left,
        decision.repeated,
    )


def shape(record: CreditTransaction) -> tuple[object, ...]:
    """Return what both adapters must agree on; times, and ids of charges, differ."""
    return (
        record.type,
        record.amount,
        record.sequence,
        record.balance_after,
        record.description,
        record.metadata,
        record.allowance_amount,
        record.allowance_after,
    )


@asynccontextmanager
async def collector_on(kind: str, url: str) -> AsyncIterator[Collector]:
    """Begin with a user of five credits."""
    user = User(id=uuid4(), credits=5, sequence=1, epoch=IDENTITY.epoch)
    if kind == "memory":
        clock = Clock()
        memory = MemoryLedger(now_ms=clock)
        await memory.attach(IDENTITY)
        await memory.install(user)
        yield Collector(memory, clock, user.id)
        return
    with clock_of_the_test(), Redis.from_url(url) as client:
        # Time begins anew, and ids of a stream cannot go back.
        client.flushall()
        ledger = RedisLedger.from_url(
            url, shard_count=1, pending_max=9_999, decision_timeout_ms=30_000
        )
        ToldClocks.clock = redis_clock = RedisClock(client)
        try:
            await ledger.attach(IDENTITY)
            await ledger.install(user)
            yield Collector(ledger, redis_clock, user.id, url)
        finally:
            await ledger.aclose()
