"""What a request was charged, and what its handler can still do about it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeAlias
from uuid import UUID

from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import (
    FaregateError,
    InvalidArgumentError,
    TransactionConflictError,
)
from faregate.domain.hold import Hold, HoldAnswer, closing_id
from faregate.domain.idempotency import KeyState
from faregate.domain.transaction import CreditTransactionId
from faregate.gate import Gate, Terms

_Metadata = Mapping[str, object] | None
#: Gives a part of what was charged back, by description and metadata; returns whether it is.
_Part: TypeAlias = Callable[[str, _Metadata], Awaitable[bool]]
#: `REFUND_EXCEEDED` means that nothing is left: the handler has given it back itself;
#: `TAKEN_OVER` that another attempt with the key answers for the charge now.
_GIVEN_BACK = {Verdict.ALLOWED, Verdict.REFUND_EXCEEDED, Verdict.TAKEN_OVER}

_log = logging.getLogger(__name__)


class Fare:
    """The fare of one request. The app finds it as `request.state.faregate`.

    Everything that is taken or given back through it is known to the gate: where the request fails
    before its response starts, all of it goes back.
    """

    __slots__ = ("_gate", "_more", "_terms", "answer", "credits", "decision", "hold")

    def __init__(self, gate: Gate, charged: Decision | Hold, terms: Terms) -> None:
        """Begin with what was charged.

        Args:
            gate: By which it was charged.
            charged: The decision, or the hold where there is an estimate.
            terms: What holds for more of the request: tier and failure mode.
        """
        self._gate = gate
        self._terms = terms
        #: The hold, where the rule asks for an estimate; else None.
        self.hold = charged if isinstance(charged, Hold) else None
        #: How the request was decided.
        self.decision = charged.decision if isinstance(charged, Hold) else charged
        #: How the hold ended; None as long as it is open, and where there is none.
        self.answer: HoldAnswer | None = None
        #: The caller's balance after the latest change made here.
        self.credits = self.decision.credits
        self._more: list[Decision] = []

    @property
    def user_id(self) -> UUID:
        """Who is charged."""
        return self.decision.user_id

    @property
    def cost(self) -> int:
        """What the request was charged at its start: its cost, or its estimate."""
        return -self.decision.amount

    @property
    def is_keyed(self) -> bool:
        """Whether the request is to be completed, so that none with the same key is served."""
        return self.decision.key_state in {KeyState.NEW, KeyState.TAKEN_OVER}

    async def add(self, cost: int, *, description: str = "more of a request") -> Decision:
        """Charge more; a refusal is a value, and it is the handler that must look at it.

        Rate limits are not looked at again.
        """
        terms: Terms = {**self._terms, "is_limited": False, "description": description}
        decision = await self._gate.charge(self.user_id, cost=cost, **terms)
        if decision.allowed:
            self._more.append(decision)
            self.credits = decision.credits
        return decision

    async def refund(self, amount: int | None = None, *, description: str = "refund") -> Decision:
        """Give back a part of what was charged at the start, or all that is left of it."""
        identity = None if amount is None else CreditTransactionId.mint(self._gate.now_ms())
        decision = await self._gate.refund(
            self.decision, amount=amount, transaction_id=identity, description=description
        )
        if decision.allowed:
            self.credits = decision.credits
        return decision

    async def settle(self, actual: int) -> HoldAnswer:
        """End the hold by what the request really cost.

        Raises:
            InvalidArgumentError: Nothing is held: the rule has no estimate.
        """
        self.answer = await self._gate.settle(self._held(), actual)
        self.credits = self.answer.credits
        return self.answer

    async def cancel(self) -> HoldAnswer:
        """End the hold, and give all of it back; errors are those of `settle`."""
        self.answer = await self._gate.cancel(self._held())
        self.credits = self.answer.credits
        return self.answer

    @asynccontextmanager
    async def kept_open(self, ttl_ms: int) -> AsyncIterator[None]:
        """Let the hold not expire while the block runs, for a day at most.

        One whose process dies expires in `ttl_ms`, as any other.
        """
        if self.hold is None:
            yield
            return
        extending = asyncio.ensure_future(self._extend_again(self.hold, ttl_ms))
        try:
            yield
        finally:
            extending.cancel()

    async def _extend_again(self, hold: Hold, ttl_ms: int) -> None:
        while self.answer is None:
            await asyncio.sleep(ttl_ms / 2_000)
            try:
                if not (await self._gate.extend(hold, ttl_ms)).allowed:
                    return
            except FaregateError as error:
                # The next time may come in time.
                _log.warning("hold %s is not extended: %s", hold.id, error)

    async def finish(self) -> None:
        """End a hold that the handler has left open: the estimate is what the request cost."""
        if self.hold is not None and self.answer is None:
            answer = await self.settle(self.hold.estimate)
            if not answer.allowed:
                _log.warning("hold %s was not settled in time: %s", self.hold.id, answer.verdict)

    async def give_back(self, description: str, metadata: _Metadata = None) -> bool:
        """Give everything back; return whether nothing is left of it.

        Each part is tried, whatever becomes of the others, and the gate tries again what fails.

        Raises:
            FaregateError: A part could not be given back at once.
        """
        more, self._more = self._more, []
        parts = [*(self._undoing(each) for each in more), self._give_first_back]
        is_done, failure = True, None
        while parts:
            try:
                is_done &= await parts[0](description, metadata)
            except FaregateError as error:
                failure = failure or error
            except asyncio.CancelledError:
                self._leave(parts, description, metadata)
                raise
            parts.pop(0)
        if failure is not None:
            raise failure
        return is_done

    def _leave(self, parts: Sequence[_Part], description: str, metadata: _Metadata) -> None:
        """Leave to the background what is yet to be given back; what is done twice is done once."""
        for part in parts:
            name = f"refund of a part of {self.decision.transaction_id} of user {self.user_id}"
            self._gate.retries.submit(name, partial(part, description, metadata))

    def _undoing(self, charged: Decision) -> _Part:
        async def undo(description: str, metadata: _Metadata) -> bool:
            refunded = await self._gate.refund(charged, description=description, metadata=metadata)
            return refunded.verdict in _GIVEN_BACK

        return undo

    async def _give_first_back(self, description: str, metadata: _Metadata) -> bool:
        """Give back what was charged at the start, however far it has been settled."""
        was_settled = self.answer is not None and self.answer.charged > 0
        if self.hold is not None and self.answer is None:
            try:
                if (await self.cancel()).verdict in {Verdict.ALLOWED, Verdict.TAKEN_OVER}:
                    return True
            except TransactionConflictError:
                # A settlement was made whose answer was lost.
                was_settled = True
        if not (self.decision.amount or was_settled or self.is_keyed):
            return True
        refunded = await self._gate.refund(
            self.decision, description=description, metadata=metadata
        )
        if refunded.verdict not in _GIVEN_BACK:
            return False
        self.credits = refunded.credits
        if was_settled and refunded.verdict is not Verdict.TAKEN_OVER:
            lacking = closing_id(self.decision.transaction_id)
            more = await self._gate.refund_by_id(self.user_id, lacking, description=description)
            self.credits = more.credits
        return True

    async def complete(self, response: bytes) -> None:
        """Note that the request was served; `response` is for those who ask again."""
        await self._gate.complete(self.decision, response)

    def _held(self) -> Hold:
        if self.hold is None:
            raise InvalidArgumentError("nothing is held: the rule of this request has no estimate")
        return self.hold
