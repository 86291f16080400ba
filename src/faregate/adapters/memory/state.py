"""What a ledger in plain dicts consists of, and how it changes: by one record at a time."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import count
from uuid import UUID

from faregate.adapters.memory.clock import unix_ms, utc
from faregate.adapters.memory.given_back import GivenBack
from faregate.adapters.memory.limits import MemoryLimits
from faregate.adapters.memory.remembered_keys import RememberedKeys
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import LedgerUninitialisedError
from faregate.domain.identity import LedgerIdentity
from faregate.domain.journal import JournalEntry
from faregate.domain.policy import Allowance, renewed
from faregate.domain.request import Charge, Credit, Refund
from faregate.domain.transaction import CreditTransaction, CreditTransactionId, TransactionType
from faregate.domain.user import User

_BACKLOG_HOURS_MAX = 23


class MemoryState:
    """Users, records, and what is remembered of requests."""

    def __init__(
        self, *, now_ms: Callable[[], int] = unix_ms, stream_length_max: int = 1_000_000
    ) -> None:
        self.now_ms = now_ms
        self._stream_length_max = stream_length_max
        self._epoch: int | None = None
        self._users: dict[UUID, User] = {}
        self._records: dict[CreditTransactionId, CreditTransaction] = {}
        self._given_back: dict[CreditTransactionId, GivenBack] = {}
        self._limits = MemoryLimits()
        self._keys = RememberedKeys()
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

    async def install(self, user: User) -> bool:
        """Take over a user's durable balance; see the port."""
        if self._epoch != user.epoch:
            raise LedgerUninitialisedError("the ledger in memory is of another epoch")
        return self._users.setdefault(user.id, user) is user

    async def aclose(self) -> None:
        """Do nothing: there is nothing to let go of."""

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

    def _is_backlogged(self) -> bool:
        """Say whether a record has waited for longer than what was asked for is remembered."""
        oldest = next(iter(self.pending.values()), None)
        return oldest is not None and (
            oldest.timestamp < utc(self.now_ms()) - timedelta(hours=_BACKLOG_HOURS_MAX)
        )


def _metadata_of(
    source: Charge | Credit | Refund | JournalEntry, answer: Decision
) -> Mapping[str, object] | None:
    """Return the metadata of a record; what a journaled request still owes is part of it."""
    if not isinstance(source, JournalEntry):
        return source.metadata
    shortfall = source.owed + answer.amount
    return {**source.row_metadata, "shortfall": shortfall} if shortfall else source.row_metadata
