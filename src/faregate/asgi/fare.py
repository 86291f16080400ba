"""What a request was charged, and what its handler can still do about it."""

from collections.abc import Mapping
from uuid import UUID

from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import InvalidArgumentError
from faregate.domain.hold import Hold, HoldAnswer, closing_id
from faregate.domain.idempotency import KeyState
from faregate.domain.transaction import CreditTransactionId
from faregate.gate import Gate, Terms

_Metadata = Mapping[str, object] | None


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

    async def finish(self) -> None:
        """End a hold that the handler has left open: the estimate is what the request cost."""
        if self.hold is not None and self.answer is None:
            await self.settle(self.hold.estimate)

    async def give_back(self, description: str, metadata: _Metadata = None) -> bool:
        """Give everything back; return whether nothing is left of it.

        Raises:
            LedgerError, ArchiveUnavailableError: Not done at once; the gate tries again.
        """
        for more in self._more:
            await self._gate.refund(more, description=description, metadata=metadata)
        self._more.clear()
        if self.hold is not None and self.answer is None:
            return (await self.cancel()).allowed
        if not self.decision.amount:
            return True
        if self.answer is not None and self.answer.charged:
            await self._gate.refund_by_id(
                self.user_id, closing_id(self.decision.transaction_id), description=description
            )
        refunded = await self._gate.refund(
            self.decision, description=description, metadata=metadata
        )
        # `REFUND_EXCEEDED` means that nothing is left: the handler has given it back itself.
        is_done = refunded.verdict in {Verdict.ALLOWED, Verdict.REFUND_EXCEEDED}
        if is_done:
            self.credits = refunded.credits
        return is_done

    async def complete(self, response: bytes) -> None:
        """Note that the request was served; `response` is for those who ask again."""
        await self._gate.complete(self.decision, response)

    def _held(self) -> Hold:
        if self.hold is None:
            raise InvalidArgumentError("nothing is held: the rule of this request has no estimate")
        return self.hold
