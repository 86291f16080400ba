"""The ports to live credits.

One port decides on requests; the others are for workers and operators.
"""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from faregate.domain.alignment import Aligned, Alignment, LiveAccount
from faregate.domain.attempt import Attempt
from faregate.domain.decision import Decision, Verdict
from faregate.domain.durability import Durability
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


class SpendLane(Protocol):
    """The way of spends to one server. Its missing answers are about that server alone."""

    @property
    def name(self) -> str:
        """The address of the server, for people; no other lane of the ledger has it."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether a spend would be refused as an overload."""
        ...

    def decide(self, attempt: Attempt) -> Awaitable[Decision]:
        """Decide on a spend: take its cost if there are enough credits, and open its hold.

        It mints the id of an attempt without one. A spend of a shadow policy is decided on the
        user's shadow balance: the decision is `ALLOWED`, and its `shadow` has the verdict.

        Raises:
            AttemptError: There is no decision; the error has the `event`.
            TransactionIdError: The caller's id is outside the window in which it is recognised.
            TransactionConflictError: The id is known with another content.
            UnresolvedError: The search for the id reached its bound. Nothing was written.
            AmountError: The balance would leave its range.
            LedgerUninitialisedError: The ledger is empty.
            LedgerCorruptError: A value of the ledger cannot be read. Nothing was written.
        """
        ...


class Ledger(Protocol):
    """Live credits: decides, and records in the same step. Implemented for Redis.

    `decide` has the decision timeout. All others are tried twice within the adapter's own timeout;
    each recognises its retry by the ids in its arguments.
    """

    async def attach(self, identity: LedgerIdentity) -> None:
        """Check that this is the ledger of `identity`; create it if it was never installed.

        Raises:
            LedgerUninitialisedError: It was installed once and is empty, or has another epoch.
            ConfigurationError: It was created with another shard count or starting credits.
        """
        ...

    def now_ms(self) -> int:
        """Return a time that the ledger's clock has certainly reached, in Unix milliseconds.

        It returns 0 until the ledger has answered once.
        """
        ...

    def lane(self, user_id: UUID, durability: Durability = Durability.MEMORY) -> SpendLane:
        """Return the lane of the spends of a user that are to be so safe when they are answered.

        It is the lane now, since shards move between servers.
        """
        ...

    @property
    def lanes(self) -> Sequence[SpendLane]:
        """All lanes; empty before the first use."""
        ...

    @property
    def calls(self) -> CallCounts | None:
        """Counts of its calls; None for a ledger without calls."""
        ...

    def decide(self, attempt: Attempt) -> Awaitable[Decision]:
        """Decide on a spend by its lane; raises as the lane does."""
        ...

    async def void(self, void: Void) -> VoidOutcome:
        """Undo a spend whose outcome is unknown, once its deadline has passed; end its hold.

        For `FORGOTTEN`, the rows show whether it was charged.
        """
        ...

    async def settle(self, settlement: Settlement) -> HoldAnswer:
        """Settle a hold by its actual cost, or cancel it, once.

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
        """End expired holds of a user, up to a bound; return how many."""
        ...

    async def refund(self, refund: Refund) -> Decision:
        """Refund a deduct; after `UNKNOWN_DEDUCT` call it again with `Refund.durable`."""
        ...

    async def credit(self, credit: Credit) -> Decision:
        """Add credits or adjust a balance; it recognises the id of a retry for a day."""
        ...

    async def collect(self, entry: JournalEntry) -> Decision:
        """Charge a journaled request as far as the credits go, once for the id of its deduct.

        The decision is about that deduct: `amount` is the change of the balance. It is `repeated`
        if the id was collected before, or its idempotency key was served. An entry without a cost
        is only looked up. It recognises the id for a day.
        """
        ...

    async def complete(self, completion: Completion) -> bool:
        """Note that the request of an idempotency key was served, and save its response.

        It returns whether a key is known for the charge or hold of that id; after its lifetime this
        may be either.
        """
        ...

    async def response(self, user_id: UUID, transaction_id: CreditTransactionId) -> bytes | None:
        """Return the saved response of a charge or hold, or None."""
        ...

    async def read(self, user_id: UUID, allowance: Allowance | None = None) -> User | None:
        """Return the live balance, or None if the ledger does not know the user.

        With an allowance it is the balance that a charge would find now: it includes a new period,
        though only a charge begins one.
        """
        ...

    async def renew(self, user_id: UUID, allowance: Allowance) -> int | None:
        """Begin the current period if the last one is over, as the next charge would.

        It returns the credits that this added, or None if the ledger does not know the user. For a
        user that never made a request no period begins.

        Raises:
            LedgerUnavailableError: Too many records are pending; nothing was added.
            AmountError: The balance would leave its range.
        """
        ...

    async def install(self, user: User) -> bool:
        """Install a user's durable balance, if absent and of the same epoch; append nothing."""
        ...

    async def correct_shadow(self, user_id: UUID, policy: CreditPolicy, amount: int) -> None:
        """Add to a user's shadow balance a cost that was observed but not incurred."""
        ...

    async def shadow_counts(self, policy: str) -> Mapping[Verdict, int]:
        """Return how often a shadow policy would have given each verdict under a shadow policy."""
        ...

    async def aclose(self) -> None:
        """Close all connections. Queued attempts fail as `NOT_SENT`, others as `LOST`."""
        ...


