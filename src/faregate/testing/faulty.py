"""The ports of a gate over those in memory, with faults."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from faregate.adapters.memory.books import MemoryBooks
from faregate.adapters.memory.holds import MemoryHoldLedger
from faregate.adapters.memory.shadows import MemoryShadows
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import OutcomeUnknownError
from faregate.domain.history import HistoryRow, Place
from faregate.domain.hold import Hold, HoldAnswer, HoldRequest, Settlement
from faregate.domain.idempotency import Completion, KeyState
from faregate.domain.identity import LedgerIdentity
from faregate.domain.journal import JournalEntry
from faregate.domain.limit import LimitState, RateLimit
from faregate.domain.policy import Allowance
from faregate.domain.request import Charge, Credit, DurableDeduct, Refund, VoidOutcome
from faregate.domain.shadow import Observation
from faregate.domain.transaction import CreditTransaction, CreditTransactionId
from faregate.domain.user import User
from faregate.testing.clock import Clock
from faregate.testing.faults import Failure, Faults

#: The limit that refuses where a policy has none.
_ON_PURPOSE = RateLimit(name="on purpose", count=1, period_ms=60_000)


class FaultyLedger:
    """The port `HoldLedger`."""

    def __init__(self, inner: MemoryHoldLedger, faults: Faults, clock: Clock) -> None:
        self._inner = inner
        self._faults = faults
        self._clock = clock

    def now_ms(self) -> int:
        """Return the time of the test."""
        return self._clock()

    async def charge(self, charge: Charge) -> Decision:
        """Take credits, unless it is to be answered otherwise."""
        self._faults.reach_redis()
        answer = self._faults.answer_to(charge, is_hold=False)
        if answer is not None:
            return await self._answered(charge, answer)
        self._lose(Failure.REQUEST_LOST, charge)
        decision = await self._inner.charge(charge)
        self._lose(Failure.ANSWER_LOST, charge)
        return decision

    async def hold(self, request: HoldRequest) -> Hold:
        """Take an estimate, unless it is to be answered otherwise."""
        self._faults.reach_redis()
        answer = self._faults.answer_to(request.charge, is_hold=True)
        if answer is not None:
            decision = await self._answered(request.charge, answer)
            expires_at_ms = self.now_ms() + request.ttl_ms if decision.allowed else 0
            return Hold(decision=decision, expires_at_ms=expires_at_ms)
        self._lose(Failure.REQUEST_LOST, request.charge)
        hold = await self._inner.hold(request)
        self._lose(Failure.ANSWER_LOST, request.charge)
        return hold

    async def _answered(self, charge: Charge, answer: Verdict | KeyState) -> Decision:
        """Say what is to be said, of a user as it is; a peek tells, and takes nothing."""
        found = await self._inner.charge(replace(charge, cost=0, records_zero=False, key=None))
        if found.verdict is Verdict.UNKNOWN_USER:
            # First sight comes first.
            return replace(found, amount=-charge.cost)
        blank = replace(found, amount=-charge.cost, limited_by="", retry_after_ms=0)
        if isinstance(answer, KeyState):
            return replace(blank, verdict=Verdict.ALLOWED, repeated=True, key_state=answer)
        if answer is Verdict.RATE_LIMITED:
            return self._rate_limited(charge, blank)
        if answer in {Verdict.OUT_OF_CREDITS, Verdict.CREDITS_HELD}:
            return replace(blank, verdict=answer, credits=0, allowance_left=0)
        return replace(blank, verdict=answer)

    def _rate_limited(self, charge: Charge, blank: Decision) -> Decision:
        """Refuse by the first limit, or by one that no policy has."""
        limit = charge.limits[0] if charge.limits else _ON_PURPOSE
        wait_ms = self._faults.retry_after_ms
        refusing = LimitState.of(limit, remaining=0, resets_in_ms=wait_ms)
        return replace(
            blank,
            verdict=Verdict.RATE_LIMITED,
            limited_by=limit.name,
            retry_after_ms=wait_ms,
            limits=(refusing, *blank.limits[1:]),
        )

    def _lose(self, failure: Failure, charge: Charge) -> None:
        if self._faults.failure is failure:
            # Who asks waits until the deadline has passed.
            self._clock.advance(max(0, charge.deadline_ms + 1 - self._clock()))
            raise OutcomeUnknownError("a message was lost on purpose")

    async def attach(self, identity: LedgerIdentity) -> None:
        """See the port, as for all that follows."""
        self._faults.reach_redis()
        await self._inner.attach(identity)

    async def credit(self, credit: Credit) -> Decision:
        """Add credits or adjust a balance."""
        self._faults.reach_redis()
        return await self._inner.credit(credit)

    async def refund(self, refund: Refund) -> Decision:
        """Give a deduct back."""
        self._faults.reach_redis()
        return await self._inner.refund(refund)

    async def void(self, charge: Charge) -> VoidOutcome:
        """Settle a charge whose outcome is unknown."""
        self._faults.reach_redis()
        return await self._inner.void(charge)

    async def collect(self, entry: JournalEntry) -> Decision:
        """Take what a journaled request owes."""
        self._faults.reach_redis()
        return await self._inner.collect(entry)

    async def complete(self, completion: Completion) -> bool:
        """Note that the request of an idempotency key has been served."""
        self._faults.reach_redis()
        return await self._inner.complete(completion)

    async def response(self, user_id: UUID, transaction_id: CreditTransactionId) -> bytes | None:
        """Return the response that was kept."""
        self._faults.reach_redis()
        return await self._inner.response(user_id, transaction_id)

    async def read(self, user_id: UUID, allowance: Allowance | None = None) -> User | None:
        """Return the live balance."""
        self._faults.reach_redis()
        return await self._inner.read(user_id, allowance)

    async def renew(self, user_id: UUID, allowance: Allowance) -> int | None:
        """Begin the period of now, if an earlier one is over."""
        self._faults.reach_redis()
        return await self._inner.renew(user_id, allowance)

    async def install(self, user: User) -> bool:
        """Take over a user's durable balance."""
        self._faults.reach_redis()
        return await self._inner.install(user)

    async def settle(self, settlement: Settlement) -> HoldAnswer:
        """End a hold."""
        self._faults.reach_redis()
        return await self._inner.settle(settlement)

    async def extend(self, user_id: UUID, hold_id: CreditTransactionId, ttl_ms: int) -> HoldAnswer:
        """Let an open hold expire later."""
        self._faults.reach_redis()
        return await self._inner.extend(user_id, hold_id, ttl_ms)

    async def void_hold(self, request: HoldRequest) -> VoidOutcome:
        """End a hold whose outcome is unknown."""
        self._faults.reach_redis()
        return await self._inner.void_hold(request)

    async def expire_due(self, user_id: UUID) -> int:
        """End the holds of a user whose time is over."""
        self._faults.reach_redis()
        return await self._inner.expire_due(user_id)

    async def aclose(self) -> None:
        """There is nothing to let go of."""


