"""The use cases: what an API, and those who run it, do with credits."""

import asyncio
from dataclasses import replace
from typing import Unpack
from uuid import UUID

from faregate.domain.decision import Decision
from faregate.domain.errors import LedgerError, OutcomeUnknownError
from faregate.domain.idempotency import Completion
from faregate.domain.journal import JournalEntry
from faregate.domain.request import Charge
from faregate.gate.collecting import Collecting
from faregate.gate.open_mode import served_decision
from faregate.gate.terms import Call, Terms


class Gate(Collecting):
    """Charges users, and gives back. Safe to share among all tasks of one event loop."""

    async def charge(
        self, user_id: UUID, *, cost: int | None = None, **terms: Unpack[Terms]
    ) -> Decision:
        """Take credits from a user, once for a transaction id, and once for an idempotency key.

        Args:
            user_id: Who is charged.
            cost: In credits; None for what the policy asks for a request. 0 is a peek: it is
                decided, and nothing is written.
            **terms: See `Terms`.

        Raises:
            LedgerUnavailableError: Not decided in time. It is not charged, or is being voided.
            InvalidArgumentError: An argument is ill-formed; nothing was written.
            ConfigurationError: It is to be served open, and there is no journal.
        """
        policy = await self.policy_of(user_id, terms.get("tier"))
        terms.setdefault("description", "request")
        cost = policy.request_cost if cost is None else cost
        call = Call(amount_name="cost", user_id=user_id, cost=cost, **terms)
        self._check_mode(call)
        if policy.is_shadow:
            return await self._observe(policy, self._charge(call, policy))

        async def decide(attempt: Charge) -> Decision:
            return self._passable(call, await self._decide(attempt))

        answer = await self._decided(call, policy, decide)
        decision = served_decision(answer) if isinstance(answer, JournalEntry) else answer
        return decision.under(policy)

    async def complete(self, decision: Decision, response: bytes = b"") -> bool:
        """Note that the request of an idempotency key has been served, for good.

        Until then, retries are told that it is in flight; after `GateOptions.key_lease_ms` one of
        them takes over. One that cannot be noted at once is tried in the background.

        Args:
            decision: The one that the request was served by.
            response: What `kept_response` is to tell retries, at most a MiB; empty for nothing.

        Returns:
            Whether the key is still remembered.
        """
        if decision.keyed_attempt is None:
            return False
        completion = Completion(
            user_id=decision.user_id,
            transaction_id=decision.transaction_id,
            attempt_id=decision.keyed_attempt,
            response=response,
            keep_ms=self._options.key_lifetime_ms,
        )

        async def complete_again() -> bool:
            await self._ledger.complete(completion)
            return True

        try:
            return await self._in_time(lambda: self._ledger.complete(completion))
        except (LedgerError, asyncio.CancelledError):
            name = f"completion of {decision.transaction_id} of user {decision.user_id}"
            self.retries.submit(name, complete_again)
            raise

    async def kept_response(self, decision: Decision) -> bytes | None:
        """Return what the request with this decision's idempotency key was completed with."""
        user_id, transaction_id = decision.user_id, decision.transaction_id
        return await self._in_time(lambda: self._ledger.response(user_id, transaction_id))

    async def _decide(self, charge: Charge) -> Decision:
        """Charge, twice where the first answer can be helped; void what nobody will be told of."""
        try:
            decision = await self._guard(lambda: self._ledger.charge(charge))
            if await self._helps(decision):
                deadline_ms = self._ledger.now_ms() + self._options.decision_timeout_ms
                again = charge = replace(charge, deadline_ms=deadline_ms)
                decision = await self._guard(lambda: self._ledger.charge(again))
        except (OutcomeUnknownError, asyncio.CancelledError):
            self._void_later(charge)
            raise
        return decision