class HoldSweeper(Protocol):
    """Ends expired holds. Implemented for Redis, for the worker."""

    def shards_due(self) -> Sequence[int]:
        """Return the shards with expired open holds, among those whose nodes answer."""
        ...

    def sweep(self, shard: int) -> int:
        """End expired holds of a shard, up to a bound; return how many.

        Raises:
            NodeUnavailableError: The node of the shard does not answer.
            LedgerError: Redis does not answer, or accepts no records.
        """
        ...


class Credits(Protocol):
    """Adds credits, many at once. Implemented for Redis, for the worker."""

    def add(self, credits_: Sequence[Credit]) -> Sequence[Decision | FaregateError]:
        """Add credits, once for each id, which is remembered for a day.

        Returns:
            For each: its decision, or the error that a gate would raise.

        Raises:
            LedgerUnavailableError: There is no answer to any.
        """
        ...


class LiveBalances(Protocol):
    """Live credits for operators."""

    def read_many(self, user_ids: Sequence[UUID]) -> Mapping[UUID, User]:
        """Return the live balances of known users.

        An unreadable account counts as empty.
        """
        ...

    def epochs(self) -> Sequence[int | None]:
        """Return the epoch of each shard, None where Redis holds none."""
        ...

    def made_count(self) -> int:
        """Return the number of records that all shards have made in their epochs."""
        ...

    def closed_count(self) -> int:
        """Return the number of closed shards."""
        ...

    def left_count(self) -> int:
        """Return the number of shards that a moved ledger has given up here.

        Their accounts are still there. The ledger may have had any number of shards.
        """
        ...

    def identity_fields(self) -> Mapping[str, str]:
        """Return the identity of the ledger in Redis; empty if Redis was wiped."""
        ...


class LiveAccounts(Protocol):
    """Live accounts, which operators compare with their ledgers and correct."""

    def read(self, user_ids: Sequence[UUID]) -> Mapping[UUID, LiveAccount]:
        """Return all accounts, including missing ones; those of a shard at one moment.

        Raises:
            LedgerUninitialisedError: Redis was wiped.
            LedgerUnavailableError: It does not answer.
        """
        ...

    def align(self, alignment: Alignment) -> Aligned:
        """Align a live balance with its ledger, in one step, under traffic.

        Raises:
            LedgerUninitialisedError: Redis was wiped, or has another epoch than the drift.
            AmountError: The balance would leave its range.
            TransactionConflictError: The id is known with another user or amount.
            LedgerCorruptError: A value of the ledger cannot be read. Nothing was written.
            LedgerUnavailableError: It does not answer; the alignment may be done. Try again.
        """
        ...
