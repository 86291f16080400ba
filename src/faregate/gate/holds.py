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
from faregate.domain.journal import JournalChange, JournalEntry
from faregate.domain.policy import CreditPolicy, OnExpiry
from faregate.domain.request import Charge, VoidOutcome
from faregate.domain.transaction import check_whole
from faregate.gate.held import Held
from faregate.gate.open_mode import Lapse, OpenMode, served_decision, wall_ms
from faregate.gate.terms import Call, Metadata, Terms
from faregate.ports import HoldLedger

#: How long a hold lasts where the caller does not say.
TTL_MS = 60_000


class Holds(OpenMode):
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
            ConfigurationError: It is to be served open, and there is no journal.
        """
        check_ttl(ttl_ms)
        check_whole("an estimate", estimate, 1)
        terms.setdefault("description", "hold")
        call = Call(amount_name="estimate", user_id=user_id, cost=estimate, **terms)
        self._check_mode(call)
        tier = await self.tier_of(user_id, call.tier)
        policy = self.policies.of(tier)
        if policy.is_shadow:
            decision = await self._observe(policy, self._charge(call, policy))
            return Hold(decision=decision, expires_at_ms=self.now_ms() + ttl_ms, tier=tier)
        lapse = Lapse(ttl_ms=ttl_ms, on_expiry=on_expiry or policy.on_expiry)
        hold = await self._decided_hold(call, policy, lapse)
        return replace(hold, decision=hold.decision.under(policy), tier=tier)

    async def _decided_hold(self, call: Call, policy: CreditPolicy, lapse: Lapse) -> Hold:
        async def decide(attempt: Charge) -> Hold:
            request = HoldRequest(charge=attempt, ttl_ms=lapse.ttl_ms, on_expiry=lapse.on_expiry)
            hold = await self._decide_hold(request)
            self._passable(call, hold.decision)
            return hold

        answer = await self._decided(call, policy, decide, lapse)
        if not isinstance(answer, JournalEntry):
            return answer
        estimate = 0 if answer.is_unlimited else call.cost
        return Hold(
            decision=replace(served_decision(answer), amount=-estimate),
            expires_at_ms=answer.expires_at_ms or 0,
        )

    async def _decide_hold(self, request: HoldRequest) -> Hold:
        """Ask the ledger, and once more where the first answer can be helped."""
        ledger = self._holding_ledger()
        try:
            hold = await self._guard(lambda: ledger.hold(request))
            if await self._helps(hold.decision):
                deadline_ms = ledger.now_ms() + self._options.decision_timeout_ms
                request = replace(request, charge=replace(request.charge, deadline_ms=deadline_ms))
                again = request
                hold = await self._guard(lambda: ledger.hold(again))
        except (OutcomeUnknownError, asyncio.CancelledError):
            attempt = request.charge
            self.retries.submit(
                f"void of hold {attempt.transaction_id} of user {attempt.user_id}",
                lambda: self._void_hold(ledger, request),
                lambda: self._keep_void(attempt, is_hold=True),
            )
            raise
        return hold

    async def _helps(self, refusal: Decision) -> bool:
        """Bring in a user who is unknown, or end its expired holds; return whether that helps."""
        if refusal.verdict is Verdict.UNKNOWN_USER:
            return await self.install(refusal.user_id)
        if refusal.verdict in {Verdict.CREDITS_HELD, Verdict.TOO_MANY_HOLDS}:
            ledger = self._holding_ledger()
            return await self._in_time(lambda: ledger.expire_due(refusal.user_id)) > 0
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
        if hold.decision.journaled:
            return self._end_journaled(hold, HoldState.SETTLED, actual)
        # The tier was found when it was held: to ask again might fail, and nothing would be queued.
        policy = self.policies.of(hold.tier)
        if not hold.estimate:
            metadata = {**(metadata or {}), "cost": actual}
        settlement = Settlement(
            user_id=hold.user_id,
            hold_id=hold.id,
            actual=actual,
            overdraft_max=policy.overdraft_max,
            allowance=policy.allowance,
            attempt_id=hold.decision.keyed_attempt,
            description=description,
            metadata=metadata,
        )
        return await self._end(settlement)

    async def cancel(self, hold: Hold, *, description: str = "cancelled hold") -> HoldAnswer:
        """Give a hold back wholly, once; errors are those of `settle`.

        One that another attempt with its idempotency key has taken over stays as it is.
        """
        if hold.decision.shadow is not None:
            return await self._end_shadow(hold, HoldState.CANCELLED, 0)
        if hold.decision.journaled:
            return self._end_journaled(hold, HoldState.CANCELLED, 0)
        settlement = Settlement(
            user_id=hold.user_id,
            hold_id=hold.id,
            actual=None,
            attempt_id=hold.decision.keyed_attempt,
            description=description,
        )
        return await self._end(settlement)

    async def _end_shadow(self, hold: Hold, state: HoldState, actual: int) -> HoldAnswer:
        """Put right what was observed of a hold that took nothing."""
        await self._correct(hold.decision, hold.estimate - check_whole("a cost", actual, 0))
        return _unasked_answer(hold, state)

    def _end_journaled(self, hold: Hold, state: HoldState, actual: int) -> HoldAnswer:
        """Write down what a hold cost that was served without a decision."""
        cost = check_whole("an actual cost", actual, 0)
        self._change(JournalChange(attempt_id=hold.id, user_id=hold.user_id, cost=cost))
        beyond = cost - hold.estimate if hold.estimate else 0
        answer = _unasked_answer(hold, state)
        return replace(answer, refunded=max(0, -beyond), charged=max(0, beyond))

    async def _end(self, settlement: Settlement) -> HoldAnswer:
        ledger = await self._hold_ledger()
        try:
            return await self._in_time(lambda: ledger.settle(settlement))
        except (LedgerError, asyncio.CancelledError):
            name = f"end of hold {settlement.hold_id} of user {settlement.user_id}"
            self.retries.submit(name, lambda: self._end_again(ledger, settlement))
            raise

    @staticmethod
    async def _end_again(ledger: HoldLedger, settlement: Settlement) -> bool:
        # A conflict says that it has ended in another way, which no later try can change.
        with suppress(TransactionConflictError):
            await ledger.settle(settlement)
        return True

    async def extend(self, hold: Hold, ttl_ms: int) -> HoldAnswer:
        """Let an open hold expire in `ttl_ms` from now; a day after its begin at the latest.

        Raises:
            InvalidArgumentError: It would be open for more than a day.
        """
        check_ttl(ttl_ms)
        if hold.decision.shadow is not None:
            return _unasked_answer(hold, HoldState.OPEN)
        if hold.decision.journaled:
            until_ms = wall_ms() + ttl_ms
            self._change(
                JournalChange(attempt_id=hold.id, user_id=hold.user_id, expires_at_ms=until_ms)
            )
            return replace(_unasked_answer(hold, HoldState.OPEN), expires_at_ms=until_ms)
        ledger = await self._hold_ledger()
        return await self._in_time(lambda: ledger.extend(hold.user_id, hold.id, ttl_ms))

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
        await self._ready()
        return self._holding_ledger()

    def _holding_ledger(self) -> HoldLedger:
        if not isinstance(self._ledger, HoldLedger):
            raise ConfigurationError("this ledger knows no holds")
        return self._ledger


def _unasked_answer(hold: Hold, state: HoldState) -> HoldAnswer:
    return HoldAnswer(
        verdict=Verdict.ALLOWED,
        user_id=hold.user_id,
        hold_id=hold.id,
        state=state,
        expires_at_ms=hold.expires_at_ms,
    )
