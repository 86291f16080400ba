"""A hold for the length of a block: `async with gate.holding(user, estimate) as held:`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Unpack
from uuid import UUID

from faregate.domain.decision import Decision
from faregate.domain.errors import FaregateError, TransactionConflictError
from faregate.domain.hold import Hold, HoldAnswer
from faregate.gate.hold_ends import HoldEnds
from faregate.gate.options import ChargeOptions
from faregate.gate.spending import TTL_MS, Spending


class HeldBlock:
    """The hold of a block."""

    def __init__(self, ends: HoldEnds, hold: Hold) -> None:
        self._ends = ends
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
        """End it by its actual cost; see `Gate.settle`."""
        try:
            self.answer = await self._ends.settle(self.hold, actual)
        except (TransactionConflictError, asyncio.CancelledError):
            # It has ended, or is being settled in the background.
            self.is_ending = True
            raise
        self.is_ending = True
        return self.answer

    async def extend(self, ttl_ms: int) -> HoldAnswer:
        """Let it expire in `ttl_ms` from now."""
        return await self._ends.extend(self.hold, ttl_ms)


class Holding:
    """Opens and ends holds for blocks."""

    def __init__(self, spending: Spending, ends: HoldEnds) -> None:
        self._spending = spending
        self._ends = ends

    @asynccontextmanager
    async def holding(
        self,
        user_id: UUID,
        estimate: int,
        *,
        ttl_ms: int = TTL_MS,
        **options: Unpack[ChargeOptions],
    ) -> AsyncIterator[HeldBlock]:
        """Hold an estimate for a block, which settles it; an exception in it cancels the hold.

        A block that ends without having settled its hold has cost the estimate. A hold that is
        refused raises nothing: look at `allowed` before anything is done for it.
        """
        hold = await self._spending.hold(user_id, estimate, ttl_ms=ttl_ms, **options)
        held = HeldBlock(self._ends, hold)
        try:
            yield held
        except BaseException:
            if not held.is_ending:
                # The exception of the block is the one that is raised.
                with suppress(FaregateError):
                    await self._ends.cancel(hold)
            raise
        if not held.is_ending:
            await held.settle(estimate)
