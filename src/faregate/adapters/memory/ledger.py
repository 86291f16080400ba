"""Live credits in plain dicts."""

from collections.abc import Callable, Mapping
from uuid import UUID

from faregate.adapters.memory.clock import unix_ms
from faregate.adapters.memory.credits import Collections, Credits
from faregate.adapters.memory.earlier import Asked
from faregate.adapters.memory.holds import Holds
from faregate.adapters.memory.parts import Parts
from faregate.adapters.memory.reversals import Refunds, Voids
from faregate.adapters.memory.settlements import Settlements
from faregate.adapters.memory.shadows import Shadows
from faregate.adapters.memory.shard import Shard
from faregate.adapters.memory.spends import Spends
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
        self._parts = parts = Parts(now_ms, pending_max)
        self._spends = Spends(parts)
        self._shadows = Shadows(now_ms, parts.shard, parts.limits)
        self.holds = Holds(parts)
        self._settlements = Settlements(parts, self.holds)
        self._voids = Voids(parts, self.holds)
        self._refunds = Refunds(parts)
        self._credits = Credits(parts)
        self._collections = Collections(parts)

    @property
    def shard(self) -> Shard:
        """The stream of the ledger, and its time."""
        return self._parts.shard

    @property
    def pending(self) -> Mapping[str, CreditTransaction]:
        """The records that are not known to be rows, by their position, oldest first."""
        return self.shard.pending

    def now_ms(self) -> int:
        """Return the time in Unix milliseconds."""
        return self.shard.time_ms()

    async def attach(self, identity: LedgerIdentity) -> None:
        """Take over the epoch, unless the ledger was installed and is lost."""
        self.shard.attach(identity)

    async def decide(self, attempt: Attempt) -> Decision:
        """Decide on a spend; see the port."""
        now_ms, spend = self._begin(), attempt.spend
        check_whole("a cost", spend.cost, 0)
        identity = attempt.transaction_id or CreditTransactionId.mint(now_ms)
        deadline_ms = attempt.deadline_ms or now_ms + self._decision_timeout_ms
        attempt.sent(identity, now_ms, deadline_ms)
        if spend.policy.is_shadow and self.shard.epoch:
            return self._shadows.decide(spend, identity)
        return self._spends.decide(Asked.of(attempt, identity))

    async def void(self, void: Void) -> VoidOutcome:
        """Undo a spend whose outcome is unknown; see the port."""
        self._begin()
        return self._voids.void(void)

    async def settle(self, settlement: Settlement) -> HoldAnswer:
        """End a hold; see the port."""
        self._begin()
        return self._settlements.settle(settlement)

    async def extend(self, user_id: UUID, hold_id: CreditTransactionId, ttl_ms: int) -> HoldAnswer:
        """Let an open hold expire later; see the port."""
        self._begin()
        return self.holds.extend(user_id, hold_id, ttl_ms)

    async def expire_due(self, user_id: UUID) -> int:
        """End holds of a user that have expired; see the port."""
        self._begin()
        return self.holds.expire_due(user_id)

    async def refund(self, refund: Refund) -> Decision:
        """Give a deduct back; see the port."""
        self._begin()
        return self._refunds.refund(refund)

    async def credit(self, credit: Credit) -> Decision:
        """Add credits or adjust a balance; see the port."""
        self._begin()
        return self._credits.credit(credit)

    async def collect(self, entry: JournalEntry) -> Decision:
        """Take the cost of a journaled request; see the port."""
        self._begin()
        return self._collections.collect(entry)

    async def complete(self, completion: Completion) -> bool:
        """Note that the request of an idempotency key has been served; see the port."""
        return bool(self.shard.epoch) and self._parts.keys.complete(completion)

    async def response(self, user_id: UUID, transaction_id: CreditTransactionId) -> bytes | None:
        """Return the response that was kept; see the port."""
        return self._parts.keys.response(transaction_id)

    async def read(self, user_id: UUID, allowance: Allowance | None = None) -> User | None:
        """Return the live balance; see the port."""
        now_ms, account = self._begin(), self._parts.accounts.find(user_id)
        if account is None:
            return None
        return renewed(account.user(self.shard.epoch), allowance, now_ms)[0]

    async def renew(self, user_id: UUID, allowance: Allowance) -> int | None:
        """Begin the period of now, if an earlier one is over; see the port."""
        self._begin()
        account = self._parts.accounts.find(user_id)
        if account is None:
            return None
        in_period = self._parts.accounts.in_period(account, allowance)
        if account.period_start_ms is None or not in_period.top_up:
            return 0
        if self.shard.is_full:
            raise LedgerUnavailableError("too many records wait for Postgres")
        in_period.check_range()
        self._parts.accounts.begin_period(account, in_period)
        return in_period.top_up

    async def install(self, user: User) -> bool:
        """Take over a user's durable balance; see the port."""
        self._begin()
        if self.shard.epoch != user.epoch:
            raise LedgerUninitialisedError("the ledger in memory is of another epoch")
        return self._parts.accounts.install(user)

    async def correct_shadow(self, user_id: UUID, policy: CreditPolicy, amount: int) -> None:
        """Add to a user's shadow balance; see the port."""
        if self.shard.epoch:
            self._shadows.correct(user_id, policy, amount)

    async def shadow_counts(self, policy: str) -> Mapping[Verdict, int]:
        """Return how often each verdict would have been given; see the port."""
        return self._shadows.counts(policy)

    async def aclose(self) -> None:
        """Do nothing: there is nothing to let go of."""

    def _begin(self) -> int:
        self.shard.begin()
        return self.shard.now_ms
