"""A gate for threads: the methods of `Gate`, as blocking ones.

    threads ──> SyncGate ──> GateLoop: one thread with an event loop ──> Gate ──> servers

The loop and the gate are made at the first call in a process. A forked process makes its own at its
first call. It never uses or closes those of its parent, since they share sockets.
"""

import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Self, TypeVar, Unpack
from uuid import UUID
from weakref import WeakSet

from faregate.domain.errors import ConfigurationError, LedgerUnavailableError
from faregate.domain.health import Health
from faregate.domain.policy import PolicySet
from faregate.gate import ChargeOptions, Gate
from faregate.gate.adjustments import Adjustments
from faregate.gate.completions import Completions
from faregate.gate.hold_ends import HoldEnds
from faregate.gate.queries import Queries
from faregate.gate.reversals import Reversals
from faregate.gate.session import Session
from faregate.gate.spending import TTL_MS, Spending
from faregate.gate.tiers import Tiers
from faregate.sync.blocking import SyncHoldBlock, blocking
from faregate.sync.loop import GateLoop

_T = TypeVar("_T")

_CLOSED = "this gate is closed; `gate.start()` opens it again"


class SyncGate:
    """Charges users and gives back. Threads can share it, also across a fork.

    Each method waits as long as that of `Gate` does, and raises the same errors. A call that is
    interrupted, as by Ctrl-C, is cancelled: a charge under way is voided, an answered one stands.
    """

    def __init__(self, build: Callable[[], Gate]) -> None:
        """Make a gate, which `build` builds at the first use in each process.

        If it returns the gate of its parent process, calls raise a `ConfigurationError`.
        """
        self._build = build
        self._lock = Lock()
        self._running: GateLoop | None = None
        self._parts: list[Callable[[], Awaitable[None]]] = []
        self._is_closed = False
        _gates.add(self)

    charge, hold = blocking(Spending.charge), blocking(Spending.hold)
    settle, cancel = blocking(HoldEnds.settle), blocking(HoldEnds.cancel)
    extend, install = blocking(HoldEnds.extend), blocking(Session.install)
    refund, refund_by_id = blocking(Reversals.refund), blocking(Reversals.refund_by_id)
    grant, adjust = blocking(Adjustments.grant), blocking(Adjustments.adjust)
    complete, saved_response = blocking(Completions.complete), blocking(Completions.saved_response)
    balance, usage = blocking(Queries.balance), blocking(Queries.usage)
    history, shadow_counts = blocking(Queries.history), blocking(Queries.shadow_counts)
    renew, users_after = blocking(Queries.renew), blocking(Queries.users_after)
    policy_of, tier_of = blocking(Tiers.policy_of), blocking(Tiers.tier_of)

    @contextmanager
    def holding(
        self,
        user_id: UUID,
        estimate: int,
        *,
        ttl_ms: int = TTL_MS,
        **options: Unpack[ChargeOptions],
    ) -> Iterator[SyncHoldBlock]:
        """Hold an estimate for a block, which settles it; see `HoldEnds.holding`."""
        manager = self.gate.holding(user_id, estimate, ttl_ms=ttl_ms, **options)
        block = self.run(lambda _: manager.__aenter__())
        try:
            yield SyncHoldBlock(self, block)
        except BaseException:
            # Not the exception itself: a GeneratorExit or a KeyboardInterrupt would end the loop.
            failed = RuntimeError("the block failed")
            self.run(lambda _: manager.__aexit__(RuntimeError, failed, None))
            raise
        self.run(lambda _: manager.__aexit__(None, None, None))

    def run(self, operation: Callable[[Gate], Awaitable[_T]]) -> _T:
        """Run an operation on the event loop of the gate, and wait for its end.

        Raises:
            LedgerUnavailableError: The gate was closed meanwhile.
            ConfigurationError: The gate was closed before; see `GateLoop` for more.
        """
        # Made first, so that an interrupted hand-over can be cancelled.
        future: Future[_T] = Future()
        try:
            self.submit(operation, future)
            return future.result()
        except CancelledError as error:
            raise LedgerUnavailableError("the gate was closed") from error
        except BaseException:
            # The wait was interrupted, unless the call itself failed.
            future.cancel()
            raise

    def submit(self, operation: Callable[[Gate], Awaitable[_T]], future: Future[_T]) -> None:
        """Start an operation on the event loop of the gate; see `run` and `GateLoop.submit`."""
        with self._lock:
            self._begun().submit(operation, future)

    def _begun(self) -> GateLoop:
        if self._is_closed:
            raise ConfigurationError(_CLOSED)
        if self._running is None:
            self._running = GateLoop(self._build())
        return self._running

    @property
    def gate(self) -> Gate:
        """The gate of this process, which belongs to its own event loop."""
        with self._lock:
            return self._begun().gate

    @property
    def policies(self) -> PolicySet:
        """The policy of each tier."""
        return self.gate.policies

    @property
    def serves_open(self) -> bool:
        """See `Gate.serves_open`."""
        return self.gate.serves_open

    def now_ms(self) -> int:
        """Return a time that the clock of Redis has certainly reached, in Unix milliseconds."""
        return self.gate.now_ms()

    def health(self) -> Health:
        """Return the health of the gate of this process, without asking a server."""

        async def probe(gate: Gate) -> Health:
            return gate.health()

        return self.run(probe)

    def join_retries(self, timeout_s: float) -> bool:
        """Wait until no background work is left; return whether that happened in time."""
        return self.run(lambda gate: gate.retries.join(timeout_s))

    def close_first(self, close: Callable[[], Awaitable[None]]) -> None:
        """Note what is to be closed before the gate, on its event loop, such as an identity."""
        self._parts.append(close)

    def start(self) -> None:
        """Attach to the servers now instead of at the first use; open a closed gate again."""
        with self._lock:
            self._is_closed = False
        self.run(lambda gate: gate.start())

    def close(self) -> None:
        """Finish pending work and close all connections of this process.

        Callers that still wait get a `LedgerUnavailableError`. The end of a process closes the
        gate, too, except by `os._exit`, as in a forked work horse of RQ.
        """
        with self._lock:
            self._is_closed = True
            running, self._running = self._running, None
        if running is not None:
            running.close(self._parts)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _leave_to_parent(self) -> None:
        """Forget what the parent of this process goes on using, with the lock as it was there."""
        self._lock = Lock()
        if self._running is not None:
            _of_parents.append(self._running)
            self._running = None


_gates: WeakSet[SyncGate] = WeakSet()
#: A permanent reference, since garbage collection would close sockets of the parent.
_of_parents: list[GateLoop] = []


def _leave_all_to_parent() -> None:
    for gate in tuple(_gates):
        gate._leave_to_parent()  # noqa: SLF001 -- of this module


def _close_all() -> None:
    with ExitStack() as stack:
        for gate in tuple(_gates):
            stack.callback(gate.close)


# Before the thread pools end, which a close may need, as of a journal; `atexit` comes after that.
getattr(threading, "_register_atexit", atexit.register)(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all_to_parent)
