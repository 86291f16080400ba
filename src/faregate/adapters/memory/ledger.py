"""Live credits in plain dicts."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from uuid import UUID

from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import (
    AmountError,
    LedgerUninitialisedError,
    TransactionConflictError,
    TransactionIdError,
)
from faregate.domain.identity import LedgerIdentity
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

_ID_AGE_MS_MAX = 60_000
_CLOCK_SKEW_MS_MAX = 5_000


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class _GivenBack:
    """What has been given back of a deduct."""

    cost: int
    refunds: dict[CreditTransactionId, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.refunds.values())


class MemoryLedger:
    """The port `Ledger`, in one shard."""

    def __init__(
        self, *, now_ms: Callable[[], int] = _unix_ms, stream_length_max: int = 1_000_000
    ) -> None:
        self.now_ms = now_ms
        self._stream_length_max = stream_length_max
        self._epoch: int | None = None
        self._users: dict[UUID, User] = {}
        self._records: dict[CreditTransactionId, CreditTransaction] = {}
        self._given_back: dict[CreditTransactionId, _GivenBack] = {}
        self._positions = count(1)
        #: The records that are not acknowledged, by their position in the stream, oldest first.
        self.pending: dict[str, CreditTransaction] = {}

    async def attach(self, identity: LedgerIdentity) -> None:
        """Take over the epoch, unless the ledger was installed and is lost."""
        if self._epoch is None and not identity.installed:
            self._epoch = identity.epoch
        if self._epoch != identity.epoch:
            raise LedgerUninitialisedError("the ledger in memory is not the one of Postgres")

    async def charge(self, charge: Charge) -> Decision:
        """Take credits if there are enough; see the port."""
        check_whole("a cost", charge.cost, 0)
        user = self._users.get(charge.user_id)
        blank = Decision(
            verdict=Verdict.UNKNOWN_USER,
            user_id=charge.user_id,
            transaction_id=charge.transaction_id,
            amount=-charge.cost,
            credits=user.credits if user else 0,
        )
        if user is None:
            return blank
        earlier = self._retry_of(charge, blank)
        if earlier is not None:
            return earlier
        if len(self.pending) >= self._stream_length_max:
            return replace(blank, verdict=Verdict.BACKLOG)
        if user.credits < charge.cost:
            return replace(blank, verdict=Verdict.OUT_OF_CREDITS)
        return self._append(blank, TransactionType.DEDUCT, charge)

    def _retry_of(self, charge: Charge, blank: Decision) -> Decision | None:
        """Return the answer if this is a retry; even a first attempt may arrive after its retry."""
        if not charge.fresh:
            id_ms = charge.transaction_id.time_ms
            if id_ms is None:
                raise TransactionIdError("a charge needs a UUIDv7, so that its age is known")
            if not -_CLOCK_SKEW_MS_MAX <= self.now_ms() - id_ms <= _ID_AGE_MS_MAX:
                raise TransactionIdError("the id is outside the window of a retry")
            given_back = self._given_back.get(charge.transaction_id)
            if given_back and given_back.total >= given_back.cost:
                return replace(blank, verdict=Verdict.VOIDED)
        record = self._records.get(charge.transaction_id)
        if record is None or record.user_id != charge.user_id:
            return None
        return _repeated(blank, record, TransactionType.DEDUCT)

    async def credit(self, credit: Credit) -> Decision:
        """Add credits or adjust a balance; see the port."""
        check_amount(credit.type, credit.amount)
        user = self._users.get(credit.user_id)
        blank = Decision(
            verdict=Verdict.UNKNOWN_USER,
            user_id=credit.user_id,
            transaction_id=credit.transaction_id,
            amount=credit.amount,
            credits=user.credits if user else 0,
        )
        if user is None:
            return blank
        record = self._records.get(credit.transaction_id)
        if record is not None:
            return _repeated(blank, record, credit.type)
        after = user.credits + credit.amount
        if abs(after) > CREDITS_MAX:
            raise AmountError("the balance would leave its range")
        if credit.amount < 0 and after < 0 and not credit.negative_allowed:
            return replace(blank, verdict=Verdict.OUT_OF_CREDITS)
        return self._append(blank, credit.type, credit)

    async def refund(self, refund: Refund) -> Decision:
        """Give a deduct back; see the port."""
        if refund.amount is not None:
            check_amount(TransactionType.REFUND, refund.amount)
        user = self._users.get(refund.user_id)
        blank = Decision(
            verdict=Verdict.UNKNOWN_USER,
            user_id=refund.user_id,
            transaction_id=refund.transaction_id,
            amount=refund.amount or 0,
            credits=user.credits if user else 0,
        )
        if user is None:
            return blank
        given_back = self._deduct_of(refund)
        if given_back is None:
            return replace(blank, verdict=Verdict.UNKNOWN_DEDUCT)
        earlier = given_back.refunds.get(refund.transaction_id)
        if earlier is not None:
            if refund.amount not in {None, earlier}:
                raise TransactionConflictError("the refund is known with another amount")
            return replace(blank, verdict=Verdict.ALLOWED, amount=earlier, repeated=True)
        left = given_back.cost - given_back.total
        amount = left if refund.amount is None else refund.amount
        if not 0 < amount <= left:
            return replace(blank, verdict=Verdict.REFUND_EXCEEDED, amount=amount)
        if user.credits + amount > CREDITS_MAX:
            raise AmountError("the balance would leave its range")
        given_back.refunds[refund.transaction_id] = amount
        self._given_back[refund.deduct_id] = given_back
        return self._append(replace(blank, amount=amount), TransactionType.REFUND, refund)

    def _deduct_of(self, refund: Refund) -> _GivenBack | None:
        given_back = self._given_back.get(refund.deduct_id)
        if given_back is not None:
            return given_back
        record = self._records.get(refund.deduct_id)
        if record and record.user_id == refund.user_id and record.type is TransactionType.DEDUCT:
            return _GivenBack(-record.amount)
        if refund.durable is None:
            return None
        earlier = CreditTransactionId.derive("earlier", refund.deduct_id.value)
        return _GivenBack(refund.durable.amount, {earlier: refund.durable.refunded})

    async def void(self, charge: Charge) -> VoidOutcome:
        """Settle a charge whose outcome is unknown; see the port."""
        if self.now_ms() <= charge.deadline_ms:
            return VoidOutcome.TOO_EARLY
        given_back = self._given_back.get(charge.transaction_id)
        if given_back is not None:
            was_voided = charge.void().transaction_id in given_back.refunds
            return VoidOutcome.REFUNDED if was_voided else VoidOutcome.REFUSED
        record = self._records.get(charge.transaction_id)
        if record is not None and (
            record.type is not TransactionType.DEDUCT
            or record.timestamp.timestamp() * 1000 < charge.asked_at_ms
        ):
            return VoidOutcome.KEPT
        self._given_back[charge.transaction_id] = _GivenBack(0)
        if record is None or record.user_id != charge.user_id or not record.amount:
            return VoidOutcome.REFUSED
        del self._given_back[charge.transaction_id]
        await self.refund(charge.void())
        return VoidOutcome.REFUNDED

    async def read(self, user_id: UUID) -> User | None:
        """Return the live balance; see the port."""
        return self._users.get(user_id)

    async def install(self, user: User) -> bool:
        """Take over a user's durable balance; see the port."""
        if self._epoch != user.epoch:
            raise LedgerUninitialisedError("the ledger in memory is of another epoch")
        return self._users.setdefault(user.id, user) is user

    async def aclose(self) -> None:
        """There is nothing to let go of."""

    def _append(
        self, blank: Decision, kind: TransactionType, source: Charge | Credit | Refund
    ) -> Decision:
        user = self._users[blank.user_id]
        now = datetime.fromtimestamp(self.now_ms() / 1000, UTC)
        record = CreditTransaction(
            id=blank.transaction_id,
            user_id=user.id,
            amount=blank.amount,
            type=kind,
            description=source.description,
            metadata=source.metadata,
            timestamp=now,
            sequence=user.sequence + 1,
            balance_after=user.credits + blank.amount,
            epoch=user.epoch,
            refund_of=source.deduct_id if isinstance(source, Refund) else None,
        )
        position = f"{next(self._positions)}-0"
        self._users[user.id] = replace(user, credits=record.balance_after, sequence=record.sequence)
        self._records[record.id] = self.pending[position] = record
        return replace(
            blank,
            verdict=Verdict.ALLOWED,
            credits=record.balance_after,
            sequence=record.sequence,
            position=position,
        )


def _repeated(blank: Decision, record: CreditTransaction, kind: TransactionType) -> Decision:
    if (record.user_id, record.amount, record.type) != (blank.user_id, blank.amount, kind):
        raise TransactionConflictError(f"transaction {record.id} is known with other content")
    return Decision.repeat(record)
