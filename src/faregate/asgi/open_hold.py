"""The hold of a request: extended while its app runs, and settled if the handler did not."""

import asyncio

from faregate.asgi.charge_context import ChargeContext
from faregate.asgi.logs import RequestLog
from faregate.domain.errors import FaregateError, InvalidArgumentError
from faregate.domain.hold import Hold

_MS_PER_S = 1_000
#: So that the hold outlives one extension that Redis does not answer.
_EXTENSIONS_A_LIFETIME = 3


class RequestHold:
    """Extends a hold repeatedly, each time by its whole lifetime, for at most a day.

    If the process dies, the hold expires as any other.
    """

    def __init__(self, context: ChargeContext, hold: Hold, *, ttl_ms: int, log: RequestLog) -> None:
        """Begin to extend."""
        self._context = context
        self._hold = hold
        self._log = log
        self._extending = asyncio.ensure_future(self._extend(ttl_ms))

    def stop(self) -> None:
        """Stop extending the hold."""
        self._extending.cancel()

    async def finish(self) -> None:
        """End a hold that the handler has left open, by its cost so far or else its estimate."""
        self._extending.cancel()
        context, cost = self._context, self._context.cost_so_far
        if context.answer is not None:
            return
        actual = self._hold.estimate if cost is None else cost
        try:
            answer = await (context.cancel() if cost == 0 else context.settle(actual))
        except FaregateError as error:
            self._log.warning("hold not settled: %s", error)
            return
        if not answer.allowed and not answer.is_pending:
            self._log.warning("hold settled too late: %s: %s", self._hold.id, answer.verdict)

    async def finish_cancelled(self) -> None:
        """End the hold by its cost so far. Without one it expires, as if the process had died."""
        if self._context.cost_so_far is not None:
            await self.finish()

    async def _extend(self, ttl_ms: int) -> None:
        while self._context.answer is None:
            await asyncio.sleep(ttl_ms / _EXTENSIONS_A_LIFETIME / _MS_PER_S)
            try:
                answer = await self._context.gate.extend(self._hold, ttl_ms)
            except InvalidArgumentError:
                # The hold has been open for a day.
                return
            except FaregateError as error:
                # The next extension may still come in time.
                self._log.warning("hold not extended: %s", error)
            else:
                if not answer.allowed and not answer.is_pending:
                    return
