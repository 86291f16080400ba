"""A ledger in memory that loses replies, and a clock for it."""

import asyncio
from collections.abc import Callable

from faregate import Decision, Hold, HoldAnswer
from faregate.adapters.memory.books import MemoryBooks, MemoryStream
from faregate.adapters.memory.holds import MemoryHoldLedger
from faregate.domain.errors import OutcomeUnknownError
from faregate.domain.hold import HoldRequest, Settlement
from faregate.domain.idempotency import Completion
from faregate.domain.request import Charge, Refund


class LossyLedger(MemoryHoldLedger):
    """Loses the replies of the next operations, having made or not made them."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        super().__init__(now_ms=now_ms)
        self.lost_after = 0
        self.lost_before = 0
        self.hangs = asyncio.Event()
        self.hanging = False
        self.refunds_lost = 0
        self.holds_lost = 0
        self.settlements_lost = 0
        self.completions_lost = 0

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

    async def hold(self, request: HoldRequest) -> Hold:
        hold = await super().hold(request)
        if self.holds_lost:
            self.holds_lost -= 1
            raise OutcomeUnknownError("lost on the way back")
        return hold

    async def settle(self, settlement: Settlement) -> HoldAnswer:
        answer = await super().settle(settlement)
        if self.settlements_lost:
            self.settlements_lost -= 1
            raise OutcomeUnknownError("lost on the way back")
        return answer

    async def complete(self, completion: Completion) -> bool:
        if self.completions_lost:
            self.completions_lost -= 1
            raise OutcomeUnknownError("lost on the way there")
        return await super().complete(completion)


class Clock:
    """A clock that moves when it is told to."""

    ms = 1_800_000_000_000

    def __call__(self) -> int:
        return self.ms


def outlive(ledger: LossyLedger, books: MemoryBooks, clock: Clock, ms: int) -> None:
    """Make rows of all records, and let time pass until the ledger has forgotten them."""
    stream = MemoryStream(ledger)
    entries = stream.read(0, 10)
    books.store(0, entries)
    stream.acknowledge(0, [entry.stream_id for entry in entries])
    clock.ms += ms
    assert stream.trim(0) == len(entries)
