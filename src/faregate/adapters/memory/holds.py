"""Ends holds: by what they cost, by hand, or by their expiry."""

from uuid import UUID

from faregate.adapters.memory.accounts import Account, Change
from faregate.adapters.memory.deducts import Deduct, HoldPart
from faregate.adapters.memory.parts import Parts
from faregate.domain.decision import Verdict
from faregate.domain.errors import AmountError, InvalidArgumentError, TransactionConflictError
from faregate.domain.hold import HoldAnswer, HoldState, Settlement, closing_id
from faregate.domain.spend import TTL_MS_MAX, check_ttl
from faregate.domain.transaction import CREDITS_MAX, CreditTransactionId, TransactionType
from faregate.domain.windows import MEMORY_MS

#: How many expired holds of a user are ended in one call.
_USER_COUNT_MAX = 20
_EXPIRED = "the hold expired"


class Held:
    """A hold, and the account that it is of."""

    def __init__(self, account: Account, deduct: Deduct, hold: HoldPart) -> None:
        self.account = account
        self.deduct = deduct
        self.hold = hold

    def tell(self, verdict: Verdict, *, repeated: bool = False) -> HoldAnswer:
        """Answer what became of it."""
        return HoldAnswer(
            verdict=verdict,
            user_id=self.account.user_id,
            hold_id=self.deduct.id,
            state=self.hold.state,
            refunded=self.hold.refunded,
            charged=self.hold.charged,
            shortfall=self.hold.shortfall,
            expires_at_ms=self.hold.expires_at_ms,
            credits=self.account.credits,
            allowance_left=self.account.allowance_left,
            repeated=repeated,
        )


