"""Live credits: what decides on requests, what ends holds, what operators compare."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable
from uuid import UUID

from faregate.domain.decision import Decision, Verdict
from faregate.domain.hold import Hold, HoldAnswer, HoldRequest, Settlement
from faregate.domain.idempotency import Completion
from faregate.domain.identity import LedgerIdentity
from faregate.domain.journal import JournalEntry
from faregate.domain.policy import Allowance
from faregate.domain.request import Charge, Credit, Refund, VoidOutcome
from faregate.domain.shadow import Observation
from faregate.domain.transaction import CreditTransactionId
from faregate.domain.user import User


class Ledger(Protocol):
    """Live credits: decides, and records in the same step. Implemented by Redis."""

    async def attach(self, identity: LedgerIdentity) -> None:
        """Make sure that this is the ledger of `identity`, creating it if it never was installed.

        Raises:
            LedgerUninitialisedError: It was installed once and is empty, or of another epoch.
            ConfigurationError: It was created with another shard count or starting credits.
        """
        ...

    def now_ms(self) -> int:
        """Return a time in Unix milliseconds that the ledger's clock has reached for certain."""
        ...

    async def charge(self, charge: Charge) -> Decision:
        """Take credits if there are enough.

        Raises:
            OutcomeUnknownError: No answer by the deadline; the charge may have happened in time.
            LedgerUnavailableError: It did not happen, and will not.
            TransactionIdError: The id is outside the window in which a retry is recognised.
            TransactionConflictError: The id is known with another cost.
        """
        ...

    async def credit(self, credit: Credit) -> Decision:
        """Add credits or adjust a balance; recognises the id of a retry for 24 hours."""
        ...

    async def refund(self, refund: Refund) -> Decision:
        """Give a deduct back; `UNKNOWN_DEDUCT` asks for `Refund.durable`."""
        ...

    async def void(self, charge: Charge) -> VoidOutcome:
        """Settle a charge whose outcome is unknown, once its deadline has passed."""
        ...

    async def collect(self, entry: JournalEntry) -> Decision:
        """Take what a journaled request owes as far as there is enough, once for its deduct's id.

        The decision is about that deduct: `amount` is what was taken. It is `repeated` where the
        id has been collected before, or its idempotency key was served; one that is not recorded
        is only looked up. Recognises the id for 24 hours.
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

        With an allowance it is the balance that a charge would find now: a period that has begun
        is reckoned with, though only a charge begins it.
        """
        ...

    async def renew(self, user_id: UUID, allowance: Allowance) -> int | None:
        """Begin the period of now, if an earlier one is over, as the next charge would.

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

    async def aclose(self) -> None:
        """Let go of all connections."""
        ...


@runtime_checkable
class HoldLedger(Ledger, Protocol):
    """A ledger that can take an estimate first and settle it later."""

    async def hold(self, request: HoldRequest) -> Hold:
        """Take an estimate if there is enough; raises as `charge` does."""
        ...

    async def settle(self, settlement: Settlement) -> HoldAnswer:
        """End a hold by what it cost, or cancel it, once.

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

    async def void_hold(self, request: HoldRequest) -> VoidOutcome:
        """End a hold whose outcome is unknown, once its deadline has passed."""
        ...

    async def expire_due(self, user_id: UUID) -> int:
        """Give back or keep holds of a user whose time is over; return how many, bounded."""
        ...


class HoldSweeper(Protocol):
    """Ends holds whose owners did not. Implemented by Redis, for the worker."""

    def shards_due(self) -> Sequence[int]:
        """Return the shards that have open holds whose time is over."""
        ...

    def sweep(self, shard: int) -> int:
        """Give back or keep due holds of a shard; return how many, bounded."""
        ...


class Shadows(Protocol):
    """Balances beside the real ones, on which policies are tried out. Implemented by Redis."""

    async def observe(self, observation: Observation) -> Decision:
        """Decide as a charge would, on the user's shadow balance, and count the answer.

        The decision is `ALLOWED`, whatever its `shadow` says.

        Raises:
            LedgerUnavailableError: Not in time; it may have been counted.
        """
        ...

    async def correct(self, observation: Observation, amount: int) -> None:
        """Add to the user's shadow balance what was observed and not needed; may be negative."""
        ...

    async def counts(self, policy: str) -> Mapping[Verdict, int]:
        """Return how often each verdict would have been given under a policy."""
        ...


class LiveBalances(Protocol):
    """Live credits, read by operators."""

    def read_many(self, user_ids: Sequence[UUID]) -> Mapping[UUID, User]:
        """Return the live balances of the users that the ledger knows."""
        ...

    def epochs(self) -> Sequence[int | None]:
        """Return the epoch of each shard, None where Redis holds none."""
        ...
