"""What must hold on a backend after each step, whatever the step was.

The numbers are those of ARCHITECTURE.md: 1 one step, 2 the sum, 3 once, 4 no deduct below zero,
5 a retry is free and never for free, 6 refunds are bounded, 7 no gap.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from uuid import UUID

from faregate.domain.alignment import AlignmentOutcome
from faregate.domain.decision import Verdict
from faregate.domain.idempotency import KeyState
from faregate.domain.request import VoidOutcome
from faregate.domain.transaction import CreditTransaction, CreditTransactionId, TransactionType
from spec.backends import Seen
from spec.driver import Driver, Played
from spec.steps import USERS, Done, Step

#: Whoever is answered so serves the request.
_SERVED = {None, KeyState.NEW, KeyState.TAKEN_OVER}
#: Whatever else is answered has written nothing.
_WRITES = {Verdict.ALLOWED, Verdict.HOLD_EXPIRED, VoidOutcome.REFUNDED, Done.DONE, Done.RENEWED}
_WRITES |= {AlignmentOutcome.ALIGNED}


class Watch:
    """Follows the history of all users on one backend."""

    def __init__(self, driver: Driver) -> None:
        self._store = driver.backend.store
        self._ids = driver.ids
        self._histories: dict[UUID, list[CreditTransaction]] = {}
        self.begin_from_rows()

    def begin_from_rows(self) -> None:
        """Begin with what is durable: all else has been lost, if there was anything."""
        self._histories = {user_id: [] for user_id in USERS.values()}
        for row in sorted(self._store.rows.values(), key=lambda row: row.sequence):
            self._histories[row.user_id].append(row)

    def check(self, step: Step, played: Played, seen: Seen) -> None:
        """Follow what one step has done."""
        for record in seen.new:
            self._histories[record.user_id].append(record)
        self._check_ids()
        for user_id, history in self._histories.items():
            self._check_live(user_id, history, seen)
            self._check_sum(user_id, seen)
            self._check_chain(history)
            _check_refunds(history)
        self._check_deducts(step, seen.new)
        self._check_answer(step, played, seen.new)

    def _check_ids(self) -> None:
        """3: an id stands for one record, and no record is refused as a row."""
        ids = [record.id for history in self._histories.values() for record in history]
        assert len(set(ids)) == len(ids), "one id for two records"
        assert not self._store.dead_letters

    def _check_live(self, user_id: UUID, history: list[CreditTransaction], seen: Seen) -> None:
        """1: the balance is the one after the last record."""
        live, last = seen.live[user_id], history[-1]
        assert live.credits == last.balance_after, "balance and record have come apart"
        assert live.sequence == last.sequence
        assert live.allowance_left == last.allowance_after
        start = None if last.period_start is None else round(last.period_start.timestamp() * 1000)
        assert live.period_start_ms == start

    def _check_sum(self, user_id: UUID, seen: Seen) -> None:
        """2: what is live is what is durable, and what is pending and no row."""
        rows = self._store.rows
        durable = sum(row.amount for row in rows.values() if row.user_id == user_id)
        pending = sum(
            record.amount
            for record in seen.pending
            if record.user_id == user_id and record.id not in rows
        )
        assert seen.live[user_id].credits == durable + pending, "the sum is not exact"

    def _check_chain(self, history: list[CreditTransaction]) -> None:
        """7: numbers and balances follow from those before."""
        for before, after in pairwise(history):
            assert after.sequence == before.sequence + 1, "a gap"
            assert after.balance_after == before.balance_after + after.amount, "a broken chain"
            left = before.allowance_after + after.allowance_amount
            assert after.allowance_after == left, "a broken allowance"
            assert after.epoch >= before.epoch
            if after.epoch == before.epoch:
                assert after.timestamp >= before.timestamp, "a record that goes back in time"

    def _check_deducts(self, step: Step, new: Sequence[CreditTransaction]) -> None:
        """4: no deduct goes below zero, but a settlement's as far as its policy says."""
        lowest = -step.overdraft_max if step.do == "settle" else 0
        for record in new:
            if record.type is TransactionType.DEDUCT and record.amount:
                assert record.balance_after >= lowest, "a deduct below zero"

    def _check_answer(self, step: Step, played: Played, new: Sequence[CreditTransaction]) -> None:
        """5: what is answered as a retry has cost nothing now, and what is served has cost once."""
        if step.do == "batch":
            self._check_batch(step, played, new)
            return
        assert not new or not played.repeated, "a retry was charged"
        assert not new or played.answer in _WRITES, "a refusal has written something"
        if not self._is_charged(step, played):
            return
        if not played.repeated:
            *top_ups, taken = new
            assert (taken.type, taken.amount) == (TransactionType.DEDUCT, -(step.amount or 0))
            assert [record.type for record in top_ups] in ([], [TransactionType.ADD])
        self._check_served(step, played)

    def _check_batch(self, step: Step, played: Played, new: Sequence[CreditTransaction]) -> None:
        pairs = list(zip(step.spends, played.parts, strict=True))
        charged = [
            (part, came)
            for part, came in pairs
            if self._is_charged(part, came) and not came.repeated
        ]
        taken = [record for record in new if record.type is TransactionType.DEDUCT]
        assert {record.id for record in taken} == {self._deduct_id(*pair) for pair in charged}
        assert len(taken) == len(charged), "a spend was charged twice"
        for pair in pairs:
            if self._is_charged(*pair):
                self._check_served(*pair)

    def _is_charged(self, step: Step, played: Played) -> bool:
        """Say whether a step is a spend that has a deduct."""
        is_peek = step.do == "charge" and not step.amount and not step.is_unlimited
        is_spend = step.do in {"charge", "hold"} and not is_peek
        return is_spend and played.answer is Verdict.ALLOWED

    def _check_served(self, step: Step, played: Played) -> None:
        """A request that is to be served has been paid for."""
        if played.tells["key_state"] not in _SERVED:
            return
        history = self._histories[USERS[step.user]]
        deduct_id = self._deduct_id(step, played)
        (deduct,) = [record for record in history if record.id == deduct_id]
        assert deduct.type is TransactionType.DEDUCT
        returned = sum(record.amount for record in history if record.refund_of == deduct.id)
        assert not deduct.amount or returned < -deduct.amount, "served for free"

    def _deduct_id(self, step: Step, played: Played) -> CreditTransactionId:
        return self._ids.of(USERS[step.user], str(played.tells["transaction_id"]), 0)


def _check_refunds(history: list[CreditTransaction]) -> None:
    """6: the refunds of a deduct add up to it at most."""
    left: dict[CreditTransactionId, int] = defaultdict(int)
    for record in history:
        if record.type is TransactionType.DEDUCT:
            left[record.id] -= record.amount
        elif record.refund_of is not None:
            left[record.refund_of] -= record.amount
    assert min(left.values(), default=0) >= 0, "more was given back than was taken"
