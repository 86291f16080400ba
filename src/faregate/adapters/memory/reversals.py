"""Refunds and voids: credits go back once, and never more than were taken."""

from dataclasses import replace
from uuid import UUID

from faregate.adapters.memory.accounts import Account, blank_decision
from faregate.adapters.memory.deducts import Deduct
from faregate.adapters.memory.holds import Held, Holds
from faregate.adapters.memory.parts import Parts
from faregate.adapters.memory.shard import Recorded
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import AmountError, TransactionConflictError
from faregate.domain.hold import HoldState
from faregate.domain.request import VOID_DESCRIPTION, Refund, Void, VoidOutcome
from faregate.domain.transaction import CREDITS_MAX, TransactionType, check_amount
from faregate.domain.windows import GIVEN_ID_AHEAD_MS_MAX, LOOK_BACK_MS


class Refunds:
    """Gives deducts back, wholly or in part."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._shard = parts.shard

    def refund(self, refund: Refund) -> Decision:
        """Give a deduct back; see the port."""
        if refund.amount is not None:
            check_amount(TransactionType.REFUND, refund.amount)
        account = self._parts.accounts.find(refund.user_id)
        blank = blank_decision(
            refund.user_id,
            refund.transaction_id,
            refund.amount or 0,
            now_ms=self._shard.now_ms,
            user=account,
        )
        if account is None:
            return blank
        earlier = self._parts.ids.get(refund.transaction_id)
        if earlier is not None:
            return _repeated(refund, blank, earlier)
        if self._parts.search(refund.transaction_id) is not None:
            raise TransactionConflictError(
                f"transaction {refund.transaction_id} is known with other content"
            )
        deduct = self._deduct_of(refund)
        if self._shard.is_backlogged:
            return replace(blank, verdict=Verdict.BACKLOG)
        if deduct is None:
            return replace(blank, verdict=Verdict.UNKNOWN_DEDUCT)
        return self._give_back(refund, account, deduct, blank)

    def _give_back(
        self, refund: Refund, account: Account, deduct: Deduct, blank: Decision
    ) -> Decision:
        keys, user_id = self._parts.keys, refund.user_id
        amount = deduct.left if refund.amount is None else refund.amount
        is_taken_over = keys.is_anothers(user_id, deduct.id, refund.attempt_id)
        if not 0 < amount <= deduct.left:
            if refund.amount is None and not is_taken_over:
                # Nothing is left to pay for, so the request may be made again.
                keys.end(user_id, deduct.id, is_served=False)
            return replace(blank, verdict=Verdict.REFUND_EXCEEDED)
        if is_taken_over:
            return replace(blank, verdict=Verdict.TAKEN_OVER)
        if account.credits + amount > CREDITS_MAX:
            raise AmountError("the balance would leave its range")
        recorded = self._parts.give_back(
            account,
            deduct,
            amount,
            identity=refund.transaction_id,
            description=refund.description,
            metadata=refund.metadata,
        )
        if not deduct.left:
            keys.end(user_id, deduct.id, is_served=False)
        return replace(
            blank,
            verdict=Verdict.ALLOWED,
            amount=amount,
            credits=account.credits,
            sequence=account.sequence,
            position=recorded.position,
            allowance_left=account.allowance_left,
        )

    def _deduct_of(self, refund: Refund) -> Deduct | None:
        """Return the deduct, from the nearest place that knows it."""
        deduct = self._parts.deducts.get(refund.deduct_id)
        if deduct is not None:
            # No user is refunded a deduct of another user.
            return deduct if deduct.user_id == refund.user_id else None
        if refund.durable is not None:
            return Deduct.of_durable(refund.deduct_id, refund.user_id, refund.durable)
        found = self._shard.at(refund.position, refund.deduct_id)
        found = found or self._parts.search(refund.deduct_id)
        is_own = found is not None and _is_deduct_of(refund.user_id, found)
        return Deduct.of(found) if found is not None and is_own else None


class Voids:
    """Undoes spends whose outcome is unknown to their callers."""

    def __init__(self, parts: Parts, holds: Holds) -> None:
        self._parts = parts
        self._holds = holds
        self._shard = parts.shard

    def void(self, void: Void) -> VoidOutcome:
        """Give a spend back if it was made, and refuse its id from now on; see the port."""
        account, now_ms = self._parts.accounts.find(void.user_id), self._shard.now_ms
        if now_ms <= void.deadline_ms:
            return VoidOutcome.TOO_EARLY
        if account is None:
            return VoidOutcome.FORGOTTEN
        account.name(min(void.transaction_id.time_ms or 0, now_ms + LOOK_BACK_MS))
        held = self._holds.find(void.user_id, void.transaction_id)
        if held is not None:
            return self._void_hold(void, held)
        deduct = self._parts.deducts.get(void.transaction_id)
        if deduct is not None and (deduct.user_id != void.user_id or not deduct.cost):
            return VoidOutcome.REFUSED
        if self._parts.ids.get(void.refund_id) is not None:
            return VoidOutcome.REFUNDED
        return self._void_charge(void, account, deduct)

    def _void_charge(self, void: Void, account: Account, deduct: Deduct | None) -> VoidOutcome:
        user_id, identity = void.user_id, void.transaction_id
        entry = self._parts.keys.of(user_id, identity)
        if entry is not None and (entry.is_done or entry.holder != identity):
            return VoidOutcome.KEPT
        found = self._parts.search(identity)
        if found is not None and not _is_of_call(void, found):
            return VoidOutcome.KEPT
        if deduct is not None:
            # A caller who was told of it has refunded a part. Its record says which call that was.
            return VoidOutcome.KEPT if found is None else VoidOutcome.REFUSED
        if found is None:
            id_ms = identity.time_ms or 0
            if id_ms - GIVEN_ID_AHEAD_MS_MAX < self._shard.oldest_kept_ms:
                return VoidOutcome.FORGOTTEN
        if found is None or not found.record.amount:
            self._parts.deducts.refuse(identity, user_id)
            self._parts.keys.end(user_id, identity, is_served=False)
            return VoidOutcome.REFUSED
        self._undo(void, account, found)
        return VoidOutcome.REFUNDED

    def _undo(self, void: Void, account: Account, found: Recorded) -> None:
        deduct = Deduct.of(found)
        if account.credits + deduct.cost > CREDITS_MAX:
            raise AmountError("the balance would leave its range")
        self._parts.give_back(
            account,
            deduct,
            deduct.cost,
            identity=void.refund_id,
            description=VOID_DESCRIPTION,
        )
        self._parts.keys.end(void.user_id, deduct.id, is_served=False)

    def _void_hold(self, void: Void, held: Held) -> VoidOutcome:
        hold = held.hold
        if hold.state is HoldState.CANCELLED:
            return VoidOutcome.REFUNDED
        entry = self._parts.keys.of(void.user_id, held.deduct.id)
        is_served = entry is not None and entry.is_done and hold.state is HoldState.OPEN
        is_anothers = entry is not None and entry.holder != held.deduct.id
        is_of_call = _is_in_time(void, hold.opened_at_ms)
        if hold.state is HoldState.SETTLED or not is_of_call or is_served or is_anothers:
            return VoidOutcome.KEPT
        self._holds.end(held, HoldState.CANCELLED, VOID_DESCRIPTION)
        return VoidOutcome.REFUNDED


def _is_of_call(void: Void, found: Recorded) -> bool:
    """Say whether a record was made by the call that is voided."""
    return _is_deduct_of(void.user_id, found) and _is_in_time(void, found.at_ms)


def _is_in_time(void: Void, charged_at_ms: int) -> bool:
    return void.asked_at_ms <= charged_at_ms <= void.deadline_ms


def _is_deduct_of(user_id: UUID, found: Recorded) -> bool:
    return found.record.type is TransactionType.DEDUCT and found.record.user_id == user_id


def _repeated(refund: Refund, blank: Decision, earlier: Recorded) -> Decision:
    """Answer a refund as it was answered before."""
    record = earlier.record
    known = (record.type, record.user_id, record.refund_of)
    is_same = known == (TransactionType.REFUND, refund.user_id, refund.deduct_id)
    if not is_same or refund.amount not in {None, record.amount}:
        raise TransactionConflictError(f"transaction {record.id} is known with other content")
    return repeated_decision(blank, earlier)


def repeated_decision(blank: Decision, earlier: Recorded) -> Decision:
    """Answer from an earlier record."""
    record = earlier.record
    return replace(
        blank,
        verdict=Verdict.ALLOWED,
        amount=record.amount,
        credits=record.balance_after,
        sequence=record.sequence,
        position=earlier.position,
        allowance_left=record.allowance_after,
        repeated=True,
    )
