"""Turns async methods into blocking ones with the same name and arguments."""

from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from faregate.domain.decision import Decision
from faregate.domain.hold import Hold, HoldAnswer
from faregate.gate import HoldBlock

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Runner(Protocol):
    """Runs operations on an object of asyncio, on its event loop."""

    def run(self, operation: Callable[[Any], Awaitable[_T]], /) -> _T:
        """Run an operation, and wait for its end."""


def blocking(
    method: Callable[Concatenate[Any, _P], Coroutine[Any, Any, _T]],
) -> Callable[Concatenate[Runner, _P], _T]:
    """Return a method of a `Runner` that calls a method of its object, and waits for its end."""
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
        """Run an operation on the event loop of the gate, and wait for its end."""
        return self._gate.run(lambda _: operation(self._block))

    settle = blocking(HoldBlock.settle)
    extend = blocking(HoldBlock.extend)

    @property
    def hold(self) -> Hold:
        """The hold; refused if it is not `allowed`."""
        return self._block.hold

    @property
    def answer(self) -> HoldAnswer | None:
        """The answer to its end; None while it is open."""
        return self._block.answer

    @property
    def allowed(self) -> bool:
        """Whether the hold was allowed."""
        return self._block.allowed

    @property
    def decision(self) -> Decision:
        """The decision on the estimate."""
        return self._block.decision
