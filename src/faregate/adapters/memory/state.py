"""The records of a ledger in memory, its users and deducts, and how a balance changes."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha1
from typing import Any, TypeAlias
from uuid import UUID

from faregate.adapters.memory.values import Deduct, Expiring, MemoryHold, unix_ms_of, utc
from faregate.domain.attempt import Attempt
from faregate.domain.errors import LedgerUninitialisedError
from faregate.domain.identity import LedgerIdentity
from faregate.domain.policy import Allowance, in_current_period
from faregate.domain.request import DurableDeduct, Void
from faregate.domain.transaction import CreditTransaction, CreditTransactionId, TransactionType
from faregate.domain.user import User
from faregate.domain.windows import (
    ATTEMPT_MS_MAX,
    BACKLOG_AGE_MS_MAX,
    GIVEN_ID_MS_MAX,
    MEMORY_MS,
    MINTED_ID_AHEAD_MS_MAX,
    RETENTION_MS,
)

#: The id of a top-up stands for a user and a period.
_TOP_UPS = UUID("6f2d2f0c-5c1b-5d5e-9d51-0b7b2d0a4a11")
#: The time of the answer to an attempt, and its deadline, in Unix milliseconds.
_Answer: TypeAlias = tuple[int, int]
#: How many answers to attempts with one id are remembered: the newest.
ANSWERS_MAX = 64


class Records:
    """All records, stored and pending ones. Each operation begins with `begin`."""

    def __init__(self, clock: Callable[[], int], pending_max: int) -> None:
        self._clock = clock
        self._last_ms = 0
        #: The epoch; None where the ledger is empty.
        self.epoch: int | None = None
        #: How many records may be pending.
        self.pending_max = pending_max
        #: The time of the operation in Unix milliseconds.
        self.now_ms = 0
        #: Every record at or after this time is still known by its id.
        self.oldest_ms = 0
        #: The numbers of the last record and of the last stored one.
        self.ordinal = self.stored = 0
        #: The records that are not yet trimmed, by their numbers.
        self.by_ordinal: dict[int, CreditTransaction] = {}
        #: Records that stay known by their ids for a time, even when older than the window.
        self.remembered: Expiring[CreditTransactionId, CreditTransaction] = Expiring(self.time_ms)
        #: The records that are not yet trimmed.
        self.by_id: dict[CreditTransactionId, CreditTransaction] = {}

    async def attach(self, identity: LedgerIdentity) -> None:
        """Begin the epoch, unless the ledger was installed before and is lost."""
        if self.epoch is None and not identity.installed:
            self.epoch = identity.epoch
            # Records of an earlier epoch are not here.
            self.oldest_ms = 0 if identity.epoch == 1 else self._clock()
        if self.epoch != identity.epoch:
            raise LedgerUninitialisedError("the ledger in memory is not the one of Postgres")

    def begin(self) -> int:
        """Begin an operation; return the one time that it has, in Unix milliseconds.

        Raises:
            LedgerUninitialisedError: The ledger is empty.
        """
        if self.epoch is None:
            raise LedgerUninitialisedError("the ledger in memory is empty")
        self.now_ms = self.time_ms()
        return self.now_ms

    def time_ms(self) -> int:
        """Return the time in Unix milliseconds: never before the last record."""
        return max(self._clock(), self._last_ms)

    def append(self, record: CreditTransaction) -> None:
        """Append a record."""
        self._last_ms = self.now_ms
        self.ordinal += 1
        self.by_id[record.id] = self.by_ordinal[self.ordinal] = record

    def known(self, identity: CreditTransactionId) -> CreditTransaction | None:
        """Return the record with an id, as long as the id is recognised."""
        return self.remembered.get(identity) or self.by_id.get(identity)

    @property
    def is_full(self) -> bool:
        """Whether no more records may be pending."""
        return self.ordinal - self.stored >= self.pending_max

    @property
    def is_backlogged(self) -> bool:
        """Whether a record has been pending for longer than its id is remembered."""
        pending = self.after(self.stored)
        return any(self.is_forgetting(unix_ms_of(record.timestamp)) for _, record in pending)

    def is_forgetting(self, appended_at_ms: int) -> bool:
        """Return whether refunds of a record this old may be forgotten already."""
        return self.now_ms - appended_at_ms > BACKLOG_AGE_MS_MAX

    def after(self, ordinal: int) -> Sequence[tuple[int, CreditTransaction]]:
        """Return the records that follow one, each with its number."""
        return [entry for entry in self.by_ordinal.items() if entry[0] > ordinal]

    def note_stored(self, ordinal: int) -> int:
        """Note how far records are rows, and delete old stored ones; return how many."""
        self.stored = min(ordinal, self.ordinal)
        from_ms = self.time_ms() - RETENTION_MS
        for _, oldest in self.after(self.stored):
            from_ms = min(from_ms, unix_ms_of(oldest.timestamp))
        remaining = {
            number: record
            for number, record in self.by_ordinal.items()
            if record.timestamp >= utc(from_ms)
        }
        count = len(self.by_ordinal) - len(remaining)
        self.by_ordinal, self.oldest_ms = remaining, max(self.oldest_ms, from_ms)
        self.by_id = {record.id: record for record in remaining.values()}
        return count


class MemoryState:
    """Users, deducts and answers of a ledger. Each change of a balance appends a record."""

    def __init__(self, records: Records) -> None:
        self.records = records
        #: Users without their held credits; see `user`.
        self.users: dict[UUID, User] = {}
        #: By user: the time of the newest id that a retry, a void or a caller has named.
        self.named_ms: dict[UUID, int] = {}
        self.deducts: Expiring[CreditTransactionId, Deduct] = Expiring(records.time_ms)
        #: The answers to attempts under a caller's id: their times, and the deadlines of their
        #: calls.
        self._answers: Expiring[CreditTransactionId, list[_Answer]] = Expiring(records.time_ms)

    def user(self, user_id: UUID) -> User | None:
        """Return a user with its held credits, or None."""
        user = self.users.get(user_id)
        held = sum(hold.deduct.amounts.amount for hold in self.open_holds(user_id))
        return None if user is None else replace(user, held=held)

    def hold(self, user_id: UUID, hold_id: CreditTransactionId) -> MemoryHold | None:
        """Return a hold of a user, or None."""
        deduct = self.deducts.get(hold_id)
        return None if deduct is None or deduct.user_id != user_id else deduct.hold

    def open_holds(self, user_id: UUID | None = None) -> Sequence[MemoryHold]:
        """Return the open holds of a user, or of all."""
        holds = [deduct.hold for deduct in self.deducts.all().values() if deduct.hold is not None]
        return [hold for hold in holds if hold.is_open and user_id in {None, hold.deduct.user_id}]

    def note_named(self, user_id: UUID, identity: CreditTransactionId) -> None:
        """Note that a retry, a void or a caller has named an id."""
        id_ms = min(identity.time_ms or 0, self.records.now_ms + MINTED_ID_AHEAD_MS_MAX)
        self.named_ms[user_id] = max(self.named_ms[user_id], id_ms)

    def save(self, deduct: Deduct) -> None:
        """Save a new or changed deduct, for a day and as long as its hold is open."""
        is_open = deduct.hold is not None and deduct.hold.is_open
        self.deducts.put(deduct.id, deduct, float("inf") if is_open else MEMORY_MS)

    def refuse(self, identity: CreditTransactionId, user_id: UUID) -> None:
        """Refuse an id from now on, unless it is known already."""
        if self.deducts.get(identity) is None:
            self.save(Deduct(identity, user_id, DurableDeduct(amount=0, refunded=0)))

    def note_first_answer(self, attempt: Attempt, record: CreditTransaction) -> None:
        """Note the answer to the first attempt under a caller's id."""
        answers = [_answer_to(attempt, self.records.now_ms)]
        self._answers.put(record.id, answers, GIVEN_ID_MS_MAX + ATTEMPT_MS_MAX)

    def note_answer(self, attempt: Attempt, record: CreditTransaction) -> None:
        """Note the answer to a retry."""
        charged_at_ms = unix_ms_of(record.timestamp)
        answers = self._answers.get(record.id)
        answers = [(charged_at_ms, charged_at_ms)] if answers is None else answers
        answers = [*answers, _answer_to(attempt, self.records.now_ms)]
        self._answers.put(record.id, answers[-ANSWERS_MAX:], MEMORY_MS)

    def is_answered_elsewhere(self, void: Void, charged_at_ms: int | None) -> bool:
        """Return whether another call than the voided one got the answer.

        The answers of the voided call are deleted. The time is None if the record is no longer
        here.
        """
        answers = self._answers.get(void.transaction_id)
        if answers is None:
            return charged_at_ms is not None and not _is_in_time(void, charged_at_ms)
        left = [answer for answer in answers if not _is_own(void, answer)]
        if left != answers:
            self._answers.put(void.transaction_id, left, MEMORY_MS)
        return bool(left)

    def begin_period(self, user: User, allowance: Allowance | None) -> User:
        """Begin the current period if it is a new one, and record the credits that it adds."""
        in_period, top_up = in_current_period(user, allowance, self.records.now_ms)
        user = self.users[user.id] = replace(user, period_start_ms=in_period.period_start_ms)
        if top_up:
            self.append(
                user,
                id=_top_up_id(user),
                type=TransactionType.ADD,
                amount=top_up,
                description="allowance",
                allowance_amount=in_period.allowance_left - user.allowance_left,
            )
        return self.users[user.id]

    def take(
        self, user: User, allowance: Allowance | None, cost: int, **fields: Any
    ) -> CreditTransaction:
        """Begin the current period, and take a cost: first from the rest of the allowance."""
        user = self.begin_period(user, allowance)
        return self.append(
            user,
            type=TransactionType.DEDUCT,
            amount=-cost,
            allowance_amount=-min(user.allowance_left, cost),
            **fields,
        )

    def give_back(self, deduct: Deduct, amount: int, **fields: Any) -> CreditTransaction:
        """Give back a part of a deduct, and save how much."""
        user, amounts = self.users[deduct.user_id], deduct.amounts
        record = self.append(
            user,
            type=TransactionType.REFUND,
            amount=amount,
            allowance_amount=deduct.to_allowance(amount, user.period_start_ms),
            refund_of=deduct.id,
            **fields,
        )
        deduct.amounts = replace(amounts, refunded=amounts.refunded + amount)
        self.save(deduct)
        self.records.remembered.put(record.id, record, MEMORY_MS)
        return record

    def append(self, user: User, **fields: Any) -> CreditTransaction:
        """Change a balance and record it. The balance determines the other fields."""
        start_ms = user.period_start_ms
        record = CreditTransaction(
            user_id=user.id,
            timestamp=utc(self.records.now_ms),
            sequence=user.sequence + 1,
            balance_after=user.credits + fields["amount"],
            epoch=user.epoch,
            allowance_after=user.allowance_left + fields.get("allowance_amount", 0),
            period_start=None if start_ms is None else utc(start_ms),
            **fields,
        )
        self.users[user.id] = replace(
            user,
            credits=record.balance_after,
            sequence=record.sequence,
            allowance_left=record.allowance_after,
        )
        self.records.append(record)
        return record


def _answer_to(attempt: Attempt, now_ms: int) -> _Answer:
    """Return the time of an answer and the deadline until which its void may delete it."""
    return min(now_ms, attempt.deadline_ms), attempt.deadline_ms


def _is_own(void: Void, answer: _Answer) -> bool:
    """Return whether an answer was given to the voided call."""
    at_ms, deadline_ms = answer
    if void.first_deadline_ms:
        return deadline_ms in {void.first_deadline_ms, void.deadline_ms}
    return _is_in_time(void, at_ms)


def _is_in_time(void: Void, at_ms: int) -> bool:
    return void.asked_at_ms <= at_ms <= void.deadline_ms


def _top_up_id(user: User) -> CreditTransactionId:
    """Return the id of the record that the period of a user adds."""
    name = b"allowance:%b:%d" % (user.id.bytes, user.period_start_ms or 0)
    # Computed here, since `uuid5` takes bytes only from Python 3.12 on.
    digest = sha1(_TOP_UPS.bytes + name, usedforsecurity=False).digest()
    return CreditTransactionId(UUID(bytes=digest[:16], version=5))
