"""Changes other than spends: refunds, voids, grants, adjustments, and collected entries."""

from dataclasses import replace
from uuid import UUID

from faregate.adapters.memory.holds import Holds
from faregate.adapters.memory.keys import IdempotencyKeys
from faregate.adapters.memory.state import MemoryState
from faregate.adapters.memory.values import (
    Deduct,
    MemoryHold,
    allowed,
    amounts_of,
    blank_decision,
    check_range,
    check_same,
    unix_ms_of,
)
from faregate.domain.decision import Decision, Verdict
from faregate.domain.hold import HoldState
from faregate.domain.journal import JournalEntry
from faregate.domain.policy import in_current_period
from faregate.domain.request import VOID_DESCRIPTION, Credit, Refund, Void, VoidOutcome
from faregate.domain.transaction import (
    CreditTransaction,
    TransactionType,
)
from faregate.domain.user import User
from faregate.domain.windows import GIVEN_ID_AHEAD_MS_MAX, MEMORY_MS


class MemoryReversals:
    """Refunds and voids: credits go back once, and never more than were charged."""

    def __init__(self, state: MemoryState, keys: IdempotencyKeys, holds: Holds) -> None:
        self._state = state
        self._records = state.records
        self._keys = keys
        self._holds = holds

    async def refund(self, refund: Refund) -> Decision:
        """Give a deduct back; see the port."""
        self._records.begin()
        user = self._state.users.get(refund.user_id)
        blank = blank_decision(
            refund.user_id,
            refund.transaction_id,
            refund.amount or 0,
            now_ms=self._records.now_ms,
            user=user,
        )
        if user is None:
            return blank
        earlier = self._records.known(refund.transaction_id)
        if earlier is not None:
            known = (earlier.type, earlier.user_id, earlier.refund_of)
            is_same = known == (TransactionType.REFUND, refund.user_id, refund.deduct_id)
            is_same = is_same and refund.amount in {None, earlier.amount}
            check_same(earlier.id, is_same=is_same)
            return allowed(blank, earlier, repeated=True)
        if self._records.is_backlogged:
            return replace(blank, verdict=Verdict.BACKLOG)
        deduct = self._deduct_of(refund)
        if deduct is None:
            return replace(blank, verdict=Verdict.UNKNOWN_DEDUCT)
        return self._give_back(refund, user, deduct, blank)

    def _give_back(self, refund: Refund, user: User, deduct: Deduct, blank: Decision) -> Decision:
        amount = deduct.left if refund.amount is None else refund.amount
        is_taken_over = self._keys.is_leased_to_another(user.id, deduct.id, refund.attempt_id)
        if not 0 < amount <= deduct.left:
            if refund.amount is None and not is_taken_over:
                # All of it was given back, so the request may be made again.
                self._keys.forget(user.id, deduct.id)
            return replace(blank, verdict=Verdict.REFUND_EXCEEDED)
        if is_taken_over:
            return replace(blank, verdict=Verdict.TAKEN_OVER)
        check_range(user.credits + amount)
        record = self._state.give_back(
            deduct,
            amount,
            id=refund.transaction_id,
            description=refund.description,
            metadata=refund.metadata,
        )
        if not deduct.left:
            self._keys.forget(user.id, deduct.id)
        return allowed(blank, record)

    def _deduct_of(self, refund: Refund) -> Deduct | None:
        """Return the deduct from the first source that knows it."""
        user_id, deduct_id = refund.user_id, refund.deduct_id
        deduct = self._state.deducts.get(deduct_id)
        if deduct is not None:
            # A user is never refunded the deduct of another user.
            return deduct if deduct.user_id == user_id else None
        found, charged = self._records.by_id.get(deduct_id), refund.durable
        if charged is None and found is not None and _is_deduct_of(user_id, found):
            charged = amounts_of(found)
        return None if charged is None else Deduct(deduct_id, user_id, charged)

    async def void(self, void: Void) -> VoidOutcome:
        """Undo a spend if it was made, and refuse its id from now on; see the port."""
        user_id, identity = void.user_id, void.transaction_id
        if self._records.begin() <= void.deadline_ms:
            return VoidOutcome.TOO_EARLY
        if user_id not in self._state.users:
            return VoidOutcome.FORGOTTEN
        self._state.note_named(user_id, identity)
        hold = self._state.hold(user_id, identity)
        if hold is not None:
            return self._void_hold(void, hold)
        deduct = self._state.deducts.get(identity)
        if deduct is not None and (deduct.user_id != user_id or not deduct.amounts.amount):
            return VoidOutcome.REFUSED
        if self._records.remembered.get(void.refund_id) is not None:
            return VoidOutcome.REFUNDED
        return self._void_charge(void, deduct)

    def _void_charge(self, void: Void, deduct: Deduct | None) -> VoidOutcome:
        user_id, identity = void.user_id, void.transaction_id
        lease, found = self._keys.of(user_id, identity), self._records.by_id.get(identity)
        is_answered = lease is not None and (lease.is_done or lease.holder != identity)
        is_other = found is not None and not _is_deduct_of(user_id, found)
        charged_at_ms = None if found is None else unix_ms_of(found.timestamp)
        if is_answered or is_other or self._state.is_answered_elsewhere(void, charged_at_ms):
            return VoidOutcome.KEPT
        if deduct is not None:
            # Another call got the answer and refunded a part. The record of the refund names that
            # call.
            return VoidOutcome.KEPT if found is None else VoidOutcome.REFUSED
        id_ms = identity.time_ms or 0
        if found is None and id_ms - GIVEN_ID_AHEAD_MS_MAX < self._records.oldest_ms:
            return VoidOutcome.FORGOTTEN
        if found is None or not found.amount:
            self._state.refuse(identity, user_id)
            self._keys.forget(user_id, identity)
            return VoidOutcome.REFUSED
        if charged_at_ms is not None and self._records.is_forgetting(charged_at_ms):
            return VoidOutcome.TOO_EARLY
        check_range(self._state.users[user_id].credits - found.amount)
        deduct = Deduct(identity, user_id, amounts_of(found))
        self._state.give_back(deduct, deduct.left, id=void.refund_id, description=VOID_DESCRIPTION)
        self._keys.forget(user_id, identity)
        return VoidOutcome.REFUNDED

    def _void_hold(self, void: Void, hold: MemoryHold) -> VoidOutcome:
        state = hold.answer.state
        if state is HoldState.CANCELLED:
            return VoidOutcome.REFUNDED
        lease = self._keys.of(void.user_id, hold.deduct.id)
        is_served = lease is not None and lease.is_done and hold.is_open
        is_leased_to_another = lease is not None and lease.holder != hold.deduct.id
        if state is HoldState.SETTLED or is_served or is_leased_to_another:
            return VoidOutcome.KEPT
        if self._state.is_answered_elsewhere(void, hold.opened_at_ms):
            return VoidOutcome.KEPT
        self._holds.end(hold, HoldState.CANCELLED, VOID_DESCRIPTION)
        return VoidOutcome.REFUNDED


