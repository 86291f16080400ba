"""Live credits in Redis: the port `Ledger`."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Self
from uuid import UUID

from faregate.adapters.redis.lane import Lane
from faregate.adapters.redis.session import LedgerOptions, RedisSession
from faregate.adapters.redis.urls import check_url
from faregate.domain.attempt import Attempt
from faregate.domain.decision import Decision, Verdict
from faregate.domain.durability import Durability
from faregate.domain.health import CallCounts
from faregate.domain.hold import HoldAnswer, Settlement
from faregate.domain.idempotency import Completion
from faregate.domain.identity import LedgerIdentity
from faregate.domain.journal import JournalEntry
from faregate.domain.policy import Allowance, CreditPolicy
from faregate.domain.request import Credit, Refund, Void, VoidOutcome
from faregate.domain.transaction import CreditTransactionId
from faregate.domain.user import User


class RedisLedger:
    """The port `Ledger` on Redis 7 or Valkey. It belongs to the event loop that first uses it.

    Decisions take the lane of their shard's server; all other scripts run beside it, on the same
    connection.
    """

    def __init__(self, options: LedgerOptions) -> None:
        check_url(options.url)
        self._options = options
        self.calls = CallCounts()
        self._opened: RedisSession | None = None

    @classmethod
    def from_url(
        cls, url: str, *, shard_count: int, pending_max: int, decision_timeout_ms: int
    ) -> Self:
        """Make a ledger, which connects at its first use."""
        options = LedgerOptions(
            url=url,
            shard_count=shard_count,
            pending_max=pending_max,
            decision_timeout_ms=decision_timeout_ms,
        )
        return cls(options)

    @property
    def _session(self) -> RedisSession:
        if self._opened is None:
            self._opened = RedisSession(self._options, self.calls)
        return self._opened

    async def attach(self, identity: LedgerIdentity) -> None:
        """Check that this is the ledger of `identity`; see the port."""
        if self._opened is not None and self._opened.loop is not asyncio.get_running_loop():
            # Its event loop ended without closing it, and all of its tasks ended with the loop.
            self._opened = None
        await self._session.attach(identity)

    def now_ms(self) -> int:
        """Return a time that the clock of Redis has certainly reached, in Unix milliseconds."""
        return 0 if self._opened is None else self._opened.now_ms()

    def lane(self, user_id: UUID, durability: Durability = Durability.MEMORY) -> Lane:
        """Return the lane of a user for a durability; see the port."""
        return (self._opened or self._session).nodes.lane(user_id, durability)

    @property
    def lanes(self) -> Sequence[Lane]:
        """All lanes; see the port."""
        opened = self._opened
        return (
            () if opened is None else [lane for one in opened.nodes.endpoints for lane in one.lanes]
        )

    def decide(self, attempt: Attempt) -> asyncio.Future[Decision]:
        """Decide on a spend; see the port."""
        spend = attempt.spend
        return self.lane(spend.user_id, spend.durability).decide(attempt)

    async def void(self, void: Void) -> VoidOutcome:
        """Undo a spend whose outcome is unknown; see the port."""
        return await self._session.changes.void(void)

    async def settle(self, settlement: Settlement) -> HoldAnswer:
        """Settle a hold by its actual cost, or cancel it; see the port."""
        return await self._session.holds.settle(settlement)

    async def extend(self, user_id: UUID, hold_id: CreditTransactionId, ttl_ms: int) -> HoldAnswer:
        """Extend an open hold; see the port."""
        return await self._session.holds.extend(user_id, hold_id, ttl_ms)

    async def expire_due(self, user_id: UUID) -> int:
        """End holds of a user that have expired; see the port."""
        return await self._session.holds.expire_due(user_id, self.now_ms())

    async def refund(self, refund: Refund) -> Decision:
        """Give a deduct back; see the port."""
        return await self._session.changes.refund(refund)

    async def credit(self, credit: Credit) -> Decision:
        """Add credits or adjust a balance; see the port."""
        return await self._session.changes.credit(credit)

    async def collect(self, entry: JournalEntry) -> Decision:
        """Charge a journaled request; see the port."""
        return await self._session.changes.collect(entry)

    async def complete(self, completion: Completion) -> bool:
        """Note that the request of an idempotency key has been served; see the port."""
        return await self._session.balances.complete(completion)

    async def response(self, user_id: UUID, transaction_id: CreditTransactionId) -> bytes | None:
        """Return the saved response of a charge or hold; see the port."""
        return await self._session.balances.response(user_id, transaction_id)

    async def read(self, user_id: UUID, allowance: Allowance | None = None) -> User | None:
        """Return the live balance; see the port."""
        return await self._session.balances.read(user_id, allowance)

    async def renew(self, user_id: UUID, allowance: Allowance) -> int | None:
        """Begin the current period, if an earlier one is over; see the port."""
        return await self._session.balances.renew(user_id, allowance)

    async def install(self, user: User) -> bool:
        """Install a user's durable balance; see the port."""
        return await self._session.balances.install(user)

    async def correct_shadow(self, user_id: UUID, policy: CreditPolicy, amount: int) -> None:
        """Add to a user's shadow balance; see the port."""
        await self._session.balances.correct_shadow(user_id, policy, amount)

    async def shadow_counts(self, policy: str) -> Mapping[Verdict, int]:
        """Return how often a shadow policy would have given each verdict; see the port."""
        return await self._session.balances.shadow_counts(policy)

    async def aclose(self) -> None:
        """Close the connection; the ledger can be attached again."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.aclose()
