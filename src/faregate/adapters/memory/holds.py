"""The ends of holds: settlement, cancellation, expiry, void; and extension."""

from dataclasses import replace
from uuid import UUID

from faregate.adapters.memory.keys import IdempotencyKeys
from faregate.adapters.memory.state import MemoryState
from faregate.adapters.memory.values import MemoryHold, check_range
from faregate.domain.decision import Verdict
from faregate.domain.errors import InvalidArgumentError, TransactionConflictError
from faregate.domain.hold import HoldAnswer, HoldState, Settlement, closing_id
from faregate.domain.policy import in_current_period
from faregate.domain.spend import TTL_MS_MAX, check_ttl
from faregate.domain.transaction import CREDITS_MAX, CreditTransactionId
from faregate.domain.windows import MEMORY_MS

#: How many expired holds of a user end in one call.
_USER_COUNT_MAX = 20


class Holds:
    """Open and ended holds. An end writes at most one record."""

    def __init__(self, state: MemoryState, keys: IdempotencyKeys) -> None:
        self._state = state
        self._records = state.records
        self._keys = keys

    async def settle(self, settlement: Settlement) -> HoldAnswer:
        """Settle a hold by its actual cost, or cancel it; see the port."""
        self._records.begin()
        hold, actual = self._state.hold(settlement.user_id, settlement.hold_id), settlement.actual
        if hold is None:
            return self._with_balance(_unknown(settlement.user_id, settlement.hold_id))
        state = HoldState.CANCELLED if actual is None else HoldState.SETTLED
        self._expire_if_due(hold)
        if hold.answer.state is HoldState.EXPIRED:
            return self._answer(hold, Verdict.HOLD_EXPIRED)
        if not hold.is_open:
            if (hold.answer.state, hold.actual) != (state, actual or 0):
                raise TransactionConflictError("the hold has ended in another way")
            return self._answer(hold, Verdict.ALLOWED, repeated=True)
        attempt_id = settlement.attempt_id
        if actual is None and self._keys.is_leased_to_another(
            settlement.user_id, hold.deduct.id, attempt_id
        ):
            return self._answer(hold, Verdict.TAKEN_OVER)
        self._balance(hold, settlement)
        hold.actual = actual or 0
        self._close(hold, state, attempt_id)
        return self._answer(hold, Verdict.ALLOWED)

    async def extend(self, user_id: UUID, hold_id: CreditTransactionId, ttl_ms: int) -> HoldAnswer:
        """Extend an open hold; see the port."""
        self._records.begin()
        check_ttl(ttl_ms)
        hold = self._state.hold(user_id, hold_id)
        if hold is None:
            return self._with_balance(_unknown(user_id, hold_id))
        self._expire_if_due(hold)
        if hold.answer.state is HoldState.EXPIRED:
            return self._answer(hold, Verdict.HOLD_EXPIRED)
        if not hold.is_open:
            return self._answer(hold, Verdict.HOLD_CLOSED)
        expires_at_ms = self._records.now_ms + ttl_ms
        if expires_at_ms > hold.opened_at_ms + TTL_MS_MAX:
            raise InvalidArgumentError("the hold would be open for more than a day")
        hold.note(expires_at_ms=expires_at_ms)
        return self._answer(hold, Verdict.ALLOWED)

    async def expire_due(self, user_id: UUID) -> int:
        """End the expired holds of a user, the oldest first; see the port."""
        return self._expire(user_id, _USER_COUNT_MAX)

    def sweep(self) -> int:
        """End all expired holds, as a worker does; return how many."""
        return self._expire(None, None)

    def _expire(self, user_id: UUID | None, count_max: int | None) -> int:
        self._records.begin()
        due = [
            hold
            for hold in self._state.open_holds(user_id)
            if hold.answer.expires_at_ms <= self._records.now_ms
        ]
        due.sort(key=lambda hold: (hold.answer.expires_at_ms, hold.deduct.id.bytes))
        for hold in due[:count_max]:
            self._expire_if_due(hold)
        return len(due[:count_max])

    def _expire_if_due(self, hold: MemoryHold) -> None:
        """End a hold if it is open and its time is over."""
        if hold.is_open and hold.answer.expires_at_ms <= self._records.now_ms:
            self.end(hold, HoldState.EXPIRED, "the hold expired")

    def end(self, hold: MemoryHold, state: HoldState, description: str) -> None:
        """End a hold without a settlement. A void always gives it back."""
        is_charged = hold.is_kept_at_expiry and state is HoldState.EXPIRED
        if not is_charged and not hold.answer.refunded:
            room = CREDITS_MAX - self._state.users[hold.deduct.user_id].credits
            self._give_back(hold, min(hold.deduct.amounts.amount, room), description=description)
        self._close(hold, state)

    def _balance(self, hold: MemoryHold, settlement: Settlement) -> None:
        """Give back the unused part of the estimate, or take the missing part."""
        actual, cost = settlement.actual or 0, hold.deduct.amounts.amount
        if not cost and settlement.actual is not None:
            self._take(hold, settlement, 0)
        elif actual > cost:
            # An operator who refunds the whole estimate ends the hold: nothing more is taken.
            if hold.deduct.left > 0:
                self._take(hold, settlement, actual - cost)
        else:
            check_range(self._state.users[hold.deduct.user_id].credits + cost - actual)
            self._give_back(
                hold,
                cost - actual,
                description=settlement.description,
                metadata=settlement.metadata,
            )

    def _take(self, hold: MemoryHold, settlement: Settlement, amount: int) -> None:
        """Take the missing part, as far as the credits and the overdraft go."""
        user, allowance = self._state.users[hold.deduct.user_id], settlement.allowance
        in_period, _ = in_current_period(user, allowance, self._records.now_ms)
        check_range(in_period.credits)
        charged = max(0, min(amount, in_period.credits + settlement.overdraft_max))
        hold.note(charged=charged, shortfall=amount - charged)
        if not charged and hold.deduct.amounts.amount:
            return
        record = self._state.take(
            user,
            allowance,
            charged,
            id=closing_id(hold.deduct.id),
            description=settlement.description,
            metadata=settlement.metadata,
        )
        self._records.remembered.put(record.id, record, MEMORY_MS)

    def _give_back(self, hold: MemoryHold, amount: int, **fields: object) -> None:
        """Refund a part of the estimate, at most what is left of it."""
        amount = min(amount, hold.deduct.left)
        if amount > 0:
            self._state.give_back(hold.deduct, amount, id=closing_id(hold.deduct.id), **fields)
            hold.note(refunded=amount)

    def _close(
        self, hold: MemoryHold, state: HoldState, attempt_id: CreditTransactionId | None = None
    ) -> None:
        """Note the end of a hold, then complete or delete its idempotency key."""
        hold.note(state=state)
        self._state.save(hold.deduct)
        is_charged = hold.is_kept_at_expiry and state is HoldState.EXPIRED
        if is_charged or state is HoldState.SETTLED:
            self._keys.serve(hold.deduct.user_id, hold.deduct.id, attempt_id)
        else:
            self._keys.forget(hold.deduct.user_id, hold.deduct.id)

    def _answer(self, hold: MemoryHold, verdict: Verdict, *, repeated: bool = False) -> HoldAnswer:
        """Answer with the state of a hold."""
        return self._with_balance(replace(hold.answer, verdict=verdict, repeated=repeated))

    def _with_balance(self, answer: HoldAnswer) -> HoldAnswer:
        user = self._state.users.get(answer.user_id)
        if user is None:
            return answer
        return replace(answer, credits=user.credits, allowance_left=user.allowance_left)


def _unknown(user_id: UUID, hold_id: CreditTransactionId) -> HoldAnswer:
    """Return the refusal for an unknown hold."""
    return HoldAnswer(
        verdict=Verdict.UNKNOWN_HOLD, user_id=user_id, hold_id=hold_id, state=HoldState.UNKNOWN
    )