class MemoryCredits:
    """Adds credits, adjusts balances, and charges journaled requests as far as the credits go."""

    def __init__(self, state: MemoryState, keys: IdempotencyKeys) -> None:
        self._state = state
        self._records = state.records
        self._keys = keys

    async def credit(self, credit: Credit) -> Decision:
        """Add credits or adjust a balance; see the port."""
        self._records.begin()
        user, identity = self._state.users.get(credit.user_id), credit.transaction_id
        blank = blank_decision(
            credit.user_id, identity, credit.amount, now_ms=self._records.now_ms, user=user
        )
        if user is None:
            return blank
        earlier = self._records.known(identity)
        if earlier is not None:
            known = (earlier.type, earlier.user_id, earlier.amount)
            is_same = known == (credit.type, credit.user_id, credit.amount)
            check_same(identity, is_same=is_same)
            return allowed(blank, earlier, repeated=True)
        if self._records.is_backlogged:
            return replace(blank, verdict=Verdict.BACKLOG)
        after = user.credits + credit.amount
        check_range(after)
        if credit.amount < 0 and after < 0 and not credit.negative_allowed:
            return replace(blank, verdict=Verdict.OUT_OF_CREDITS)
        record = self._state.append(
            user,
            id=identity,
            type=credit.type,
            amount=credit.amount,
            description=credit.description,
            metadata=credit.metadata,
        )
        self._records.remembered.put(identity, record, MEMORY_MS)
        return allowed(blank, record)

    async def collect(self, entry: JournalEntry) -> Decision:
        """Charge a journaled request; see the port."""
        self._records.begin()
        user = self._state.users.get(entry.user_id)
        blank = blank_decision(
            entry.user_id, entry.deduct_id, 0, now_ms=self._records.now_ms, user=user
        )
        if user is None:
            return blank
        earlier = self._earlier(entry, blank)
        if earlier is not None:
            return earlier
        if self._records.is_backlogged:
            return replace(blank, verdict=Verdict.BACKLOG)
        if not entry.is_recorded:
            return replace(blank, verdict=Verdict.ALLOWED)
        in_period, _ = in_current_period(user, entry.allowance, self._records.now_ms)
        check_range(in_period.credits)
        charged = max(0, min(entry.owed, in_period.credits))
        missing = {"shortfall": entry.owed - charged} if charged < entry.owed else {}
        record = self._state.take(
            user,
            entry.allowance,
            charged,
            id=entry.deduct_id,
            description=entry.description,
            metadata={**entry.row_metadata, **missing},
        )
        self._records.remembered.put(record.id, record, MEMORY_MS)
        self._save_idempotency_key(entry, record)
        return allowed(blank, record)

    def _earlier(self, entry: JournalEntry, blank: Decision) -> Decision | None:
        """Return the earlier answer if an entry was collected before, or is known by its key."""
        record = self._records.remembered.get(entry.deduct_id)
        if record is not None:
            check_same(entry.deduct_id, is_same=record.user_id == entry.user_id)
            deduct = self._state.deducts.get(entry.deduct_id)
            back = deduct.amounts.refunded if deduct else 0
            return replace(allowed(blank, record, repeated=True), amount=record.amount + back)
        key = entry.key
        known = key and self._keys.known(entry.user_id, key, self._records.now_ms)
        if key and known and known.fingerprint == key.fingerprint_digest:
            return replace(blank, verdict=Verdict.ALLOWED, repeated=True)
        return None

    def _save_idempotency_key(self, entry: JournalEntry, record: CreditTransaction) -> None:
        """Save the key of a journaled request as served, if it is unused and there is room."""
        key, user_id, now_ms = entry.key, entry.user_id, self._records.now_ms
        if key is None or self._keys.known(user_id, key, now_ms):
            return
        if not self._keys.is_full(user_id, key, now_ms):
            self._keys.save(key, record, now_ms)
            self._keys.serve(user_id, record.id, record.id)


def _is_deduct_of(user_id: UUID, found: CreditTransaction) -> bool:
    return found.type is TransactionType.DEDUCT and found.user_id == user_id
