"""Live credits in plain dicts."""

from collections.abc import Callable
from uuid import UUID

from faregate.adapters.memory.changes import MemoryCredits, MemoryReversals
from faregate.adapters.memory.holds import Holds
from faregate.adapters.memory.keys import IdempotencyKeys
from faregate.adapters.memory.limits import RateLimits
from faregate.adapters.memory.shadows import MemoryShadows
from faregate.adapters.memory.spends import Spends
from faregate.adapters.memory.state import MemoryState, Records
from faregate.adapters.memory.values import check_range, unix_ms
from faregate.domain.attempt import Attempt
from faregate.domain.decision import Decision
from faregate.domain.durability import Durability
from faregate.domain.errors import LedgerUnavailableError, LedgerUninitialisedError
from faregate.domain.health import CallCounts
from faregate.domain.policy import Allowance, in_current_period
from faregate.domain.transaction import CreditTransaction, CreditTransactionId, check_whole
from faregate.domain.user import User
from faregate.ports import SpendLane


class MemoryLedger:
    """The port `Ledger` in one shard. Its other methods are those of its parts."""

    def __init__(
        self,
        *,
        now_ms: Callable[[], int] = unix_ms,
        pending_max: int = 1_000_000,
        decision_timeout_ms: int = 50,
    ) -> None:
        self._decision_timeout_ms = decision_timeout_ms
        #: Memory makes no calls; see the port.
        self.calls: CallCounts | None = None
        self.records = Records(now_ms, pending_max)
        self.state = MemoryState(self.records)
        self.attach, self.now_ms = self.records.attach, self.records.time_ms

        keys, limits = IdempotencyKeys(self.records), RateLimits()
        holds, credits = Holds(self.state, keys), MemoryCredits(self.state, keys)
        reversals = MemoryReversals(self.state, keys, holds)
        self._spends = Spends(self.state, keys, limits)
        self._shadows = MemoryShadows(self.records, limits)
        self.settle, self.extend = holds.settle, holds.extend
        self.expire_due, self.sweep = holds.expire_due, holds.sweep
        self.refund, self.void = reversals.refund, reversals.void
        self.credit, self.collect = credits.credit, credits.collect
        self.complete, self.response = keys.complete, keys.response
        self.correct_shadow, self.shadow_counts = self._shadows.correct, self._shadows.counts

    @property
    def pending(self) -> dict[str, CreditTransaction]:
        """Pending records by their ids, the oldest first."""
        return {str(record.id): record for _, record in self.records.after(self.records.stored)}

    @property
    def name(self) -> str:
        """The name of its only lane, which it is itself; see the port."""
        return "memory"

    def lane(self, user_id: UUID, durability: Durability = Durability.MEMORY) -> SpendLane:
        """Return the only lane, whatever the durability; see the port."""
        return self

    @property
    def lanes(self) -> tuple[SpendLane]:
        """The only lane; see the port."""
        return (self,)

    @property
    def is_full(self) -> bool:
        """Nothing waits in memory; see the port."""
        return False

    async def decide(self, attempt: Attempt) -> Decision:
        """Decide on a spend; see the port."""
        now_ms, spend = self.now_ms(), attempt.spend
        check_whole("a cost", spend.cost, 0)
        identity = attempt.transaction_id or CreditTransactionId.mint(now_ms)
        attempt.note_sent(
            identity, now_ms, attempt.deadline_ms or now_ms + self._decision_timeout_ms
        )
        self.records.begin()
        if spend.policy.is_shadow:
            return self._shadows.decide(spend, identity)
        return self._spends.decide(attempt, identity)

    async def read(self, user_id: UUID, allowance: Allowance | None = None) -> User | None:
        """Return the live balance; see the port."""
        now_ms, user = self.records.begin(), self.state.user(user_id)
        return None if user is None else in_current_period(user, allowance, now_ms)[0]

    async def renew(self, user_id: UUID, allowance: Allowance) -> int | None:
        """Begin the current period if the last one is over; see the port."""
        now_ms, user = self.records.begin(), self.state.users.get(user_id)
        if user is None:
            return None
        in_period, top_up = in_current_period(user, allowance, now_ms)
        if user.period_start_ms is None or not top_up:
            return 0
        if self.records.is_full:
            raise LedgerUnavailableError("too many records wait for Postgres")
        check_range(in_period.credits)
        self.state.begin_period(user, allowance)
        return top_up

    async def install(self, user: User) -> bool:
        """Take over a user's durable balance; see the port."""
        now_ms = self.records.begin()
        if user.epoch != self.records.epoch:
            raise LedgerUninitialisedError("the ledger in memory is of another epoch")
        if user.id in self.state.users:
            return False
        self.state.users[user.id] = user
        # An older attempt may have been decided before the user was installed.
        self.state.named_ms[user.id] = now_ms
        return True

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""
