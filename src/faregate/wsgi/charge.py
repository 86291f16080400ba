"""The charge of a request, for WSGI handlers."""

from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

from faregate.asgi.charge_context import ChargeContext
from faregate.domain.decision import Decision
from faregate.domain.hold import Hold, HoldAnswer
from faregate.sync import SyncGate, blocking

_T = TypeVar("_T")


class SyncChargeContext:
    """The charge of one request, found as `environ["faregate.charge"]`; see `ChargeContext`."""

    def __init__(self, gate: SyncGate, context: ChargeContext) -> None:
        #: The gate, for its other methods.
        self.gate = gate
        #: The context of the middleware, which belongs to the event loop of the gate.
        self.context = context

    def run(self, operation: Callable[[ChargeContext], Awaitable[_T]]) -> _T:
        """Run an operation on the event loop of the gate, and wait for its end."""
        return self.gate.run(lambda _: operation(self.context))

    add, refund = blocking(ChargeContext.add), blocking(ChargeContext.refund)
    settle, cancel = blocking(ChargeContext.settle), blocking(ChargeContext.cancel)

    @property
    def decision(self) -> Decision:
        """The decision on the request."""
        return self.context.decision

    @property
    def hold(self) -> Hold | None:
        """The hold, if the rule has an estimate."""
        return self.context.hold

    @property
    def answer(self) -> HoldAnswer | None:
        """The end of the hold; None while it is open, and without a hold."""
        return self.context.answer

    @property
    def cost_so_far(self) -> int | None:
        """The cost of the request so far; see `ChargeContext`."""
        return self.context.cost_so_far

    @cost_so_far.setter
    def cost_so_far(self, cost: int) -> None:
        """Set the cost of the request so far."""
        self.context.cost_so_far = cost

    @property
    def credits(self) -> int:
        """The caller's balance after the latest change made here."""
        return self.context.credits

    @property
    def added(self) -> tuple[Decision, ...]:
        """The decisions by which `add` has charged more."""
        return self.context.added

    @property
    def user_id(self) -> UUID:
        """The user that is charged."""
        return self.context.user_id

    @property
    def cost(self) -> int:
        """The credits that the request was charged at its start."""
        return self.context.cost
