"""Balances and their records in plain dicts: what every decision reads and changes."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from uuid import UUID

from faregate.adapters.memory.answers import blank_answer, top_up_of
from faregate.adapters.memory.clock import unix_ms, utc
from faregate.adapters.memory.expiring import Expiring
from faregate.adapters.memory.given_back import GivenBack
from faregate.adapters.memory.limits import MemoryLimits
from faregate.adapters.memory.records import MemoryRecords
from faregate.adapters.memory.remembered_keys import RememberedKeys
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import AmountError, LedgerUnavailableError, LedgerUninitialisedError
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

#: For how long a refund, a void, a credit and the end of a hold are known by their ids.
MEMORY_MS = 86_400_000


class MemoryBalances:
    """Who has what, the record of each change, and what is remembered of them."""

    def __init__(
        self, *, now_ms: Callable[[], int] = unix_ms, stream_length_max: int = 1_000_000
    ) -> None:
        self.now_ms = now_ms
        self._epoch: int | None = None
        self._users: dict[UUID, User] = {}
        self.records = MemoryRecords(now_ms, stream_length_max)
        self._given_back: Expiring[CreditTransactionId, GivenBack] = Expiring(now_ms)
        self._receipts: Expiring[CreditTransactionId, CreditTransaction] = Expiring(now_ms)
        self._limits = MemoryLimits()
        self._keys = RememberedKeys(now_ms)

    @property
    def pending(self) -> Mapping[str, CreditTransaction]:
        """The records that are not acknowledged, by their position in the stream, oldest first."""
        return self.records.pending

    async def attach(self, identity: LedgerIdentity) -> None:
        """Take over the epoch, unless the ledger was installed and is lost."""
        if self._epoch is None and not identity.installed:
            self._epoch = identity.epoch
        if self._epoch != identity.epoch:
            raise LedgerUninitialisedError("the ledger in memory is not the one of Postgres")

    def _known(self, user_id: UUID) -> User | None:
        """Return a user, or None.

        Raises:
            LedgerUninitialisedError: Nobody can be known, since there is no epoch.
        """
        if self._epoch is None:
            raise LedgerUninitialisedError("the ledger in memory is empty")
        return self._users.get(user_id)

    async def read(self, user_id: UUID, allowance: Allowance | None = None) -> User | None:
        """Return the live balance; see the port."""
        user = self._known(user_id)
        return None if user is None else renewed(user, allowance, self.now_ms())[0]

    async def renew(self, user_id: UUID, allowance: Allowance) -> int | None:
        """Begin the period of now, if an earlier one is over; see the port."""
        known = self._known(user_id)
        if known is None:
            return None
        user, top_up = renewed(known, allowance, self.now_ms())
        if known.period_start_ms is None or not top_up:
            return 0
        if self.records.is_full:
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

    def _is_given_back(self, deduct_id: CreditTransactionId) -> bool:
        given_back = self._given_back.get(deduct_id)
        return given_back is not None and given_back.total >= given_back.cost

    def _spend(self, charge: Charge) -> None:
        """Refuse the id of a charge from now on."""
        spent = GivenBack(charge.user_id, 0)
        self._given_back.put(charge.transaction_id, spent, MEMORY_MS)

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
        position = self.records.append(record)
        self._users[user.id] = replace(
            user, credits=record.balance_after, sequence=record.sequence, allowance_left=left
        )
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
