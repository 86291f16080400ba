"""Live credits in plain dicts."""

from collections.abc import Callable, Mapping
from uuid import UUID

from faregate.adapters.memory.changes import Credits, Reversals
from faregate.adapters.memory.clock import unix_ms
from faregate.adapters.memory.holds import Holds
from faregate.adapters.memory.keys import IdempotencyKeys
from faregate.adapters.memory.limits import RateLimits
from faregate.adapters.memory.records import Records
from faregate.adapters.memory.shadows import Shadows
from faregate.adapters.memory.spends import Spends
from faregate.adapters.memory.state import State
from faregate.adapters.memory.values import check_range
from faregate.domain.attempt import Attempt
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import LedgerUnavailableError, LedgerUninitialisedError
from faregate.domain.hold import HoldAnswer, Settlement
from faregate.domain.idempotency import Completion
from faregate.domain.identity import LedgerIdentity
from faregate.domain.journal import JournalEntry
from faregate.domain.policy import Allowance, CreditPolicy, renewed
from faregate.domain.request import Credit, Refund, Void, VoidOutcome
from faregate.domain.transaction import CreditTransaction, CreditTransactionId, check_whole
from faregate.domain.user import User


class MemoryLedger:
    """The port `Ledger`, in one shard."""

    def __init__(
        self,
        *,
        now_ms: Callable[[], int] = unix_ms,
        pending_max: int = 1_000_000,
        decision_timeout_ms: int = 50,
    ) -> None:
        self._decision_timeout_ms = decision_timeout_ms
        self.records = Records(now_ms, pending_max)
        self.state = State(self.records)
        self._keys = IdempotencyKeys(self.records.time_ms)
        self._holds = Holds(self.state, self._keys)
        limits = RateLimits()
        self._spends = Spends(self.state, self._keys, limits)
        self._shadows = Shadows(self.records, limits)
        self._reversals = Reversals(self.state, self._keys, self._holds)
        self._credits = Credits(self.state, self._keys)

    @property
    def pending(self) -> Mapping[str, CreditTransaction]:
        """The records that are not acknowledged, by their ids, oldest first."""
        return self.records.pending

    async def attach(self, identity: LedgerIdentity) -> None:
        """Take over the epoch, unless the ledger was installed and is lost."""
        self.records.attach(identity)

    def now_ms(self) -> int:
        """Return the time in Unix milliseconds."""
        return self.records.time_ms()

    async def decide(self, attempt: Attempt) -> Decision:
        """Decide on a spend; see the port."""
        now_ms, spend = self.now_ms(), attempt.spend
        check_whole("a cost", spend.cost, 0)
        identity = attempt.transaction_id or CreditTransactionId.mint(now_ms)
        attempt.sent(identity, now_ms, attempt.deadline_ms or now_ms + self._decision_timeout_ms)
        self.records.begin()
        if spend.policy.is_shadow:
            return self._shadows.decide(spend, identity)
        return self._spends.decide(attempt, identity)

    async def void(self, void: Void) -> VoidOutcome:
        """Undo a spend whose outcome is unknown; see the port."""
        self.records.begin()
        return self._reversals.void(void)

    async def settle(self, settlement: Settlement) -> HoldAnswer:
        """End a hold; see the port."""
        self.records.begin()
        return self._holds.settle(settlement)

    async def extend(self, user_id: UUID, hold_id: CreditTransactionId, ttl_ms: int) -> HoldAnswer:
        """Let an open hold expire later; see the port."""
        self.records.begin()
        return self._holds.extend(user_id, hold_id, ttl_ms)

    async def expire_due(self, user_id: UUID) -> int:
        """End holds of a user that have expired; see the port."""
        self.records.begin()
        return self._holds.expire_due(user_id)

    def sweep(self) -> int:
        """End all holds that have expired, as a worker does; return how many."""
        self.records.begin()
        return self._holds.expire_due(None)

    async def refund(self, refund: Refund) -> Decision:
        """Give a deduct back; see the port."""
        self.records.begin()
        return self._reversals.refund(refund)

    async def credit(self, credit: Credit) -> Decision:
        """Add credits or adjust a balance; see the port."""
        self.records.begin()
        return self._credits.credit(credit)

    async def collect(self, entry: JournalEntry) -> Decision:
        """Take the cost of a journaled request; see the port."""
        self.records.begin()
        return self._credits.collect(entry)

    async def complete(self, completion: Completion) -> bool:
        """Note that the request of an idempotency key has been served; see the port."""
        self.records.begin()
        return self._keys.complete(completion)

    async def response(self, user_id: UUID, transaction_id: CreditTransactionId) -> bytes | None:
        """Return the response that was kept; see the port."""
        return self._keys.responses.get(transaction_id)

    async def read(self, user_id: UUID, allowance: Allowance | None = None) -> User | None:
        """Return the live balance; see the port."""
        now_ms, user = self.records.begin(), self.state.user(user_id)
        return None if user is None else renewed(user, allowance, now_ms)[0]

    async def renew(self, user_id: UUID, allowance: Allowance) -> int | None:
        """Begin the period of now, if an earlier one is over; see the port."""
        now_ms, user = self.records.begin(), self.state.users.get(user_id)
        if user is None:
            return None
        in_period, top_up = renewed(user, allowance, now_ms)
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
        # An attempt that is older may have been made before the user was here.
        self.state.named_ms[user.id] = now_ms
        return True

    async def correct_shadow(self, user_id: UUID, policy: CreditPolicy, amount: int) -> None:
        """Add to a user's shadow balance; see the port."""
        self.records.begin()
        self._shadows.correct(user_id, policy, amount)

    async def shadow_counts(self, policy: str) -> Mapping[Verdict, int]:
        """Return how often each verdict would have been given; see the port."""
        return self._shadows.counts(policy)

    async def aclose(self) -> None:
        """Do nothing: there is nothing to let go of."""
