"""Accounts: the live balances of users, and the record of each change."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha1
from uuid import UUID

from faregate.adapters.memory.clock import utc
from faregate.adapters.memory.shard import Recorded, Shard
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import AmountError
from faregate.domain.policy import Allowance, CreditPolicy, renewed
from faregate.domain.transaction import (
    CREDITS_MAX,
    CreditTransaction,
    CreditTransactionId,
    TransactionType,
)
from faregate.domain.user import User

#: The id of a top-up stands for a user and a period.
_TOP_UPS = UUID("6f2d2f0c-5c1b-5d5e-9d51-0b7b2d0a4a11")


@dataclass(slots=True)
class Account:
    """The live balance of a user."""

    user_id: UUID
    credits: int
    sequence: int = 0
    #: The time of the newest id that a retry, a void or a caller has named, in Unix milliseconds.
    named_ms: int = 0
    allowance_left: int = 0
    period_start_ms: int | None = None
    #: The credits in open holds, and the number of open holds.
    held: int = 0
    holds_count: int = 0
    #: Of each rate limit of the user's own, by name: when the next request would arrive, if all
    #: came at the steady rate, in microseconds.
    arrivals_us: dict[str, int] = field(default_factory=dict)

    def user(self, epoch: int) -> User:
        """Return it as others know it."""
        return User(
            id=self.user_id,
            credits=self.credits,
            sequence=self.sequence,
            epoch=epoch,
            allowance_left=self.allowance_left,
            period_start_ms=self.period_start_ms,
            held=self.held,
        )

    def name(self, id_ms: int) -> None:
        """Note that an id was named by a retry, a void or a caller."""
        self.named_ms = max(self.named_ms, id_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of a balance that is to be recorded."""

    id: CreditTransactionId
    type: TransactionType
    amount: int
    description: str
    metadata: Mapping[str, object] | None = None
    #: How much of the amount concerns the allowance.
    allowance: int = 0
    refund_of: CreditTransactionId | None = None
    is_hold: bool = False


@dataclass(frozen=True, slots=True)
class InPeriod:
    """A user in the current period, and the credits that the period adds."""

    user: User
    top_up: int

    @property
    def is_out_of_range(self) -> bool:
        """Whether the balance would leave its range."""
        return self.user.credits > CREDITS_MAX

    def check_range(self) -> None:
        """Make sure that the balance stays in its range.

        Raises:
            AmountError: It does not.
        """
        if self.is_out_of_range:
            raise AmountError("the balance would leave its range")


class Accounts:
    """The accounts of one shard."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._known: dict[UUID, Account] = {}

    def find(self, user_id: UUID) -> Account | None:
        """Return an account, or None.

        Raises:
            LedgerUninitialisedError: The ledger is empty.
        """
        return self._known.get(user_id) if self._shard.epoch else None

    def install(self, user: User) -> bool:
        """Begin an account with a durable balance; return whether there was none."""
        if user.id in self._known:
            return False
        self._known[user.id] = Account(
            user_id=user.id,
            credits=user.credits,
            sequence=user.sequence,
            # An attempt that is older may have been made before the account was here.
            named_ms=self._shard.now_ms,
            allowance_left=user.allowance_left,
            period_start_ms=user.period_start_ms,
        )
        return True

    def in_period(self, account: Account, allowance: Allowance | None) -> InPeriod:
        """Return the user of an account in the current period."""
        return InPeriod(*renewed(account.user(self._shard.epoch), allowance, self._shard.now_ms))

    def begin_period(self, account: Account, in_period: InPeriod) -> None:
        """Begin the current period, and record the credits that it adds."""
        user = in_period.user
        account.period_start_ms = user.period_start_ms
        if not in_period.top_up:
            return
        change = Change(
            id=top_up_id(account.user_id, user.period_start_ms or 0),
            type=TransactionType.ADD,
            amount=in_period.top_up,
            description="allowance",
            allowance=user.allowance_left - account.allowance_left,
        )
        self.append(account, change)

    def append(self, account: Account, change: Change) -> Recorded:
        """Change a balance, and append the record of it."""
        account.credits += change.amount
        account.sequence += 1
        account.allowance_left += change.allowance
        start_ms = account.period_start_ms
        record = CreditTransaction(
            id=change.id,
            user_id=account.user_id,
            amount=change.amount,
            type=change.type,
            description=change.description,
            metadata=change.metadata,
            timestamp=utc(self._shard.now_ms),
            sequence=account.sequence,
            balance_after=account.credits,
            epoch=self._shard.epoch,
            refund_of=change.refund_of,
            allowance_amount=change.allowance,
            allowance_after=account.allowance_left,
            period_start=None if start_ms is None else utc(start_ms),
        )
        return self._shard.append(record, is_hold=change.is_hold)


def top_up_id(user_id: UUID, period_start_ms: int) -> CreditTransactionId:
    """Return the id of the record that a new period adds."""
    name = b"allowance:%b:%d" % (user_id.bytes, period_start_ms)
    # As `uuid5` computes it, which takes bytes from Python 3.12 on only.
    digest = sha1(_TOP_UPS.bytes + name, usedforsecurity=False).digest()
    return CreditTransactionId(UUID(bytes=digest[:16], version=5))


def blank_decision(
    user_id: UUID,
    identity: CreditTransactionId,
    amount: int,
    *,
    now_ms: int,
    user: User | Account | None = None,
    policy: CreditPolicy | None = None,
) -> Decision:
    """Return the refusal that holds until something better is decided."""
    return Decision(
        verdict=Verdict.UNKNOWN_USER,
        user_id=user_id,
        transaction_id=identity,
        amount=amount,
        credits=min(user.credits, CREDITS_MAX) if user else 0,
        allowance_left=user.allowance_left if user else 0,
        resets_at_ms=user.period_end_ms if isinstance(user, User) else None,
        policy=policy,
        decided_at_ms=now_ms,
    )
