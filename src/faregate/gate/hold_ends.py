"""The ends of holds: settle, cancel, extend; and holds of a block."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Unpack
from uuid import UUID

from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import FaregateError, TransactionConflictError
from faregate.domain.hold import Hold, HoldAnswer, HoldState, Settlement
from faregate.domain.journal import JournalChange
from faregate.domain.spend import check_ttl
from faregate.domain.transaction import check_whole
from faregate.gate.fallback import Fallback, wall_ms
from faregate.gate.options import ChargeOptions, Metadata
from faregate.gate.retries import Name
from faregate.gate.session import Session
from faregate.gate.shadows import Shadows
from faregate.gate.spending import TTL_MS, Spending


class HoldEnds:
    """Ends holds, each once."""

    def __init__(
        self, session: Session, fallback: Fallback, shadows: Shadows, spending: Spending
    ) -> None:
        self._session = session
        self._fallback = fallback
        self._shadows = shadows
        self._spending = spending

    async def settle(
        self,
        hold: Hold,
        actual: int,
        *,
        description: str = "settlement of a hold",
        metadata: Metadata | None = None,
    ) -> HoldAnswer:
        """Settle a hold by its actual cost, once: give back the rest, or take the missing part.

        The missing part is taken as far as the balance and the policy's overdraft go; the answer
        has the shortfall. An expired hold is not settled: the answer has its state. A hold that
        cannot be settled within `GateOptions.end_timeout_ms` is settled in the background: the
        answer `is_pending`, and no error is raised.

        Raises:
            TransactionConflictError: It ended in another way, or by another cost.
        """
        cost = check_whole("an actual cost", actual, 0)
        if hold.decision.shadow is not None or hold.decision.journaled:
            return await self._end_undecided(hold, HoldState.SETTLED, cost)
        policy = hold.decision.policy
        if not hold.estimate:
            metadata = {**(metadata or {}), "cost": cost}
        settlement = Settlement(
            user_id=hold.user_id,
            hold_id=hold.id,
            actual=cost,
            overdraft_max=0 if policy is None else policy.overdraft_max,
            allowance=None if policy is None else policy.allowance,
            attempt_id=hold.decision.keyed_attempt,
            description=description,
            metadata=metadata,
        )
        return await self._end(settlement)

    async def cancel(
        self,
        hold: Hold,
        *,
        description: str = "cancelled hold",
        metadata: Metadata | None = None,
    ) -> HoldAnswer:
        """Give a hold back, once; as `settle` does if that is not possible in time.

        A hold that another attempt with its idempotency key has taken over stays as it is.
        """
        if hold.decision.shadow is not None or hold.decision.journaled:
            return await self._end_undecided(hold, HoldState.CANCELLED, 0)
        settlement = Settlement(
            user_id=hold.user_id,
            hold_id=hold.id,
            actual=None,
            attempt_id=hold.decision.keyed_attempt,
            description=description,
            metadata=metadata,
        )
        return await self._end(settlement)

    async def _end(self, settlement: Settlement) -> HoldAnswer:
        answer = await self._session.retries.ensure(
            Name("end of hold", settlement.hold_id, settlement.user_id),
            lambda: self._session.ask(
                settlement.user_id, lambda: self._session.ledger.settle(settlement)
            ),
        )
        return answer or HoldAnswer(
            verdict=Verdict.PENDING,
            user_id=settlement.user_id,
            hold_id=settlement.hold_id,
            state=HoldState.UNKNOWN,
        )

    async def _end_undecided(self, hold: Hold, state: HoldState, cost: int) -> HoldAnswer:
        """End a hold that took nothing: of a shadow policy, or served without a decision."""
        answer = _answer(hold, state)
        if hold.decision.shadow is not None:
            await self._shadows.correct(hold.decision, hold.estimate - cost)
            return answer
        change = JournalChange(attempt_id=hold.id, user_id=hold.user_id, cost=cost)
        beyond = cost - hold.estimate if hold.estimate else 0
        answer = replace(answer, refunded=max(0, -beyond), charged=max(0, beyond))
        is_written = await self._fallback.change(change)
        return answer if is_written else replace(answer, verdict=Verdict.PENDING)

    async def extend(self, hold: Hold, ttl_ms: int) -> HoldAnswer:
        """Let an open hold expire in `ttl_ms` from now, at most a day after its start.

        Raises:
            InvalidArgumentError: It would be open for more than a day.
            LedgerUnavailableError: Not done in time; the expiry is unchanged.
        """
        check_ttl(ttl_ms)
        if hold.decision.shadow is not None:
            return _answer(hold, HoldState.OPEN)
        if hold.decision.journaled:
            until_ms = wall_ms() + ttl_ms
            change = JournalChange(attempt_id=hold.id, user_id=hold.user_id, expires_at_ms=until_ms)
            is_written = await self._fallback.change(change)
            verdict = Verdict.ALLOWED if is_written else Verdict.PENDING
            answer = _answer(hold, HoldState.OPEN)
            return replace(answer, verdict=verdict, expires_at_ms=until_ms)
        user_id, hold_id = hold.user_id, hold.id
        return await self._session.ask(
            user_id, lambda: self._session.ledger.extend(user_id, hold_id, ttl_ms)
        )

    @asynccontextmanager
    async def holding(
        self,
        user_id: UUID,
        estimate: int,
        *,
        ttl_ms: int = TTL_MS,
        **options: Unpack[ChargeOptions],
    ) -> AsyncIterator["HoldBlock"]:
        """Hold an estimate for a block, which settles it; an exception in it cancels the hold.

        A block that does not settle its hold costs the estimate. A refused hold raises no error:
        check `allowed` first.
        """
        hold = await self._spending.hold(user_id, estimate, ttl_ms=ttl_ms, **options)
        block = HoldBlock(self, hold)
        try:
            yield block
        except BaseException:
            if not block.is_ending:
                # The exception of the block is raised, not that of the cancellation.
                with suppress(FaregateError):
                    await self.cancel(hold)
            raise
        if not block.is_ending:
            await block.settle(estimate)


class HoldBlock:
    """The hold of a block."""

    def __init__(self, ends: HoldEnds, hold: Hold) -> None:
        self._ends = ends
        #: The hold; if it is not `allowed`, there is nothing to settle.
        self.hold = hold
        #: The answer to its end; None while it is open.
        self.answer: HoldAnswer | None = None
        #: Whether its end has begun, even if it is not done yet.
        self.is_ending = not hold.allowed

    @property
    def allowed(self) -> bool:
        """Whether the hold was allowed."""
        return self.hold.allowed

    @property
    def decision(self) -> Decision:
        """The decision on the estimate."""
        return self.hold.decision

    async def settle(self, actual: int) -> HoldAnswer:
        """Settle the hold at its actual cost; see `Gate.settle`."""
        try:
            self.answer = await self._ends.settle(self.hold, actual)
        except (TransactionConflictError, asyncio.CancelledError):
            # The hold has ended, or ends in the background.
            self.is_ending = True
            raise
        self.is_ending = True
        return self.answer

    async def extend(self, ttl_ms: int) -> HoldAnswer:
        """Let the hold expire in `ttl_ms` from now."""
        return await self._ends.extend(self.hold, ttl_ms)


def _answer(hold: Hold, state: HoldState) -> HoldAnswer:
    return HoldAnswer(
        verdict=Verdict.ALLOWED,
        user_id=hold.user_id,
        hold_id=hold.id,
        state=state,
        expires_at_ms=hold.expires_at_ms,
    )
