"""The charge of a request, as its handler sees and changes it."""

from uuid import UUID

from faregate.domain.decision import Decision
from faregate.domain.errors import InvalidArgumentError
from faregate.domain.hold import Hold, HoldAnswer
from faregate.domain.transaction import CreditTransactionId, check_whole
from faregate.gate import ChargeOptions, Gate


class ChargeContext:
    """The charge of one request. The app finds it as `request.state.faregate`.

    The middleware knows every change that is made through it. If the request fails before its
    response starts, all of them are given back.
    """

    __slots__ = (
        "_cost_so_far",
        "_options",
        "added",
        "answer",
        "credits",
        "decision",
        "gate",
        "hold",
        "is_given_back",
    )

    def __init__(
        self, gate: Gate, decision: Decision, options: ChargeOptions, hold: Hold | None = None
    ) -> None:
        """Begin with the charge of the request.

        Args:
            gate: The gate that charged it.
            decision: The decision on the request, or on the estimate of its hold.
            options: The options of further charges, too: tier and failure mode.
            hold: The hold, if the rule has an estimate.
        """
        #: The gate, for its other methods.
        self.gate = gate
        #: The decision on the request.
        self.decision = decision
        #: The hold, if the rule has an estimate; else None.
        self.hold = hold
        #: The end of the hold; None while it is open, and without a hold.
        self.answer: HoldAnswer | None = None
        #: The caller's balance after the latest change made here.
        self.credits = decision.credits
        #: The decisions by which `add` has charged more.
        self.added: tuple[Decision, ...] = ()
        #: Whether the request has failed, so that all of its charges are given back.
        self.is_given_back = False
        self._options = options
        self._cost_so_far: int | None = None

    @property
    def cost_so_far(self) -> int | None:
        """The cost of the request so far, in credits; None until the handler sets it.

        A handler that streams sets it as often as it likes; this sends nothing. If the handler does
        not end its hold, the hold is settled at this cost when the request ends, even if the client
        has left or the handler has failed after the response began. With None it is settled at its
        estimate.

        Raises:
            InvalidArgumentError: The value is not a whole number from 0 on.
        """
        return self._cost_so_far

    @cost_so_far.setter
    def cost_so_far(self, cost: int) -> None:
        """Set the cost of the request so far."""
        self._cost_so_far = check_whole("a cost so far", cost, 0)

    @property
    def user_id(self) -> UUID:
        """The user that is charged."""
        return self.decision.user_id

    @property
    def cost(self) -> int:
        """The credits that the request was charged at its start: its cost, or its estimate."""
        return -self.decision.amount

    async def add(self, cost: int, *, description: str = "more of a request") -> Decision:
        """Charge more. A refusal is a value that the handler must check.

        Rate limits are not checked again. If the request fails meanwhile, it is refunded.
        """
        was_given_back = self.is_given_back
        options: ChargeOptions = {
            **self._options,
            "is_limited": False,
            "description": description,
        }
        decision = await self.gate.charge(self.user_id, cost=cost, **options)
        if decision.allowed:
            self.added = (*self.added, decision)
            self.credits = decision.credits
        if decision.allowed and self.is_given_back and not was_given_back:
            await self.gate.refund(decision, description="refund: the request has failed")
        return decision

    async def refund(self, amount: int | None = None, *, description: str = "refund") -> Decision:
        """Refund a part of the charge, or all that is left of it.

        If Redis does not answer, it is given back in the background: the decision `is_pending`.
        """
        identity = None if amount is None else CreditTransactionId.mint(self.gate.now_ms())
        decision = await self.gate.refund(
            self.decision, amount=amount, transaction_id=identity, description=description
        )
        if decision.allowed:
            self.credits = decision.credits
        return decision

    async def settle(self, actual: int) -> HoldAnswer:
        """Settle the hold by the actual cost of the request.

        If Redis does not answer, it is settled in the background: the answer `is_pending`.

        Raises:
            InvalidArgumentError: There is no hold: the rule has no estimate.
            TransactionConflictError: The hold has ended in another way.
        """
        hold = self._open_hold()
        # Where this is cancelled, the middleware settles by the same cost.
        self.cost_so_far = actual
        return self._ended(await self.gate.settle(hold, actual))

    async def cancel(self) -> HoldAnswer:
        """End the hold and give all of it back; in the background if Redis does not answer."""
        hold = self._open_hold()
        self.cost_so_far = 0
        return self._ended(await self.gate.cancel(hold))

    def _ended(self, answer: HoldAnswer) -> HoldAnswer:
        self.answer = answer
        if not answer.is_pending:
            self.credits = answer.credits
        return answer

    def _open_hold(self) -> Hold:
        if self.hold is None:
            raise InvalidArgumentError("nothing is held: the rule of this request has no estimate")
        return self.hold
