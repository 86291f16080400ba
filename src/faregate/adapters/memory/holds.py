"""Open holds: extended, and ended when they expire or are voided."""

from uuid import UUID

from faregate.adapters.memory.accounts import Account
from faregate.adapters.memory.deducts import Deduct, HoldPart
from faregate.adapters.memory.parts import Parts
from faregate.domain.decision import Verdict
from faregate.domain.errors import InvalidArgumentError
from faregate.domain.hold import HoldAnswer, HoldState, Settlement, closing_id
from faregate.domain.spend import TTL_MS_MAX, check_ttl
from faregate.domain.transaction import CREDITS_MAX, CreditTransactionId

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
        """Answer with the state of the hold."""
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
    """The open holds and those that ended. An end writes one record at most."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._shard = parts.shard

    def extend(self, user_id: UUID, hold_id: CreditTransactionId, ttl_ms: int) -> HoldAnswer:
        """Let an open hold expire later; see the port."""
        check_ttl(ttl_ms)
        held = self.find(user_id, hold_id)
        if held is None:
            return self.unknown(user_id, hold_id)
        self.expire_if_due(held)
        if held.hold.state is not HoldState.OPEN:
            is_expired = held.hold.state is HoldState.EXPIRED
            return held.tell(Verdict.HOLD_EXPIRED if is_expired else Verdict.HOLD_CLOSED)
        if self._shard.now_ms + ttl_ms > held.hold.opened_at_ms + TTL_MS_MAX:
            raise InvalidArgumentError("the hold would be open for more than a day")
        held.hold.expires_at_ms = self._shard.now_ms + ttl_ms
        return held.tell(Verdict.ALLOWED)

    def expire_due(self, user_id: UUID) -> int:
        """Give back or keep expired holds of a user; see the port."""
        due = [held for held in self.due() if held.account.user_id == user_id][:_USER_COUNT_MAX]
        for held in due:
            self.expire_if_due(held)
        return len(due)

    def due(self) -> list[Held]:
        """Return the open holds that have expired, the oldest expiry first."""
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
        """Give back or keep a hold, if it is open and has expired."""
        if held.hold.state is HoldState.OPEN and held.hold.expires_at_ms <= self._shard.now_ms:
            self.end(held, HoldState.EXPIRED, _EXPIRED)

    def end(self, held: Held, state: HoldState, description: str) -> None:
        """End a hold that was not settled. A hold that is voided is never kept."""
        is_kept = held.hold.keeps and state is HoldState.EXPIRED
        if not is_kept and not held.hold.refunded:
            room = CREDITS_MAX - held.account.credits
            held.hold.refunded = self.give_back(held, min(held.deduct.cost, room), description)
        self.close(held, state)

    def find(self, user_id: UUID, hold_id: CreditTransactionId) -> Held | None:
        """Return the hold of a user, if it is known."""
        account, deduct = self._parts.accounts.find(user_id), self._parts.deducts.get(hold_id)
        if account is None or deduct is None or deduct.hold is None or deduct.user_id != user_id:
            return None
        return Held(account, deduct, deduct.hold)

    def give_back(
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

    def close(
        self, held: Held, state: HoldState, attempt_id: CreditTransactionId | None = None
    ) -> None:
        """Note the end of a hold, and complete or forget its idempotency key."""
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

    def unknown(self, user_id: UUID, hold_id: CreditTransactionId) -> HoldAnswer:
        """Answer that the user has no such hold."""
        account = self._parts.accounts.find(user_id)
        return HoldAnswer(
            verdict=Verdict.UNKNOWN_HOLD,
            user_id=user_id,
            hold_id=hold_id,
            state=HoldState.UNKNOWN,
            credits=account.credits if account else 0,
            allowance_left=account.allowance_left if account else 0,
        )