class FaultyBooks:
    """The ports `Accounts` and `History`."""

    def __init__(self, inner: MemoryBooks, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults

    async def identity(self) -> LedgerIdentity:
        """Return what the ledger was created with."""
        self._faults.reach_postgres()
        return await self._inner.identity()

    async def mark_installed(self, epoch: int) -> None:
        """Note that the live ledger has its epoch."""
        self._faults.reach_postgres()
        await self._inner.mark_installed(epoch)

    async def open(self, user_id: UUID, *, provision: bool) -> User | None:
        """Return a user's durable balance."""
        self._faults.reach_postgres()
        return await self._inner.open(user_id, provision=provision)

    async def transaction(self, transaction_id: CreditTransactionId) -> CreditTransaction | None:
        """Return a row."""
        self._faults.reach_postgres()
        return await self._inner.transaction(transaction_id)

    async def deduct(self, user_id: UUID, deduct_id: CreditTransactionId) -> DurableDeduct | None:
        """Return a deduct and what its refunds add up to."""
        self._faults.reach_postgres()
        return await self._inner.deduct(user_id, deduct_id)

    async def users_after(self, after: UUID | None, count_max: int) -> Sequence[UUID]:
        """Return the next users by id."""
        self._faults.reach_postgres()
        return await self._inner.users_after(after, count_max)

    async def read(
        self, user_id: UUID, count_max: int, before: Place | None = None
    ) -> Sequence[HistoryRow]:
        """Return a user's newest rows."""
        self._faults.reach_postgres()
        return await self._inner.read(user_id, count_max, before)

    async def aclose(self) -> None:
        """There is nothing to let go of."""


class FaultyShadows:
    """The port `Shadows`."""

    def __init__(self, inner: MemoryShadows, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults

    async def observe(self, observation: Observation) -> Decision:
        """Decide on the shadow balance of a user, and count the answer."""
        self._faults.reach_redis()
        return await self._inner.observe(observation)

    async def correct(self, observation: Observation, amount: int) -> None:
        """Change the shadow balance of a user."""
        self._faults.reach_redis()
        await self._inner.correct(observation, amount)

    async def counts(self, policy: str) -> Mapping[Verdict, int]:
        """Return how often each verdict would have been given."""
        self._faults.reach_redis()
        return await self._inner.counts(policy)
