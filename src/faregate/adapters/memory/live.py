"""What is live, in plain dicts: who there is, and how a balance changes."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from uuid import UUID

from faregate.adapters.memory.clock import unix_ms, utc
from faregate.adapters.memory.expiring import Expiring
from faregate.adapters.memory.given_back import GivenBack
from faregate.adapters.memory.limits import MemoryLimits
from faregate.adapters.memory.records import MemoryRecords
from faregate.adapters.memory.remembered_keys import RememberedKeys
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import LedgerUninitialisedError
from faregate.domain.identity import LedgerIdentity
from faregate.domain.policy import Allowance, renewed
from faregate.domain.request import Charge, Credit, Refund
from faregate.domain.transaction import CreditTransaction, CreditTransactionId, TransactionType
from faregate.domain.user import User

#: For how long a refund, a void, a credit and the end of a hold are known by their ids.
MEMORY_MS = 86_400_000


class MemoryLive:
    """What all operations of a ledger share."""

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
        self._keys = RememberedKeys()

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

    async def install(self, user: User) -> bool:
        """Take over a user's durable balance; see the port."""
        if self._epoch != user.epoch:
            raise LedgerUninitialisedError("the ledger in memory is of another epoch")
        return self._users.setdefault(user.id, user) is user

    async def aclose(self) -> None:
        """Do nothing: there is nothing to let go of."""

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
        source: Charge | Credit | Refund,
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
            metadata=source.metadata,
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
