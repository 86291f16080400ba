"""Holds in plain dicts: what the scripts of Redis must do, said in Python."""

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from faregate.adapters.memory.answers import ID_AGE_MS_MAX, blank_answer, check_age
from faregate.adapters.memory.balances import MEMORY_MS
from faregate.adapters.memory.clock import unix_ms
from faregate.adapters.memory.expiring import Expiring
from faregate.adapters.memory.given_back import GivenBack
from faregate.adapters.memory.held import Held
from faregate.adapters.memory.ledger import MemoryLedger
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import AmountError, InvalidArgumentError, TransactionConflictError
from faregate.domain.hold import (
    TTL_MS_MAX,
    Hold,
    HoldAnswer,
    HoldRequest,
    HoldState,
    Settlement,
    check_ttl,
    closing_id,
)
from faregate.domain.idempotency import KeyState
from faregate.domain.policy import OnExpiry, renewed
from faregate.domain.request import Charge, Refund, VoidOutcome
from faregate.domain.transaction import CREDITS_MAX, CreditTransactionId, TransactionType

_USER_COUNT_MAX = 20


class MemoryHoldLedger(MemoryLedger):
    """The port `HoldLedger`, in one shard."""

    def __init__(
        self, *, now_ms: Callable[[], int] = unix_ms, stream_length_max: int = 1_000_000
    ) -> None:
        super().__init__(now_ms=now_ms, stream_length_max=stream_length_max)
        self._holds: Expiring[CreditTransactionId, Held] = Expiring(now_ms)

    async def hold(self, request: HoldRequest) -> Hold:
        """Take an estimate if there is enough; see the port."""
        charge = request.charge
        known = self._known(charge.user_id)
        if known is None:
            return _refused(blank_answer(charge, None, -charge.cost))
        user, top_up = renewed(known, charge.allowance, self.now_ms())
        blank = blank_answer(charge, user, -charge.cost)
        blank = replace(blank, resets_at_ms=user.period_end_ms)
        earlier = self._by_key(charge, blank) or self._earlier(charge, blank)
        if earlier is not None:
            return earlier
        is_held = len(self._open_holds(user.id)) >= request.open_max
        refusal = self._refusal(charge, user, blank, is_held=is_held)
        if refusal is not None:
            return _refused(refusal)
        decision = self._take(blank, charge, user, top_up)
        now_ms = self.now_ms()
        held = Held(request, decision, now_ms, now_ms + request.ttl_ms)
        self._holds.put(held.id, held)
        if charge.cost:
            self._given_back.put(held.id, GivenBack.of(self.pending[decision.position]))
        self._count_held(user.id)
        return Hold(decision=decision, expires_at_ms=held.expires_at_ms)

    def _by_key(self, charge: Charge, blank: Decision) -> Hold | None:
        """Answer a request whose idempotency key is known, as the first one was answered."""
        known = self._keys.recognise(charge, blank, self.now_ms())
        if known is None or not known.allowed:
            return None if known is None else _refused(known)
        held = self._holds.get(known.transaction_id)
        return Hold(decision=known, expires_at_ms=held.expires_at_ms if held else 0)

    def _earlier(self, charge: Charge, blank: Decision) -> Hold | None:
        """Answer a retry; even a first attempt may arrive after its retry."""
        held = self._holds.get(charge.transaction_id)
        is_over = held is not None and held.state is HoldState.CANCELLED
        if is_over or (not charge.fresh and self._is_given_back(charge.transaction_id)):
            return _refused(replace(blank, verdict=Verdict.VOIDED))
        if held is None and not charge.fresh:
            check_age(charge, self.now_ms())
        if held is None or (held.user_id, held.amount) != (charge.user_id, charge.cost):
            if held is None and not self.records.find(charge.user_id, charge.transaction_id):
                return None
            raise TransactionConflictError("the id is known with other content")
        decision = replace(
            held.decision,
            repeated=True,
            limits=(),
            resets_at_ms=blank.resets_at_ms,
            key_state=None if charge.key is None else KeyState.NEW,
        )
        return Hold(decision=decision, expires_at_ms=held.expires_at_ms)

    async def settle(self, settlement: Settlement) -> HoldAnswer:
        """End a hold; see the port."""
        held = self._held(settlement.user_id, settlement.hold_id)
        if held is None:
            return self._unknown(settlement.user_id, settlement.hold_id)
        actual = settlement.actual
        state = HoldState.CANCELLED if actual is None else HoldState.SETTLED
        self.lapse_if_due(held)
        if held.state is HoldState.EXPIRED:
            return self._tell(held, Verdict.HOLD_EXPIRED)
        if held.state is not HoldState.OPEN:
            if (held.state, held.actual) != (state, actual or 0):
                raise TransactionConflictError("the hold has ended in another way")
            return replace(self._tell(held, Verdict.ALLOWED), repeated=True)
        attempt_id = settlement.attempt_id
        if actual is None and self._keys.is_anothers(held.user_id, held.id, attempt_id):
            return self._tell(held, Verdict.TAKEN_OVER)
        self._balance(held, settlement)
        held.actual = actual or 0
        self._close(held, state, attempt_id)
        return self._tell(held, Verdict.ALLOWED)

    def _balance(self, held: Held, settlement: Settlement) -> None:
        """Give back what is not needed, or take what is lacking."""
        actual = settlement.actual or 0
        if not held.amount and settlement.actual is not None:
            self._collect(held, settlement, 0)
        elif actual > held.amount:
            if not self._is_given_back(held.id):
                self._collect(held, settlement, actual - held.amount)
        elif self._users[held.user_id].credits + held.amount - actual > CREDITS_MAX:
            raise AmountError("the balance would leave its range")
        else:
            refund = Refund(
                user_id=held.user_id,
                deduct_id=held.id,
                transaction_id=closing_id(held.id),
                amount=None,
                description=settlement.description,
                metadata=settlement.metadata,
            )
            held.refunded = self._hand_back(refund, held.amount - actual)

    def _collect(self, held: Held, settlement: Settlement, amount: int) -> None:
        """Take what the estimate lacks, as far as there is enough."""
        now_ms = self.now_ms()
        user, top_up = renewed(self._users[held.user_id], settlement.allowance, now_ms)
        if user.credits > CREDITS_MAX:
            raise AmountError("the balance would leave its range")
        charged = max(0, min(amount, user.credits + settlement.overdraft_max))
        held.charged, held.shortfall = charged, amount - charged
        if not charged and held.amount:
            return
        charge = Charge(
            user_id=user.id,
            transaction_id=closing_id(held.id),
            cost=charged,
            asked_at_ms=now_ms,
            deadline_ms=now_ms,
            description=settlement.description,
            metadata=settlement.metadata,
        )
        self._take(blank_answer(charge, user, -charged), charge, user, top_up)

    def _hand_back(self, refund: Refund, amount: int) -> int:
        """Refund a part of a hold's deduct, as far as it is left; return how much."""
        given_back = self._given_back.get(refund.deduct_id)
        if given_back is None or refund.transaction_id in given_back.refunds:
            return 0
        amount = min(amount, given_back.cost - given_back.total)
        if amount <= 0:
            return 0
        user = self._users[refund.user_id]
        allowance = given_back.to_allowance(amount, user.period_start_ms)
        given_back.refunds[refund.transaction_id] = amount
        blank = blank_answer(refund, user, amount)
        self._append(blank, TransactionType.REFUND, refund, allowance=allowance)
        return amount

    async def extend(self, user_id: UUID, hold_id: CreditTransactionId, ttl_ms: int) -> HoldAnswer:
        """Let an open hold expire later; see the port."""
        check_ttl(ttl_ms)
        held = self._held(user_id, hold_id)
        if held is None:
            return self._unknown(user_id, hold_id)
        self.lapse_if_due(held)
        if held.state is not HoldState.OPEN:
            is_expired = held.state is HoldState.EXPIRED
            return self._tell(held, Verdict.HOLD_EXPIRED if is_expired else Verdict.HOLD_CLOSED)
        if self.now_ms() + ttl_ms > held.opened_at_ms + TTL_MS_MAX:
            raise InvalidArgumentError("the hold would be open for more than a day")
        held.expires_at_ms = self.now_ms() + ttl_ms
        return self._tell(held, Verdict.ALLOWED)

    async def void_hold(self, request: HoldRequest) -> VoidOutcome:
        """End a hold whose outcome is unknown; see the port."""
        charge = request.charge
        held = self._held(charge.user_id, charge.transaction_id)
        if self.now_ms() <= charge.deadline_ms:
            return VoidOutcome.TOO_EARLY
        if held is None:
            return self._refuse_from_now_on(charge)
        if held.state is not HoldState.CANCELLED:
            if self._is_answered(held, charge):
                return VoidOutcome.KEPT
            self._lapse(held, HoldState.CANCELLED, charge.void().description)
        return VoidOutcome.REFUNDED

    def _is_answered(self, held: Held, charge: Charge) -> bool:
        """Say whether a hold was answered to some call other than the one that is voided."""
        is_done = held.state is HoldState.OPEN and self._keys.is_done(held.user_id, held.id)
        return (
            held.state is HoldState.SETTLED
            or held.opened_at_ms < charge.asked_at_ms
            or is_done
            or self._keys.is_anothers(held.user_id, held.id, held.id)
        )

    def _refuse_from_now_on(self, charge: Charge) -> VoidOutcome:
        """Void an id that is no hold's, unless it is a charge's."""
        given_back = self._given_back.get(charge.transaction_id)
        if given_back is not None and charge.void().transaction_id in given_back.refunds:
            return VoidOutcome.REFUNDED
        if given_back is not None:
            is_kept = given_back.is_charge_of(charge.user_id)
            return VoidOutcome.KEPT if is_kept else VoidOutcome.REFUSED
        if self.records.find(charge.user_id, charge.transaction_id):
            return VoidOutcome.KEPT
        if self.now_ms() - (charge.transaction_id.time_ms or 0) <= ID_AGE_MS_MAX:
            self._spend(charge)
        return VoidOutcome.REFUSED

    async def expire_due(self, user_id: UUID) -> int:
        """Give back or keep holds of a user whose time is over; see the port."""
        due = [held for held in self.due() if held.user_id == user_id][:_USER_COUNT_MAX]
        for held in due:
            self.lapse_if_due(held)
        return len(due)

    def due(self) -> list[Held]:
        """Return the open holds whose time is over; that which expired first comes first."""
        now_ms = self.now_ms()
        opened = (held for held in self._holds.values() if held.state is HoldState.OPEN)
        due = [held for held in opened if held.expires_at_ms <= now_ms]
        return sorted(due, key=lambda held: (held.expires_at_ms, held.id.value.bytes))

    def lapse_if_due(self, held: Held) -> None:
        """Give back or keep a hold, if it is open and its time is over."""
        if held.state is HoldState.OPEN and held.expires_at_ms <= self.now_ms():
            self._lapse(held, HoldState.EXPIRED, "the hold expired")

    def _lapse(self, held: Held, state: HoldState, description: str) -> None:
        """End a hold that its owner has not settled; one that is voided is not kept."""
        keeps = held.request.on_expiry is OnExpiry.KEEP and state is HoldState.EXPIRED
        if not keeps:
            room = CREDITS_MAX - self._users[held.user_id].credits
            refund = Refund(
                user_id=held.user_id,
                deduct_id=held.id,
                transaction_id=closing_id(held.id),
                amount=None,
                description=description,
            )
            held.refunded += self._hand_back(refund, min(held.amount, room))
        self._close(held, state)

    def _close(self, held: Held, to: HoldState, attempt: CreditTransactionId | None = None) -> None:
        held.state = to
        self._holds.keep(held.id, MEMORY_MS)
        self._given_back.keep(held.id, MEMORY_MS)
        self._keys.end(held.user_id, held.id, is_served=held.is_spent, attempt=attempt)
        self._count_held(held.user_id)

    def _count_held(self, user_id: UUID) -> None:
        total = sum(held.amount for held in self._open_holds(user_id))
        self._users[user_id] = replace(self._users[user_id], held=total)

    def _open_holds(self, user_id: UUID) -> list[Held]:
        known = self._holds.values()
        return [it for it in known if it.user_id == user_id and it.state is HoldState.OPEN]

    def _held(self, user_id: UUID, hold_id: CreditTransactionId) -> Held | None:
        self._known(user_id)
        held = self._holds.get(hold_id)
        return held if held is not None and held.user_id == user_id else None

    def _unknown(self, user_id: UUID, hold_id: CreditTransactionId) -> HoldAnswer:
        user = self._users.get(user_id)
        return HoldAnswer(
            verdict=Verdict.UNKNOWN_HOLD,
            user_id=user_id,
            hold_id=hold_id,
            state=HoldState.UNKNOWN,
            credits=user.credits if user else 0,
            allowance_left=user.allowance_left if user else 0,
        )

    def _tell(self, held: Held, verdict: Verdict) -> HoldAnswer:
        return held.tell(verdict, self._users[held.user_id])


def _refused(decision: Decision) -> Hold:
    return Hold(decision=decision, expires_at_ms=0)