class Holds:
    """The ends of holds. Each hold ends once, and its end writes one record at most."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._shard = parts.shard

    def settle(self, settlement: Settlement) -> HoldAnswer:
        """End a hold by its actual cost, or cancel it; see the port."""
        held = self.find(settlement.user_id, settlement.hold_id)
        if held is None:
            return self._unknown(settlement.user_id, settlement.hold_id)
        hold, actual = held.hold, settlement.actual
        state = HoldState.CANCELLED if actual is None else HoldState.SETTLED
        self.expire_if_due(held)
        if hold.state is HoldState.EXPIRED:
            return held.tell(Verdict.HOLD_EXPIRED)
        if hold.state is not HoldState.OPEN:
            if (hold.state, hold.actual) != (state, actual or 0):
                raise TransactionConflictError("the hold has ended in another way")
            return held.tell(Verdict.ALLOWED, repeated=True)
        keys, attempt_id = self._parts.keys, settlement.attempt_id
        if actual is None and keys.is_anothers(settlement.user_id, held.deduct.id, attempt_id):
            return held.tell(Verdict.TAKEN_OVER)
        self._balance(held, settlement)
        hold.actual = actual or 0
        self._close(held, state, attempt_id)
        return held.tell(Verdict.ALLOWED)

    def extend(self, user_id: UUID, hold_id: CreditTransactionId, ttl_ms: int) -> HoldAnswer:
        """Let an open hold expire later; see the port."""
        check_ttl(ttl_ms)
        held = self.find(user_id, hold_id)
        if held is None:
            return self._unknown(user_id, hold_id)
        self.expire_if_due(held)
        if held.hold.state is not HoldState.OPEN:
            is_expired = held.hold.state is HoldState.EXPIRED
            return held.tell(Verdict.HOLD_EXPIRED if is_expired else Verdict.HOLD_CLOSED)
        if self._shard.now_ms + ttl_ms > held.hold.opened_at_ms + TTL_MS_MAX:
            raise InvalidArgumentError("the hold would be open for more than a day")
        held.hold.expires_at_ms = self._shard.now_ms + ttl_ms
        return held.tell(Verdict.ALLOWED)

    def expire_due(self, user_id: UUID) -> int:
        """Give back or keep holds of a user whose time is over; see the port."""
        due = [held for held in self.due() if held.account.user_id == user_id][:_USER_COUNT_MAX]
        for held in due:
            self.expire_if_due(held)
        return len(due)

    def due(self) -> list[Held]:
        """Return the open holds whose time is over; that which expired first comes first."""
        now_ms = self._shard.time_ms()
        due = [
            (hold.expires_at_ms, deduct.id.bytes, deduct.user_id)
            for deduct, hold in self._parts.deducts.open_holds()
            if hold.expires_at_ms <= now_ms
        ]
        found = (
            self.find(user_id, CreditTransactionId(UUID(bytes=hold_id)))
            for _, hold_id, user_id in sorted(due)
        )
        return [held for held in found if held is not None]

    @property
    def open_count(self) -> int:
        """How many holds are open."""
        return sum(1 for _ in self._parts.deducts.open_holds())

    def expire_if_due(self, held: Held) -> None:
        """Give back or keep a hold, if it is open and its time is over."""
        if held.hold.state is HoldState.OPEN and held.hold.expires_at_ms <= self._shard.now_ms:
            self.end(held, HoldState.EXPIRED, _EXPIRED)

    def end(self, held: Held, state: HoldState, description: str) -> None:
        """End a hold that its owner has not settled; one that is voided is not kept."""
        is_kept = held.hold.keeps and state is HoldState.EXPIRED
        if not is_kept and not held.hold.refunded:
            room = CREDITS_MAX - held.account.credits
            held.hold.refunded = self._give_back(held, min(held.deduct.cost, room), description)
        self._close(held, state)

    def find(self, user_id: UUID, hold_id: CreditTransactionId) -> Held | None:
        """Return the hold of a user, if it is known."""
        account, deduct = self._parts.accounts.find(user_id), self._parts.deducts.get(hold_id)
        if account is None or deduct is None or deduct.hold is None or deduct.user_id != user_id:
            return None
        return Held(account, deduct, deduct.hold)

    def _balance(self, held: Held, settlement: Settlement) -> None:
        """Give back what is not needed, or take what is lacking."""
        actual, cost = settlement.actual or 0, held.deduct.cost
        if not cost and settlement.actual is not None:
            self._take(held, settlement, 0)
        elif actual > cost:
            # Who has given the estimate back by hand has ended the hold: nothing more is taken.
            if held.deduct.left > 0:
                self._take(held, settlement, actual - cost)
        elif held.account.credits + cost - actual > CREDITS_MAX:
            raise AmountError("the balance would leave its range")
        else:
            held.hold.refunded = self._give_back(
                held, cost - actual, settlement.description, settlement
            )

    def _take(self, held: Held, settlement: Settlement, amount: int) -> None:
        """Take what the estimate lacks, as far as there is enough."""
        in_period = self._parts.accounts.in_period(held.account, settlement.allowance)
        in_period.check_range()
        charged = max(0, min(amount, in_period.user.credits + settlement.overdraft_max))
        held.hold.charged, held.hold.shortfall = charged, amount - charged
        if not charged and held.deduct.cost:
            return
        identity = closing_id(held.deduct.id)
        change = Change(
            id=identity,
            type=TransactionType.DEDUCT,
            amount=-charged,
            description=settlement.description,
            metadata=settlement.metadata,
        )
        self._parts.ids.put(identity, self._parts.take(held.account, in_period, change), MEMORY_MS)

    def _give_back(
        self, held: Held, amount: int, description: str, settlement: Settlement | None = None
    ) -> int:
        """Refund a part of the estimate, as far as it is left; return how much."""
        amount = min(amount, held.deduct.left)
        if amount <= 0:
            return 0
        self._parts.give_back(
            held.account,
            held.deduct,
            amount,
            identity=closing_id(held.deduct.id),
            description=description,
            metadata=settlement.metadata if settlement else None,
        )
        return amount

    def _close(
        self, held: Held, state: HoldState, attempt_id: CreditTransactionId | None = None
    ) -> None:
        if held.hold.state is HoldState.OPEN:
            held.account.held -= held.deduct.cost
            held.account.holds_count -= 1
        held.hold.state = state
        self._parts.deducts.put(held.deduct)
        self._parts.keys.end(
            held.account.user_id,
            held.deduct.id,
            is_served=held.hold.is_spent,
            attempt_id=attempt_id,
        )

    def _unknown(self, user_id: UUID, hold_id: CreditTransactionId) -> HoldAnswer:
        account = self._parts.accounts.find(user_id)
        return HoldAnswer(
            verdict=Verdict.UNKNOWN_HOLD,
            user_id=user_id,
            hold_id=hold_id,
            state=HoldState.UNKNOWN,
            credits=account.credits if account else 0,
            allowance_left=account.allowance_left if account else 0,
        )
