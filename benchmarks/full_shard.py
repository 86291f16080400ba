"""One shard of a ledger whose stream is full of records, and requests that look for some of them.

With internals.py it is all that the benchmarks know of Faregate beside its public interface.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from redis import Redis

from benchmarks.servers import CREDITS
from faregate.adapters.redis import keys
from faregate.adapters.redis.layouts import ENTRY, RECORD, TIME_MS_BYTES, TIME_US_BYTES, VERSION
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.values import ShardState
from faregate.domain.attempt import Attempt, Phase
from faregate.domain.decision import Decision, Verdict
from faregate.domain.idempotency import id_of_idempotency_key
from faregate.domain.identity import LedgerIdentity
from faregate.domain.policy import CreditPolicy
from faregate.domain.request import Credit, DurableDeduct, Refund, Void
from faregate.domain.spend import Spend, SpendOptions
from faregate.domain.transaction import CreditTransactionId, TransactionType
from faregate.domain.user import User
from faregate.domain.windows import RETENTION_MS

RECORDS_A_SECOND, RECORDS_AN_ENTRY = 4_000, 16
ENTRY_MS = 1_000 * RECORDS_AN_ENTRY // RECORDS_A_SECOND
#: The shard is ahead of its server, so its time stands still while it is measured.
AHEAD_MS = 3_600_000
TIMEOUT_MS = 10_000
_IDENTITY = LedgerIdentity(
    ledger_id=UUID(int=1), shard_count=1, starting_credits=CREDITS, epoch=1, installed=False
)
_KEYS = keys.shards(1)[0]
_STREAM = _KEYS.stream.decode()
_FULL = f"{_STREAM}:full"
_DEDUCT = 1
_POLICY = CreditPolicy()
_PIPELINE_MAX = 500


@dataclass(frozen=True, slots=True)
class FullShard:
    """A shard that holds all records of the time for which a stream keeps them."""

    client: Redis
    ledger: RedisLedger
    #: Who made all records.
    user_id: UUID
    now_ms: int
    #: Of one record in each entry, the newest last.
    ids: list[CreditTransactionId]

    def restore(self) -> None:
        """Take back what was recorded since the shard was filled."""
        self.client.copy(_FULL, _STREAM, replace=True)
        self.client.set(_KEYS.state, _state(self.now_ms, len(self.ids)))

    def recorded(self, age_ms: int, number: int) -> CreditTransactionId:
        """Return the id of a record of about some age, another one for each number."""
        return self.ids[-1 - age_ms // ENTRY_MS - number]

    def unknown(self, age_ms: int) -> CreditTransactionId:
        """Return an id of some age that no record has."""
        return CreditTransactionId.mint(self.now_ms - age_ms)

    async def retry(self, asked: CreditTransactionId) -> str:
        """Send a charge with an id of the gate's again."""
        attempt = Attempt(Spend(self.user_id, 1, _POLICY))
        attempt.transaction_id, attempt.phase = asked, Phase.SENT_AGAIN
        return _word(await self.ledger.decide(attempt))

    async def spend(self, asked: CreditTransactionId) -> str:
        """Charge with an id of the caller's."""
        options = SpendOptions(transaction_id=asked)
        return _word(await self.ledger.decide(Attempt(Spend(self.user_id, 1, _POLICY, options))))

    async def void(self, asked: CreditTransactionId) -> str:
        """Void a charge whose deadline has just passed."""
        return await self.ledger.void(
            Void(
                user_id=self.user_id,
                transaction_id=asked,
                asked_at_ms=0,
                deadline_ms=self.now_ms - 1,
            )
        )

    async def grant(self, asked: CreditTransactionId) -> str:
        """Grant a credit with an id of the caller's."""
        credit = Credit(
            user_id=self.user_id,
            transaction_id=asked,
            type=TransactionType.ADD,
            amount=1,
            description="grant",
        )
        return _word(await self.ledger.credit(credit))

    async def grant_by_key(self, asked: CreditTransactionId) -> str:
        """Grant a credit with a key of the caller's."""
        return await self.grant(id_of_idempotency_key(self.user_id, str(asked)))

    async def refund(self, asked: CreditTransactionId) -> str:
        """Give a charge back that is known by its id alone."""
        return _word(await self.ledger.refund(self._refund_of(asked)))

    async def refund_row(self, asked: CreditTransactionId) -> str:
        """Give a charge back of which only Postgres knows, as the gate does."""
        refund = self._refund_of(asked)
        decision = await self.ledger.refund(refund)
        if decision.verdict is Verdict.UNKNOWN_DEDUCT:
            durable = DurableDeduct(amount=1, refunded=0)
            decision = await self.ledger.refund(replace(refund, durable=durable))
        return _word(decision)

    def _refund_of(self, asked: CreditTransactionId) -> Refund:
        return Refund(
            user_id=self.user_id,
            deduct_id=asked,
            transaction_id=CreditTransactionId.derive("refund", asked.value),
            amount=None,
            description="refund",
        )

    def script_calls(self) -> tuple[int, int]:
        """Return how many scripts were run, and the microseconds that they took."""
        stats: dict[str, Any] = self.client.info("commandstats")
        told = [stats.get(name, {}) for name in ("cmdstat_evalsha", "cmdstat_fcall")]
        calls = sum(one.get("calls", 0) for one in told)
        return calls, sum(one.get("usec", 0) for one in told)


