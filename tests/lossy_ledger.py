"""A ledger in memory that loses replies, and a clock for it."""

import asyncio
from collections.abc import Callable

from faregate import Decision
from faregate.adapters.memory.ledger import MemoryLedger
from faregate.domain.errors import OutcomeUnknownError
from faregate.domain.request import Charge, Refund


class LossyLedger(MemoryLedger):
    """Loses the reply of the next charges, having made or not made them."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        super().__init__(now_ms=now_ms)
        self.lost_after = 0
        self.lost_before = 0
        self.hangs = asyncio.Event()
        self.hanging = False
        self.refunds_lost = 0

    async def charge(self, charge: Charge) -> Decision:
        if self.lost_before:
            self.lost_before -= 1
            raise OutcomeUnknownError("lost on the way there")
        decision = await super().charge(charge)
        if self.hanging:
            self.hangs.set()
            await asyncio.sleep(60)
        if self.lost_after:
            self.lost_after -= 1
            raise OutcomeUnknownError("lost on the way back")
        return decision

    async def refund(self, refund: Refund) -> Decision:
        if self.refunds_lost:
            self.refunds_lost -= 1
            raise OutcomeUnknownError("lost on the way there")
        return await super().refund(refund)


class Clock:
    """A clock that moves when it is told to."""

    ms = 1_800_000_000_000

    def __call__(self) -> int:
        return self.ms
