"""What a WSGI handler sees of the charge of its request."""

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
        #: The gate, for what is not offered here.
        self.gate = gate
        #: The context of the middleware, which belongs to the event loop of the gate.
        self.context = context

    def run(self, operation: Callable[[ChargeContext], Awaitable[_T]]) -> _T:
        """Run something on the event loop of the gate, and wait for its end."""
        return self.gate.run(lambda _: operation(self.context))

    add, refund = blocking(ChargeContext.add), blocking(ChargeContext.refund)
    settle, cancel = blocking(ChargeContext.settle), blocking(ChargeContext.cancel)

    @property
    def decision(self) -> Decision:
        """How the request was decided."""
        return self.context.decision

    @property
    def hold(self) -> Hold | None:
        """The hold, where the rule has an estimate."""
        return self.context.hold

    @property
    def answer(self) -> HoldAnswer | None:
        """How the hold ended; None as long as it is open, and where there is none."""
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
        """The user who is charged."""
        return self.context.user_id

    @property
    def cost(self) -> int:
        """What the request was charged at its start."""
        return self.context.cost
