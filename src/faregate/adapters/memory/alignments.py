"""Live accounts of a ledger in memory, read and aligned by operators."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from faregate.adapters.memory.ledger import MemoryLedger
from faregate.adapters.memory.values import Expiring, check_range, check_same
from faregate.domain.alignment import Aligned, Alignment, AlignmentOutcome, LiveAccount
from faregate.domain.errors import LedgerUninitialisedError
from faregate.domain.transaction import CreditTransactionId
from faregate.domain.user import User
from faregate.domain.windows import MEMORY_MS

#: A later deadline is refused.
_DEADLINE_MS_MAX = 3_600_000


class MemoryAccounts:
    """The port `LiveAccounts` over a `MemoryLedger`."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self._state, self._records = ledger.state, ledger.records
        #: Alignments and their answers by the id of the alignment, and the last alignment of each
        #: user.
        self._answers: Expiring[CreditTransactionId, tuple[UUID, int, Aligned]]
        self._answers = Expiring(self._records.time_ms)
        self._last: Expiring[UUID, CreditTransactionId] = Expiring(self._records.time_ms)

    def read(self, user_ids: Sequence[UUID]) -> Mapping[UUID, LiveAccount]:
        """Return all accounts, including missing ones; see the port."""
        at_ms = self._records.begin()
        return {
            user_id: LiveAccount(
                user_id=user_id,
                shard=0,
                epoch=self._records.epoch or 0,
                ordinal=self._records.ordinal,
                at_ms=at_ms,
                user=self._state.user(user_id),
                last_id=self._last.get(user_id),
            )
            for user_id in user_ids
        }

    def align(self, alignment: Alignment) -> Aligned:
        """Align a live balance with its ledger; see the port."""
        now_ms, drift = self._records.begin(), alignment.drift
        user_id, amount = drift.user_id, drift.amount
        user = self._state.users.get(user_id)
        owner, known, known_answer = self._answers.get(alignment.id) or (user_id, amount, None)
        check_same(alignment.id, is_same=(owner, known) == (user_id, amount))
        if known_answer is not None:
            return replace(known_answer, outcome=AlignmentOutcome.REPEATED)
        if drift.epoch != self._records.epoch:
            raise LedgerUninitialisedError("the drift was measured in an epoch that is over")
        if not now_ms <= alignment.deadline_ms <= now_ms + _DEADLINE_MS_MAX:
            return _answer(AlignmentOutcome.LATE, user, user)
        is_same = (user is None) is (drift.account.user is None)
        if not is_same or self._last.get(user_id) != drift.account.last_id:
            return _answer(AlignmentOutcome.CHANGED, user, user)
        self._correct(alignment, user)
        answer = _answer(AlignmentOutcome.ALIGNED, user, self._state.users[user_id])
        self._answers.put(alignment.id, (user_id, amount, answer), MEMORY_MS)
        self._last.put(user_id, alignment.id, MEMORY_MS)
        return answer

    def _correct(self, alignment: Alignment, found: User | None) -> None:
        drift, record = alignment.drift, alignment.record
        user = found or User(id=drift.user_id, credits=0, sequence=0, epoch=drift.epoch)
        allowance_left = user.allowance_left + drift.allowance_amount
        credits_ = user.credits + drift.amount
        if record is None:
            check_range(credits_)
        user = replace(
            user,
            sequence=max(user.sequence, drift.sequence_min),
            period_start_ms=max(user.period_start_ms or 0, drift.period_start_ms) or None,
        )
        corrected = replace(user, credits=credits_, allowance_left=allowance_left)
        if record is None:
            self._state.users[user.id] = corrected
        elif drift.amount:
            # The record subtracts the amount that was added, so the balance stays.
            self._state.append(
                corrected,
                id=alignment.id,
                type=record.type,
                amount=-drift.amount,
                description=record.description,
                metadata=record.metadata,
                allowance_amount=-drift.allowance_amount,
            )
        else:
            self._state.users[user.id] = user
        if found is None:
            # An older attempt may have been decided before the account was installed.
            self._state.named_ms[user.id] = self._records.now_ms


def _answer(outcome: AlignmentOutcome, before: User | None, after: User | None) -> Aligned:
    return Aligned(
        outcome=outcome,
        credits=after.credits if after else 0,
        sequence=after.sequence if after else 0,
        credits_before=before.credits if before else 0,
        sequence_before=before.sequence if before else 0,
    )