def _word(decision: Decision) -> str:
    return "repeated" if decision.repeated else str(decision.verdict)


@asynccontextmanager
async def full_shard(redis_url: str, user_id: UUID) -> AsyncIterator[FullShard]:
    """Fill the one shard of an empty Redis with records of one user."""
    ledger = RedisLedger.from_url(
        redis_url, shard_count=1, pending_max=2**31 - 1, decision_timeout_ms=TIMEOUT_MS
    )
    with Redis.from_url(redis_url) as client:
        seconds, _ = client.time()
        now_ms = seconds * 1_000 + AHEAD_MS
        await ledger.attach(_IDENTITY)
        user = User(id=user_id, credits=CREDITS // 2, sequence=1, epoch=1)
        await ledger.install(user)
        await ledger.aclose()
        shard = FullShard(client, ledger, user_id, now_ms, list(_fill(client, user_id, now_ms)))
        shard.restore()
        await ledger.attach(_IDENTITY)
        try:
            yield shard
        finally:
            await ledger.aclose()


def _state(now_ms: int, entries_count: int) -> bytes:
    count = entries_count * RECORDS_AN_ENTRY
    state = ShardState(
        epoch=1,
        ordinal=count,
        stored=count,
        last_us=now_ms * 1_000,
        oldest_ms=now_ms - RETENTION_MS,
    )
    return state.pack()


def _fill(client: Redis, user_id: UUID, now_ms: int) -> Iterator[CreditTransactionId]:
    """Write all entries, and iterate over the ids of one record in each."""
    pipeline, ordinal = client.pipeline(transaction=False), 1
    for at_ms in range(now_ms - RETENTION_MS, now_ms, ENTRY_MS):
        ids = [CreditTransactionId.mint(at_ms) for _ in range(RECORDS_AN_ENTRY)]
        pipeline.xadd(_FULL, {"r": _entry(at_ms, ordinal, user_id, ids)}, id=f"{at_ms}-0")
        ordinal += len(ids)
        yield ids[len(ids) // 2]
        if len(pipeline) >= _PIPELINE_MAX:
            pipeline.execute()
    pipeline.execute()


def _entry(at_ms: int, ordinal: int, user_id: UUID, ids: list[CreditTransactionId]) -> bytes:
    head = ENTRY.pack(
        VERSION,
        1,
        ordinal.to_bytes(TIME_MS_BYTES),
        len(ids),
        (at_ms * 1_000).to_bytes(TIME_US_BYTES),
    )
    records = [
        RECORD.pack(RECORD.size, _DEDUCT, 0, one.bytes, user_id.bytes, -1, CREDITS, ordinal + place)
        for place, one in enumerate(ids)
    ]
    return head + b"".join(records)
