"""Live credits in plain dicts."""

from dataclasses import replace
from uuid import UUID

from faregate.adapters.memory.answers import (
    ID_AGE_MS_MAX,
    blank_answer,
    check_age,
    collected_answer,
    repeated_answer,
)
from faregate.adapters.memory.balances import MEMORY_MS, MemoryBalances
from faregate.adapters.memory.given_back import GivenBack
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import AmountError, TransactionConflictError
from faregate.domain.idempotency import Completion, KeyState
from faregate.domain.journal import JournalEntry
from faregate.domain.policy import renewed
from faregate.domain.request import Charge, Credit, Refund, VoidOutcome
from faregate.domain.transaction import (
    CREDITS_MAX,
    CreditTransaction,
    CreditTransactionId,
    TransactionType,
    check_amount,
    check_whole,
)
from faregate.domain.user import User

#: The refusals before which the rate limits have been looked at.
_AFTER_LIMITS = (Verdict.RATE_LIMITED, Verdict.OUT_OF_CREDITS, Verdict.CREDITS_HELD)


class MemoryLedger(MemoryBalances):
    """The port `Ledger`, in one shard."""

    async def charge(self, charge: Charge) -> Decision:
        """Take credits if there are enough; see the port."""
        check_whole("a cost", charge.cost, 0)
        known = self._known(charge.user_id)
        blank = blank_answer(charge, known, -charge.cost)
        if known is None:
            return blank
        user, top_up = renewed(known, charge.allowance, self.now_ms())
        blank = replace(blank_answer(charge, user, -charge.cost), resets_at_ms=user.period_end_ms)
        earlier = self._keys.recognise(charge, blank, self.now_ms())
        earlier = earlier or self._retry_of(charge, blank)
        if earlier is not None:
            return earlier
        refusal = self._refusal(charge, user, blank)
        if refusal is not None:
            return refusal
        if not (charge.cost or charge.records_zero):
            return self._limits.tell(replace(blank, verdict=Verdict.ALLOWED), charge, self.now_ms())
        return self._take(blank, charge, user, top_up)

    def _take(self, blank: Decision, charge: Charge, user: User, top_up: int) -> Decision:
        """Begin the period of now, if it is a new one, and take the cost."""
        self._begin(user, top_up)
        self._limits.take(charge, self.now_ms())
        taken = min(user.allowance_left, charge.cost)
        decision = self._append(blank, TransactionType.DEDUCT, charge, allowance=-taken)
        decision = self._keys.keep(charge, decision, self.now_ms())
        return self._limits.tell(decision, charge, self.now_ms())

    def _refusal(
        self, charge: Charge, user: User, blank: Decision, *, is_held: bool = False
    ) -> Decision | None:
        """Return the first refusal that holds; `is_held` if no more holds may be open."""
        lacks = 0 < charge.cost > user.credits
        name, wait_ms = self._limits.refusing(charge, self.now_ms())
        checks = (
            (Verdict.BACKLOG, self.records.is_full),
            (Verdict.TOO_MANY_KEYS, self._keys.is_full(charge, self.now_ms())),
            (Verdict.TOO_MANY_HOLDS, is_held),
            (Verdict.RATE_LIMITED, bool(name)),
            (Verdict.OUT_OF_CREDITS, lacks and charge.cost > user.credits + user.held),
            (Verdict.CREDITS_HELD, lacks),
        )
        verdict = next((verdict for verdict, holds in checks if holds), None)
        if verdict in {Verdict.RATE_LIMITED, Verdict.OUT_OF_CREDITS, Verdict.CREDITS_HELD}:
            blank = replace(blank, limited_by=name, retry_after_ms=wait_ms)
            blank = self._limits.tell(blank, charge, self.now_ms())
        if verdict is None and user.credits > CREDITS_MAX:
            raise AmountError("the balance would leave its range")
        return None if verdict is None else replace(blank, verdict=verdict)

    def _retry_of(self, charge: Charge, blank: Decision) -> Decision | None:
        """Return the answer if this is a retry; even a first attempt may arrive after its retry."""
        if not charge.fresh:
            if self._is_given_back(charge.transaction_id):
                return replace(blank, verdict=Verdict.VOIDED)
            check_age(charge, self.now_ms())
        record = self.records.find(charge.user_id, charge.transaction_id)
        if record is None:
            return None
        answer = repeated_answer(blank, record, TransactionType.DEDUCT)
        return answer if charge.key is None else replace(answer, key_state=KeyState.NEW)

    async def complete(self, completion: Completion) -> bool:
        """Note that the request of an idempotency key has been served; see the port."""
        return self._keys.complete(completion)

    async def response(self, user_id: UUID, transaction_id: CreditTransactionId) -> bytes | None:
        """Return the response that was kept; see the port."""
        return self._keys.response(transaction_id)

    async def credit(self, credit: Credit) -> Decision:
        """Add credits or adjust a balance; see the port."""
        check_amount(credit.type, credit.amount)
        user = self._known(credit.user_id)
        blank = blank_answer(credit, user, credit.amount)
        if user is None:
            return blank
        receipt = self._receipts.get(credit.transaction_id)
        if receipt is not None:
            return repeated_answer(blank, receipt, credit.type)
        self._check_new(credit)
        if self.records.is_backlogged:
            return replace(blank, verdict=Verdict.BACKLOG)
        after = user.credits + credit.amount
        if abs(after) > CREDITS_MAX:
            raise AmountError("the balance would leave its range")
        if credit.amount < 0 and after < 0 and not credit.negative_allowed:
            return replace(blank, verdict=Verdict.OUT_OF_CREDITS)
        decision = self._append(blank, credit.type, credit)
        self._receipts.put(credit.transaction_id, self.pending[decision.position], MEMORY_MS)
        return decision

    def _check_new(self, source: Credit | Refund) -> None:
        """Make sure that no record carries the id.

        Raises:
            TransactionConflictError: One does.
        """
        identity = source.transaction_id
        if self.records.find(source.user_id, identity):
            raise TransactionConflictError(f"transaction {identity} is known with other content")

    async def collect(self, entry: JournalEntry) -> Decision:
        """Take what a journaled request owes, as far as there is enough; see the port."""
        known = self._known(entry.user_id)
        blank = collected_answer(entry, known)
        if known is None:
            return blank
        earlier = self._collected(entry, blank)
        if earlier is not None:
            return earlier
        if self.records.is_backlogged:
            return replace(blank, verdict=Verdict.BACKLOG)
        if not entry.is_recorded:
            return replace(blank, verdict=Verdict.ALLOWED)
        user, top_up = renewed(known, entry.allowance, self.now_ms())
        if user.credits > CREDITS_MAX:
            raise AmountError("the balance would leave its range")
        self._begin(user, top_up)
        taken = max(0, min(entry.owed, user.credits))
        blank = replace(blank, amount=-taken)
        from_allowance = min(user.allowance_left, taken)
        decision = self._append(blank, TransactionType.DEDUCT, entry, allowance=-from_allowance)
        record = self.pending[decision.position]
        self._receipts.put(entry.deduct_id, record, MEMORY_MS)
        self._given_back.put(entry.deduct_id, GivenBack.of(record), MEMORY_MS)
        self._keys.keep_served(entry, decision, self.now_ms())
        return decision

    def _collected(self, entry: JournalEntry, blank: Decision) -> Decision | None:
        """Return the answer if an entry was collected before, or served by its key."""
        record = self._receipts.get(entry.deduct_id)
        if record is not None:
            if record.user_id != entry.user_id:
                raise TransactionConflictError(f"transaction {record.id} is known of another user")
            given_back = self._given_back.get(record.id)
            back = 0 if given_back is None else given_back.total
            return replace(Decision.repeat(record), amount=record.amount + back)
        if self._keys.knows(entry, self.now_ms()):
            return replace(blank, verdict=Verdict.ALLOWED, repeated=True)
        return None

    async def refund(self, refund: Refund) -> Decision:
        """Give a deduct back; see the port."""
        if refund.amount is not None:
            check_amount(TransactionType.REFUND, refund.amount)
        user = self._known(refund.user_id)
        blank = blank_answer(refund, user, refund.amount or 0)
        if user is None:
            return blank
        given_back = self._deduct_of(refund)
        earlier = given_back and given_back.refunds.get(refund.transaction_id)
        if earlier:
            if refund.amount not in {None, earlier}:
                raise TransactionConflictError("the refund is known with another amount")
            return replace(blank, verdict=Verdict.ALLOWED, amount=earlier, repeated=True)
        if refund.has_own_id:
            self._check_new(refund)
        if self.records.is_backlogged:
            return replace(blank, verdict=Verdict.BACKLOG)
        if given_back is None:
            return replace(blank, verdict=Verdict.UNKNOWN_DEDUCT)
        return self._give_back(refund, given_back, blank)

    def _give_back(self, refund: Refund, given_back: GivenBack, blank: Decision) -> Decision:
        user = self._users[refund.user_id]
        left = given_back.cost - given_back.total
        amount = left if refund.amount is None else refund.amount
        is_taken_over = self._keys.is_anothers(refund.user_id, refund.deduct_id, refund.attempt_id)
        if not 0 < amount <= left:
            if refund.amount is None and not is_taken_over:
                self._keys.end(refund.user_id, refund.deduct_id, is_served=False)
            return replace(blank, verdict=Verdict.REFUND_EXCEEDED, amount=amount)
        if is_taken_over:
            return replace(blank, verdict=Verdict.TAKEN_OVER, amount=amount)
        if user.credits + amount > CREDITS_MAX:
            raise AmountError("the balance would leave its range")
        allowance = given_back.to_allowance(amount, user.period_start_ms)
        given_back.refunds[refund.transaction_id] = amount
        self._given_back.put(refund.deduct_id, given_back, MEMORY_MS)
        if amount == left:
            self._keys.end(refund.user_id, refund.deduct_id, is_served=False)
        blank = replace(blank, amount=amount)
        return self._append(blank, TransactionType.REFUND, refund, allowance=allowance)

    def _deduct_of(self, refund: Refund) -> GivenBack | None:
        given_back = self._given_back.get(refund.deduct_id)
        if given_back is not None:
            return given_back if given_back.user_id == refund.user_id else None
        record = self.records.find(refund.user_id, refund.deduct_id)
        if record and record.type is TransactionType.DEDUCT:
            return GivenBack.of(record)
        durable = refund.durable
        return None if durable is None else GivenBack.of_durable(refund, durable)

    async def void(self, charge: Charge) -> VoidOutcome:
        """Settle a charge whose outcome is unknown; see the port."""
        self._known(charge.user_id)
        if self.now_ms() <= charge.deadline_ms:
            return VoidOutcome.TOO_EARLY
        record = self.records.find(charge.user_id, charge.transaction_id)
        earlier = self._outcome_so_far(charge, record)
        if earlier is not None:
            return earlier
        if record is None and self.now_ms() - (charge.transaction_id.time_ms or 0) > ID_AGE_MS_MAX:
            # It may be a row by now, for which the caller asks Postgres; its age refuses a retry.
            return VoidOutcome.REFUSED
        return self._undo(charge, record)

    def _undo(self, charge: Charge, record: CreditTransaction | None) -> VoidOutcome:
        """Give a charge back if it was made; refuse its id from now on."""
        if record is None or not record.amount:
            self._spend(charge)
            self._keys.end(charge.user_id, charge.transaction_id, is_served=False)
            return VoidOutcome.REFUSED
        void = charge.void()
        blank = blank_answer(void, self._users[charge.user_id], 0)
        self._give_back(void, GivenBack.of(record), blank)
        return VoidOutcome.REFUNDED

    def _outcome_so_far(
        self, charge: Charge, record: CreditTransaction | None
    ) -> VoidOutcome | None:
        """Return what became of a charge that is not to be given back any more, or not by this."""
        given_back = self._given_back.get(charge.transaction_id)
        if given_back is not None and charge.void().transaction_id in given_back.refunds:
            return VoidOutcome.REFUNDED
        if given_back is not None and not given_back.is_charge_of(charge.user_id):
            return VoidOutcome.REFUSED
        user_id, identity = charge.user_id, charge.transaction_id
        is_done = self._keys.is_done(user_id, identity)
        if is_done or self._keys.is_anothers(user_id, identity, identity):
            return VoidOutcome.KEPT
        if record is not None and (
            record.type is not TransactionType.DEDUCT
            or record.timestamp.timestamp() * 1000 < charge.asked_at_ms
        ):
            return VoidOutcome.KEPT
        if given_back is not None:
            # Somebody who was told of it has refunded some. Only its record says that it is ours.
            return VoidOutcome.KEPT if record is None else VoidOutcome.REFUSED
        return None
