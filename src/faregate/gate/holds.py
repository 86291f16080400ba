"""Holds: take an estimate at once, and settle it when the cost is known."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Unpack
from uuid import UUID

from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import (
    ConfigurationError,
    FaregateError,
    LedgerError,
    OutcomeUnknownError,
    TransactionConflictError,
)
from faregate.domain.hold import (
    Hold,
    HoldAnswer,
    HoldRequest,
    HoldState,
    Settlement,
    check_ttl,
)
from faregate.domain.policy import OnExpiry
from faregate.domain.request import VoidOutcome
from faregate.domain.transaction import check_whole
from faregate.gate.observing import Observing
from faregate.gate.terms import Call, Metadata, Terms
from faregate.ports import HoldLedger

#: How long a hold lasts where the caller does not say.
TTL_MS = 60_000


class Held:
    """A hold inside `async with gate.holding(...)`."""

    def __init__(self, gate: "Holds", hold: Hold) -> None:
        self._gate = gate
        #: The hold; it is refused where `allowed` is false, and then there is nothing to settle.
        self.hold = hold
        #: How it ended; None as long as it is open.
        self.answer: HoldAnswer | None = None
        #: Whether its end has been decided, though not always done.
        self.is_ending = not hold.allowed

    @property
    def allowed(self) -> bool:
        """Whether the estimate is taken."""
        return self.hold.allowed

    @property
    def decision(self) -> Decision:
        """How the ledger decided on the estimate."""
        return self.hold.decision

    async def settle(self, actual: int) -> HoldAnswer:
        """End it by what it really cost."""
        try:
            self.answer = await self._gate.settle(self.hold, actual)
        except (LedgerError, TransactionConflictError, asyncio.CancelledError):
            # It has ended, or is being settled in the background.
            self.is_ending = True
            raise
        self.is_ending = True
        return self.answer

    async def extend(self, ttl_ms: int) -> HoldAnswer:
        """Let it expire in `ttl_ms` from now."""
        return await self._gate.extend(self.hold, ttl_ms)


class Holds(Observing):
    """Takes credits for a cost that is known only later."""

    async def hold(
        self,
        user_id: UUID,
        estimate: int,
        *,
        ttl_ms: int = TTL_MS,
        on_expiry: OnExpiry | None = None,
        **terms: Unpack[Terms],
    ) -> Hold:
        """Take an estimate from a user, once for a transaction id; `settle` or `cancel` ends it.

        Args:
            user_id: Who is charged.
            estimate: In credits, at least 1.
            ttl_ms: How long it lasts: from 100 ms to a day.
            on_expiry: What becomes of it if nobody ends it in time; None for what the policy says.
            **terms: See `Terms`. The tier holds for its end, too.

        Raises:
            LedgerUnavailableError: Not decided in time. Nothing is held, or it is being voided.
            InvalidArgumentError: An argument is ill-formed; nothing was written.
        """
        check_ttl(ttl_ms)
        check_whole("an estimate", estimate, 1)
        terms.setdefault("description", "hold")
        call = Call(amount_name="estimate", user_id=user_id, cost=estimate, **terms)
        policy = await self.policy_of(user_id, call.tier)
        if policy.is_shadow:
            decision = await self._observe(policy, self._charge(call, policy))
            return Hold(decision=decision, expires_at_ms=self.now_ms() + ttl_ms, tier=call.tier)
        ledger = await self._hold_ledger()
        request = HoldRequest(
            charge=self._charge(call, policy),
            ttl_ms=ttl_ms,
            on_expiry=on_expiry or policy.on_expiry,
        )
        hold = await self._decide_hold(ledger, request)
        return replace(hold, decision=hold.decision.under(policy), tier=call.tier)

    async def _decide_hold(self, ledger: HoldLedger, request: HoldRequest) -> Hold:
        """Ask the ledger, and once more where the first answer can be helped."""
        try:
            hold = await ledger.hold(request)
            if await self._helps(hold.decision):
                deadline_ms = ledger.now_ms() + self._options.decision_timeout_ms
                request = replace(request, charge=replace(request.charge, deadline_ms=deadline_ms))
                hold = await ledger.hold(request)
        except (OutcomeUnknownError, asyncio.CancelledError):
            name = f"void of hold {request.charge.transaction_id} of user {request.charge.user_id}"
            self.retries.submit(name, lambda: self._void_hold(ledger, request))
            raise
        return hold

    async def _helps(self, refusal: Decision) -> bool:
        """Bring in a user who is unknown, or end its expired holds; return whether that helps."""
        if refusal.verdict is Verdict.UNKNOWN_USER:
            return await self.install(refusal.user_id)
        if refusal.verdict in {Verdict.CREDITS_HELD, Verdict.TOO_MANY_HOLDS}:
            return await (await self._hold_ledger()).expire_due(refusal.user_id) > 0
        return False

    @staticmethod
    async def _void_hold(ledger: HoldLedger, request: HoldRequest) -> bool:
        return await ledger.void_hold(request) is not VoidOutcome.TOO_EARLY

    async def settle(
        self,
        hold: Hold,
        actual: int,
        *,
        description: str = "settlement of a hold",
        metadata: Metadata | None = None,
    ) -> HoldAnswer:
        """End a hold by what it really cost, once: give back the rest, or take what is lacking.

        What is lacking is taken as far as the balance goes, and down to the policy's overdraft;
        the answer says what could not be taken. A hold that has expired is not settled: the answer
        says what became of it. One that cannot be settled at once is settled in the background,
        and the error is raised.

        Raises:
            TransactionConflictError: It ended in another way, or by another cost.
            LedgerUnavailableError: Not done in time; it is being tried again.
        """
        if hold.decision.shadow is not None:
            return await self._end_shadow(hold, HoldState.SETTLED, actual)
        policy = await self.policy_of(hold.user_id, hold.tier)
        if not hold.estimate:
            metadata = {**(metadata or {}), "cost": actual}
        settlement = Settlement(
            user_id=hold.user_id,
            hold_id=hold.id,
            actual=actual,
            overdraft_max=policy.overdraft_max,
            allowance=policy.allowance,
            description=description,
            metadata=metadata,
        )
        return await self._end(settlement)

    async def cancel(self, hold: Hold, *, description: str = "cancelled hold") -> HoldAnswer:
        """Give a hold back wholly, once; errors are those of `settle`."""
        if hold.decision.shadow is not None:
            return await self._end_shadow(hold, HoldState.CANCELLED, 0)
        settlement = Settlement(
            user_id=hold.user_id, hold_id=hold.id, actual=None, description=description
        )
        return await self._end(settlement)

    async def _end_shadow(self, hold: Hold, state: HoldState, actual: int) -> HoldAnswer:
        """Put right what was observed of a hold that took nothing."""
        await self._correct(hold.decision, hold.estimate - check_whole("a cost", actual, 0))
        return _shadow_answer(hold, state)

    async def _end(self, settlement: Settlement) -> HoldAnswer:
        ledger = await self._hold_ledger()
        try:
            return await ledger.settle(settlement)
        except (LedgerError, asyncio.CancelledError):
            name = f"end of hold {settlement.hold_id} of user {settlement.user_id}"
            self.retries.submit(name, lambda: self._end_again(ledger, settlement))
            raise

    @staticmethod
    async def _end_again(ledger: HoldLedger, settlement: Settlement) -> bool:
        await ledger.settle(settlement)
        return True

    async def extend(self, hold: Hold, ttl_ms: int) -> HoldAnswer:
        """Let an open hold expire in `ttl_ms` from now; a day after its begin at the latest.

        Raises:
            InvalidArgumentError: It would be open for more than a day.
        """
        check_ttl(ttl_ms)
        if hold.decision.shadow is not None:
            return _shadow_answer(hold, HoldState.OPEN)
        return await (await self._hold_ledger()).extend(hold.user_id, hold.id, ttl_ms)

    @asynccontextmanager
    async def holding(
        self,
        user_id: UUID,
        estimate: int,
        *,
        ttl_ms: int = TTL_MS,
        **terms: Unpack[Terms],
    ) -> AsyncIterator[Held]:
        """Hold an estimate for the block, which settles it; an exception in it cancels the hold.

        A block that ends without having settled its hold has cost the estimate. A hold that is
        refused raises nothing: look at `allowed` before anything is done for it.
        """
        hold = await self.hold(user_id, estimate, ttl_ms=ttl_ms, **terms)
        held = Held(self, hold)
        try:
            yield held
        except BaseException:
            if not held.is_ending:
                # What went wrong in the block matters more; the cancellation is tried again.
                with suppress(FaregateError):
                    await self.cancel(hold)
            raise
        if not held.is_ending:
            await held.settle(estimate)

    async def _hold_ledger(self) -> HoldLedger:
        await self.start()
        if not isinstance(self._ledger, HoldLedger):
            raise ConfigurationError("this ledger knows no holds")
        return self._ledger


def _shadow_answer(hold: Hold, state: HoldState) -> HoldAnswer:
    return HoldAnswer(
        verdict=Verdict.ALLOWED,
        user_id=hold.user_id,
        hold_id=hold.id,
        state=state,
        expires_at_ms=hold.expires_at_ms,
    )
