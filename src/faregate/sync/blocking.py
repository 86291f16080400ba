"""The one rule by which a method of asyncio becomes one that waits: same name, same arguments."""

from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from faregate.domain.decision import Decision
from faregate.domain.hold import Hold, HoldAnswer
from faregate.gate import HoldBlock

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Runner(Protocol):
    """Runs what is done to an object of asyncio on the event loop of that object."""

    def run(self, operation: Callable[[Any], Awaitable[_T]], /) -> _T:
        """Run it, and wait for its end."""


def blocking(
    method: Callable[Concatenate[Any, _P], Coroutine[Any, Any, _T]],
) -> Callable[Concatenate[Runner, _P], _T]:
    """Return the method of a `Runner` that calls a method of its object, and waits for it."""
    name = method.__name__

    @wraps(method)
    def waiting(runner: Runner, /, *args: _P.args, **options: _P.kwargs) -> _T:
        def begin(target: Any) -> Awaitable[_T]:
            begun: Awaitable[_T] = getattr(target, name)(*args, **options)
            return begun

        return runner.run(begin)

    return waiting


class SyncHoldBlock:
    """The hold of a block of `SyncGate.holding`; see `HoldBlock`."""

    def __init__(self, gate: Runner, block: HoldBlock) -> None:
        self._gate = gate
        self._block = block

    def run(self, operation: Callable[[HoldBlock], Awaitable[_T]]) -> _T:
        """Run something on the event loop of the gate, and wait for its end."""
        return self._gate.run(lambda _: operation(self._block))

    settle = blocking(HoldBlock.settle)
    extend = blocking(HoldBlock.extend)

    @property
    def hold(self) -> Hold:
        """The hold; it is refused where `allowed` is false."""
        return self._block.hold

    @property
    def answer(self) -> HoldAnswer | None:
        """How it ended; None as long as it is open."""
        return self._block.answer

    @property
    def allowed(self) -> bool:
        """Whether the estimate is taken."""
        return self._block.allowed

    @property
    def decision(self) -> Decision:
        """How the ledger decided on the estimate."""
        return self._block.decision
