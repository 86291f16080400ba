"""The hold that a block of `gate.holding` has in its hands."""

import asyncio
from typing import Protocol

from faregate.domain.decision import Decision
from faregate.domain.errors import LedgerError, TransactionConflictError
from faregate.domain.hold import Hold, HoldAnswer


class _Ends(Protocol):
    """What a hold is ended with: the gate."""

    async def settle(self, hold: Hold, actual: int) -> HoldAnswer: ...

    async def extend(self, hold: Hold, ttl_ms: int) -> HoldAnswer: ...


class Held:
    """A hold inside `async with gate.holding(...)`."""

    def __init__(self, gate: _Ends, hold: Hold) -> None:
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
