"""A shard whose time stands still, and whose entries a test writes where it needs them."""

from dataclasses import dataclass
from uuid import UUID

from redis import Redis

from faregate.adapters.redis.layouts import (
    ENTRY,
    RECORD,
    TIME_MS_BYTES,
    TIME_US_BYTES,
    VERSION,
)
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.values import ShardState
from faregate.domain.attempt import Attempt, Phase
from faregate.domain.decision import Decision
from faregate.domain.request import Credit, Refund, Void, VoidOutcome
from faregate.domain.transaction import CreditTransactionId, TransactionType
from redis_ledger import KEYS, attempt_of

#: The shard is so far ahead of its server that its time stands still.
AHEAD_MS = 3_600_000
DAY_MS = 86_400_000
_DEDUCT = 1


@dataclass(frozen=True, slots=True)
class FullStream:
    """The one shard of a ledger with one user."""

    client: Redis
    ledger: RedisLedger
    user_id: UUID
    now_ms: int

    async def begin(self) -> None:
        """Let the time of the shard be what it is, with all records of a day, and be known."""
        state = ShardState(epoch=1, last_us=self.now_ms * 1_000, oldest_ms=self.now_ms - DAY_MS)
        self.client.set(KEYS.state, state.pack())
        await self.ledger.read(self.user_id)

    def id_of(self, age_ms: int) -> CreditTransactionId:
        """Return a new id of some age."""
        return CreditTransactionId.mint(self.now_ms - age_ms)

    def record(self, identity: CreditTransactionId, at_ms: int, number: str = "*") -> None:
        """Write an entry with one charge of a credit; entries are written in their order."""
        self.client.xadd(KEYS.stream, {"r": self._entry(identity, at_ms)}, id=f"{at_ms}-{number}")

    def fill(self, first_ms: int, count: int, *, an_ms: int = 1) -> None:
        """Write entries of other charges, so many in each millisecond."""
        payload = self._entry(self.id_of(0), first_ms)
        pipeline = self.client.pipeline(transaction=False)
        for number in range(count):
            at_ms = first_ms + number // an_ms
            pipeline.xadd(KEYS.stream, {"r": payload}, id=f"{at_ms}-*")
        pipeline.execute()

    def _entry(self, identity: CreditTransactionId, at_ms: int) -> bytes:
        ordinal, time = (1).to_bytes(TIME_MS_BYTES), (at_ms * 1_000).to_bytes(TIME_US_BYTES)
        head = ENTRY.pack(VERSION, 1, ordinal, 1, time)
        owner = self.user_id.bytes
        return head + RECORD.pack(RECORD.size, _DEDUCT, 0, identity.bytes, owner, -1, 9, 2)

    def counted(self, command: str) -> int:
        """Return how often Redis has run a command, those in scripts included."""
        told = self.client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})
        return int(told["calls"])

    async def retry(self, identity: CreditTransactionId) -> Decision:
        """Send a charge with an id of the gate's again."""
        attempt = attempt_of(self.user_id)
        attempt.transaction_id, attempt.phase = identity, Phase.SENT_AGAIN
        return await self.ledger.decide(attempt)

    async def spend(self, identity: CreditTransactionId) -> Decision:
        """Charge with an id of the caller's."""
        return await self.ledger.decide(self.given(identity))

    def given(self, identity: CreditTransactionId) -> Attempt:
        """Return an attempt with an id of the caller's."""
        return attempt_of(self.user_id, transaction_id=identity)

    async def void(self, identity: CreditTransactionId, deadline_ms: int) -> VoidOutcome:
        """Void an attempt."""
        void = Void(
            user_id=self.user_id, transaction_id=identity, asked_at_ms=0, deadline_ms=deadline_ms
        )
        return await self.ledger.void(void)

    async def refund(self, identity: CreditTransactionId) -> Decision:
        """Give a charge back."""
        refund = Refund(
            user_id=self.user_id,
            deduct_id=identity,
            transaction_id=CreditTransactionId.derive("refund", identity.value),
            amount=None,
            description="refund",
        )
        return await self.ledger.refund(refund)

    async def grant(self, identity: CreditTransactionId) -> Decision:
        """Grant a credit with an id of the caller's."""
        credit = Credit(
            user_id=self.user_id,
            transaction_id=identity,
            type=TransactionType.ADD,
            amount=1,
            description="grant",
        )
        return await self.ledger.credit(credit)
