"""Balances and their records in plain dicts: what every decision reads and changes."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import count
from uuid import UUID

from faregate.adapters.memory.answers import blank_answer, top_up_of
from faregate.adapters.memory.clock import unix_ms, utc
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import (
    AmountError,
    LedgerUnavailableError,
    LedgerUninitialisedError,
)
from faregate.domain.identity import LedgerIdentity
from faregate.domain.journal import JournalEntry
from faregate.domain.policy import Allowance, renewed
from faregate.domain.request import Charge, Credit, Refund
from faregate.domain.transaction import (
    CREDITS_MAX,
    CreditTransaction,
    CreditTransactionId,
    TransactionType,
)
from faregate.domain.user import User

_BACKLOG_HOURS_MAX = 23


class MemoryBalances:
    """Who has what, and the record of each change."""

    def __init__(
        self, *, now_ms: Callable[[], int] = unix_ms, stream_length_max: int = 1_000_000
    ) -> None:
        self.now_ms = now_ms
        self._stream_length_max = stream_length_max
        self._epoch: int | None = None
        self._users: dict[UUID, User] = {}
        self._records: dict[CreditTransactionId, CreditTransaction] = {}
        self._positions = count(1)
        #: The records that are not acknowledged, by their position in the stream, oldest first.
        self.pending: dict[str, CreditTransaction] = {}

    async def attach(self, identity: LedgerIdentity) -> None:
        """Take over the epoch, unless the ledger was installed and is lost."""
        if self._epoch is None and not identity.installed:
            self._epoch = identity.epoch
        if self._epoch != identity.epoch:
            raise LedgerUninitialisedError("the ledger in memory is not the one of Postgres")

    async def read(self, user_id: UUID, allowance: Allowance | None = None) -> User | None:
        """Return the live balance; see the port."""
        user = self._users.get(user_id)
        return None if user is None else renewed(user, allowance, self.now_ms())[0]

    async def renew(self, user_id: UUID, allowance: Allowance) -> int | None:
        """Begin the period of now, if an earlier one is over; see the port."""
        known = self._users.get(user_id)
        if known is None:
            return None
        user, top_up = renewed(known, allowance, self.now_ms())
        if known.period_start_ms is None or not top_up:
            return 0
        if len(self.pending) >= self._stream_length_max:
            raise LedgerUnavailableError("too many records wait")
        if user.credits > CREDITS_MAX:
            raise AmountError("the balance would leave its range")
        self._begin(user, top_up)
        return top_up

    async def install(self, user: User) -> bool:
        """Take over a user's durable balance; see the port."""
        if self._epoch != user.epoch:
            raise LedgerUninitialisedError("the ledger in memory is of another epoch")
        return self._users.setdefault(user.id, user) is user

    async def aclose(self) -> None:
        """Do nothing: there is nothing to let go of."""

    def _begin(self, user: User, amount: int) -> None:
        """Write down the period in which a user is, and what that adds."""
        known = self._users[user.id]
        self._users[user.id] = replace(
            known, period_start_ms=user.period_start_ms, period_end_ms=user.period_end_ms
        )
        if not amount:
            return
        credit = top_up_of(user, amount)
        moves = user.allowance_left - self._users[user.id].allowance_left
        self._append(blank_answer(credit, user, amount), credit.type, credit, allowance=moves)

    def _is_backlogged(self) -> bool:
        """Say whether a record has waited for longer than what was asked for is remembered."""
        oldest = next(iter(self.pending.values()), None)
        return oldest is not None and (
            oldest.timestamp < utc(self.now_ms()) - timedelta(hours=_BACKLOG_HOURS_MAX)
        )

    def _append(
        self,
        blank: Decision,
        kind: TransactionType,
        source: Charge | Credit | Refund | JournalEntry,
        *,
        allowance: int = 0,
    ) -> Decision:
        user = self._users[blank.user_id]
        left = user.allowance_left + allowance
        record = CreditTransaction(
            id=blank.transaction_id,
            user_id=user.id,
            amount=blank.amount,
            type=kind,
            description=source.description,
            metadata=_metadata_of(source, blank),
            timestamp=utc(self.now_ms()),
            sequence=user.sequence + 1,
            balance_after=user.credits + blank.amount,
            epoch=user.epoch,
            refund_of=source.deduct_id if isinstance(source, Refund) else None,
            allowance_amount=allowance,
            allowance_after=left,
            period_start=None if user.period_start_ms is None else utc(user.period_start_ms),
        )
        position = f"{next(self._positions)}-0"
        self._users[user.id] = replace(
            user, credits=record.balance_after, sequence=record.sequence, allowance_left=left
        )
        self._records[record.id] = self.pending[position] = record
        return replace(
            blank,
            verdict=Verdict.ALLOWED,
            credits=record.balance_after,
            sequence=record.sequence,
            position=position,
            allowance_left=left,
        )


def _metadata_of(
    source: Charge | Credit | Refund | JournalEntry, answer: Decision
) -> Mapping[str, object] | None:
    """Return the metadata of a record; what a journaled request still owes is part of it."""
    if not isinstance(source, JournalEntry):
        return source.metadata
    shortfall = source.owed + answer.amount
    return {**source.row_metadata, "shortfall": shortfall} if shortfall else source.row_metadata
