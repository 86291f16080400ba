"""Gives back everything that a request was charged, if it fails before its response starts."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeAlias

from faregate.asgi.charge_context import ChargeContext
from faregate.asgi.logs import RequestLog
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import FaregateError, TransactionConflictError
from faregate.domain.hold import HoldState, closing_id
from faregate.gate.retries import Name

#: Gives back one part; idempotent.
_Part: TypeAlias = Callable[[], Awaitable[Verdict]]
#: `REFUND_EXCEEDED` means that nothing is left, since the handler has given it back. `TAKEN_OVER`
#: means that another attempt with the key now owns the charge.
_GIVEN_BACK = {Verdict.ALLOWED, Verdict.REFUND_EXCEEDED, Verdict.TAKEN_OVER}


async def give_back(
    context: ChargeContext, why: str, metadata: Mapping[str, object] | None, log: RequestLog
) -> None:
    """Give back everything that a request was charged.

    It never raises, since the response must be sent.
    """
    identity = context.decision.transaction_id
    try:
        verdict = await WholeRefund(context, f"refund: {why}", metadata).make()
    except FaregateError as error:
        log.warning("charge not refunded: %s: %s", identity, error)
        return
    if verdict is Verdict.PENDING:
        log.warning("refund continues in the background: %s", identity)
    elif verdict is not Verdict.ALLOWED:
        log.warning("charge not refunded: %s: %s", identity, verdict)


class WholeRefund:
    """The refund of a request, in parts that fail independently."""

    def __init__(
        self, context: ChargeContext, description: str, metadata: Mapping[str, object] | None
    ) -> None:
        self._context = context
        self._gate = context.gate
        self._description = description
        self._metadata = metadata

    async def make(self) -> Verdict:
        """Give everything back. Each part is tried, even if others fail.

        Returns:
            `ALLOWED` if nothing is left to give back, `PENDING` if a part is given back in the
            background, else the verdict on a part that is not given back.

        Raises:
            FaregateError: A part is not given back, while the others are.
        """
        self._context.is_given_back = True
        added, self._context.added = self._context.added, ()
        parts: list[_Part] = [partial(self._refund, each) for each in added]
        parts.append(self._give_first_back)
        verdict, failure = Verdict.ALLOWED, None
        while parts:
            try:
                found = await parts[0]()
                verdict = verdict if found in _GIVEN_BACK else found
            except FaregateError as error:
                failure = failure or error
            except asyncio.CancelledError:
                self._leave(*parts)
                raise
            parts.pop(0)
        if failure is not None:
            raise failure
        return verdict

    async def _refund(self, charged: Decision) -> Verdict:
        refunded = await self._gate.refund(
            charged, description=self._description, metadata=self._metadata
        )
        if refunded.verdict in _GIVEN_BACK:
            self._context.credits = refunded.credits
        return refunded.verdict

    async def _give_first_back(self) -> Verdict:
        """Give back the charge at the start."""
        context = self._context
        if context.hold is None:
            needs_refund = context.decision.amount or context.decision.keyed_attempt is not None
            return await self._refund(context.decision) if needs_refund else Verdict.ALLOWED
        verdict = await self._give_hold_back()
        if verdict is Verdict.PENDING:
            # The refund must wait, since the end of the hold is not known yet.
            self._leave(self._give_hold_back)
        return verdict

    async def _give_hold_back(self) -> Verdict:
        """Give a hold back, open or settled."""
        context, answer = self._context, self._context.answer
        if answer is not None and answer.allowed and answer.state is HoldState.CANCELLED:
            return Verdict.ALLOWED
        is_settled = answer is not None and answer.charged > 0
        if answer is None or answer.is_pending:
            try:
                cancelled = (await context.cancel()).verdict
            except TransactionConflictError:
                # The hold was settled, but the answer is not known here.
                is_settled = True
            else:
                if cancelled in {Verdict.ALLOWED, Verdict.TAKEN_OVER, Verdict.PENDING}:
                    return cancelled
        refunded = await self._refund(context.decision)
        if is_settled and refunded in {*_GIVEN_BACK, Verdict.PENDING} - {Verdict.TAKEN_OVER}:
            beyond = await self._gate.refund_by_id(
                context.user_id,
                closing_id(context.decision.transaction_id),
                description=self._description,
            )
            if beyond.allowed:
                context.credits = beyond.credits
        return refunded

    def _leave(self, *parts: _Part) -> None:
        """Give the remaining parts back in the background."""
        context = self._context
        name = Name("refund of a part of", context.decision.transaction_id, context.user_id)
        for part in parts:
            self._gate.retries.submit(name, partial(self._try, part))

    async def _try(self, part: _Part) -> bool:
        # The call raises while Redis does not answer, since otherwise the gate would try each part
        # again.
        await self._gate.balance(self._context.user_id)
        return await part() in _GIVEN_BACK
