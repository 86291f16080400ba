"""Live credits, and the records that are not yet known to be rows.

One port decides on requests; workers and operators use the others.
"""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from faregate.domain.alignment import Aligned, Alignment, LiveAccount
from faregate.domain.attempt import Attempt
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import FaregateError
from faregate.domain.health import CallCounts
from faregate.domain.hold import HoldAnswer, Settlement
from faregate.domain.idempotency import Completion
from faregate.domain.identity import LedgerIdentity
from faregate.domain.journal import JournalEntry
from faregate.domain.policy import Allowance, CreditPolicy
from faregate.domain.request import Credit, Refund, Void, VoidOutcome
from faregate.domain.transaction import CreditTransactionId
from faregate.domain.user import User


class Ledger(Protocol):
    """Live credits: decides, and records in the same step. Implemented by Redis.

    `decide` has the decision timeout. All others are asked twice and may take as long as the
    adapter's own timeout; each recognises its retry by the ids in its arguments.
    """

    async def attach(self, identity: LedgerIdentity) -> None:
        """Make sure that this is the ledger of `identity`, creating it if it never was installed.

        Raises:
            LedgerUninitialisedError: It was installed once and is empty, or of another epoch.
            ConfigurationError: It was created with another shard count or starting credits.
        """
        ...

    def now_ms(self) -> int:
        """Return a time in Unix milliseconds that the ledger's clock has reached for certain.

        Returns 0 as long as the ledger has never answered.
        """
        ...

    @property
    def is_full(self) -> bool:
        """Whether a spend would be refused as an overload, since too many wait."""
        ...

    @property
    def calls(self) -> CallCounts | None:
        """What became of its calls since it was made; None where it needs none."""
        ...

    def decide(self, attempt: Attempt) -> Awaitable[Decision]:
        """Take the cost of a spend if there is enough; open its hold if it has one.

        It mints the id of an attempt that has none. A spend of a shadow policy is decided on the
        user's shadow balance: the decision is `ALLOWED`, whatever its `shadow` says.

        Raises:
            AttemptError: There is no decision; its `event` says what happened.
            TransactionIdError: The caller's id is outside the window in which it is recognised.
            TransactionConflictError: The id is known with another content.
            UnresolvedError: The search for the id was cut short. Nothing was written.
            AmountError: The balance would leave its range.
            LedgerUninitialisedError: The ledger is empty.
            LedgerCorruptError: A value of the ledger cannot be read. Nothing was written.
        """
        ...

    async def void(self, void: Void) -> VoidOutcome:
        """Undo a spend whose outcome is unknown, once its deadline has passed; end its hold.

        Of what is `FORGOTTEN`, the rows tell whether it was charged.
        """
        ...

    async def settle(self, settlement: Settlement) -> HoldAnswer:
        """End a hold by its actual cost, or cancel it, once.

        Raises:
            TransactionConflictError: It ended in another way, or by another cost.
        """
        ...

    async def extend(self, user_id: UUID, hold_id: CreditTransactionId, ttl_ms: int) -> HoldAnswer:
        """Let an open hold expire in `ttl_ms` from now.

        Raises:
            InvalidArgumentError: It would be open for more than a day.
        """
        ...

    async def expire_due(self, user_id: UUID) -> int:
        """End holds of a user that have expired; return how many, bounded."""
        ...

    async def refund(self, refund: Refund) -> Decision:
        """Give a deduct back; `UNKNOWN_DEDUCT` asks for `Refund.durable`."""
        ...

    async def credit(self, credit: Credit) -> Decision:
        """Add credits or adjust a balance; recognises the id of a retry for a day."""
        ...

    async def collect(self, entry: JournalEntry) -> Decision:
        """Take the cost of a journaled request as far as there is enough, once for its deduct's id.

        The decision is about that deduct: `amount` is what was taken. It is `repeated` where the
        id has been collected before, or its idempotency key was served; one that is not recorded
        is only looked up. Recognises the id for a day.
        """
        ...

    async def complete(self, completion: Completion) -> bool:
        """Note that the request of an idempotency key has been served, and keep its response.

        Returns whether a key is remembered for the charge or hold of that id; one whose lifetime
        is over may be, or not.
        """
        ...

    async def response(self, user_id: UUID, transaction_id: CreditTransactionId) -> bytes | None:
        """Return the response that was kept for the charge or hold of that id."""
        ...

    async def read(self, user_id: UUID, allowance: Allowance | None = None) -> User | None:
        """Return the live balance, or None if the ledger does not know the user.

        With an allowance it is the balance that a charge would find now: a new period is included,
        though only a charge begins it.
        """
        ...

    async def renew(self, user_id: UUID, allowance: Allowance) -> int | None:
        """Begin the current period, if an earlier one is over, as the next charge would.

        Returns how many credits that added, or None if the ledger does not know the user. A user
        who never made a request has no period yet, and none is begun for it.

        Raises:
            LedgerUnavailableError: Too many records wait for Postgres; nothing was added.
            AmountError: The balance would leave its range.
        """
        ...

    async def install(self, user: User) -> bool:
        """Take over a user's durable balance, if absent and of the same epoch; append nothing."""
        ...

    async def correct_shadow(self, user_id: UUID, policy: CreditPolicy, amount: int) -> None:
        """Add to a user's shadow balance an amount that was observed and not needed."""
        ...

    async def shadow_counts(self, policy: str) -> Mapping[Verdict, int]:
        """Return how often each verdict would have been given under a shadow policy."""
        ...

    async def aclose(self) -> None:
        """Close all connections. Attempts that wait fail with `NOT_SENT`, others as `LOST`."""
        ...


