"""Ends holds by their actual cost, or cancels them."""

from faregate.adapters.memory.accounts import Change
from faregate.adapters.memory.holds import Held, Holds
from faregate.adapters.memory.parts import Parts
from faregate.domain.decision import Verdict
from faregate.domain.errors import AmountError, TransactionConflictError
from faregate.domain.hold import HoldAnswer, HoldState, Settlement, closing_id
from faregate.domain.transaction import CREDITS_MAX, TransactionType
from faregate.domain.windows import MEMORY_MS


class Settlements:
    """Gives back the unused part of an estimate, or takes the missing part."""

    def __init__(self, parts: Parts, holds: Holds) -> None:
        self._parts = parts
        self._holds = holds

    def settle(self, settlement: Settlement) -> HoldAnswer:
        """End a hold by its actual cost, or cancel it; see the port."""
        held = self._holds.find(settlement.user_id, settlement.hold_id)
        if held is None:
            return self._holds.unknown(settlement.user_id, settlement.hold_id)
        hold, actual = held.hold, settlement.actual
        state = HoldState.CANCELLED if actual is None else HoldState.SETTLED
        self._holds.expire_if_due(held)
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
        self._holds.close(held, state, attempt_id)
        return held.tell(Verdict.ALLOWED)

    def _balance(self, held: Held, settlement: Settlement) -> None:
        """Give back the unused part, or take the missing part."""
        actual, cost = settlement.actual or 0, held.deduct.cost
        if not cost and settlement.actual is not None:
            self._take(held, settlement, 0)
        elif actual > cost:
            # A refund of the whole estimate by hand has ended the hold: nothing more is taken.
            if held.deduct.left > 0:
                self._take(held, settlement, actual - cost)
        elif held.account.credits + cost - actual > CREDITS_MAX:
            raise AmountError("the balance would leave its range")
        else:
            held.hold.refunded = self._holds.give_back(
                held, cost - actual, settlement.description, settlement
            )

    def _take(self, held: Held, settlement: Settlement, amount: int) -> None:
        """Take the missing part, as far as there is enough."""
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