class HoldSweeper(Protocol):
    """Ends expired holds. Implemented by Redis, for the worker."""

    def shards_due(self) -> Sequence[int]:
        """Return the shards that have open holds that have expired."""
        ...

    def sweep(self, shard: int) -> int:
        """Give back or keep expired holds of a shard; return how many, bounded."""
        ...


class Credits(Protocol):
    """Adds credits, many at once. Implemented by Redis, for the worker."""

    def add(self, credits_: Sequence[Credit]) -> Sequence[Decision | FaregateError]:
        """Add credits, each once for its id, which is known for a day.

        Returns:
            What became of each: a decision, or the error that a gate would raise.

        Raises:
            LedgerUnavailableError: There is no answer.
        """
        ...


class LiveBalances(Protocol):
    """Live credits, read by operators."""

    def read_many(self, user_ids: Sequence[UUID]) -> Mapping[UUID, User]:
        """Return the live balances of the users that the ledger knows.

        An account that cannot be read has no credits, and no transactions.
        """
        ...

    def epochs(self) -> Sequence[int | None]:
        """Return the epoch of each shard, None where Redis holds none."""
        ...

    def closed_count(self) -> int:
        """Return how many shards take nothing new."""
        ...

    def left_count(self) -> int:
        """Return how many shards a ledger that moved has given up here: their accounts are there.

        It may have had another number of shards: those that have names in common are counted.
        """
        ...

    def identity_fields(self) -> Mapping[str, str]:
        """Return the identity of the ledger in Redis; empty if Redis was wiped."""
        ...


class LiveAccounts(Protocol):
    """Live accounts, compared with their ledgers and corrected by operators."""

    def read(self, user_ids: Sequence[UUID]) -> Mapping[UUID, LiveAccount]:
        """Return all accounts, those included that are missing; a shard's as of one moment.

        Raises:
            LedgerUninitialisedError: Redis was wiped.
            LedgerUnavailableError: It does not answer.
        """
        ...

    def align(self, alignment: Alignment) -> Aligned:
        """Align a live balance with its ledger, in one step, while charges go on.

        Raises:
            LedgerUninitialisedError: Redis was wiped, or is of another epoch than the drift.
            AmountError: The balance would leave its range.
            TransactionConflictError: The id is known with another user or amount.
            LedgerCorruptError: A value of the ledger cannot be read. Nothing was written.
            LedgerUnavailableError: It does not answer; it may have been done. Ask again.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """The work that is left in a Redis whose ledger moves to another one."""

    #: Shards that are still there.
    shards: int = 0
    #: Records that are not known to be rows, and open holds.
    records: int = 0
    holds: int = 0

    @property
    def is_any(self) -> bool:
        """Whether something must be stored or ended."""
        return bool(self.records or self.holds)


class Installer(Protocol):
    """Gives a Redis a ledger, and takes it away again, for operators."""

    def create(self, identity: LedgerIdentity) -> bool:
        """Make a ledger of an empty Redis; return False, and change nothing, if it is not empty."""
        ...

    def install(self, users: Sequence[User]) -> int:
        """Take over durable balances, and return how many users were not there.

        Raises:
            LedgerError: Redis is of another epoch, or does not answer. Some users may be there.
        """
        ...

    def close_shards(self) -> Unfinished:
        """Let no shard take anything new: refunds, voids and ends of holds still pass."""
        ...

    def open_shards(self) -> Unfinished:
        """Let closed shards serve again."""
        ...

    def give_up(self) -> Unfinished:
        """Delete the state of each closed shard in which nothing is left; tell of the others."""
        ...
