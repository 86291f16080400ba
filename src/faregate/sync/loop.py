"""An event loop in a thread of its own, with a gate on it."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future
from contextlib import AsyncExitStack
from threading import Thread, current_thread
from typing import TypeVar

from faregate.domain.errors import ConfigurationError
from faregate.gate import Gate

_T = TypeVar("_T")

#: How long a close waits for the calls that it has cancelled, in seconds.
CANCEL_S_MAX = 5.0


class GateLoop:
    """Runs calls of one gate until the close, after which the owner must send no call."""

    def __init__(self, gate: Gate) -> None:
        """Start the thread.

        Raises:
            ConfigurationError: gevent or eventlet has replaced the threads of this process.
        """
        _check_threads()
        self.gate = gate
        self._loop = asyncio.new_event_loop()
        self._is_over = asyncio.Event()
        self._tasks: set[asyncio.Task[object]] = set()
        # A daemon, since the process may end without a close; `atexit` closes it.
        self._thread = Thread(target=self._run, name="faregate", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        # At its end the runner cancels running calls, so that no caller waits for ever.
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._is_over.wait())

    def submit(self, operation: Callable[[Gate], Awaitable[_T]], future: Future[_T]) -> None:
        """Start a call, from any thread except that of the loop.

        The caller makes the future, so it can cancel the call even if a signal interrupts this
        method.

        Raises:
            ConfigurationError: It is called in the thread of the loop, which would wait for itself.
        """
        if current_thread() is self._thread:
            raise ConfigurationError(
                "a SyncGate cannot be called on its own event loop, as in `tier_of` or `identify`:"
                " await the methods of its gate instead"
            )
        self._loop.call_soon_threadsafe(self._begin, operation, future)

    def _begin(self, operation: Callable[[Gate], Awaitable[_T]], future: Future[_T]) -> None:
        """Begin a call on the loop, unless its caller has given up."""
        if future.cancelled():
            return

        async def work() -> _T:
            return await operation(self.gate)

        task = self._loop.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda done: _pass_on(done, future))
        future.add_done_callback(lambda done: self._cancel(task) if done.cancelled() else None)

    def _cancel(self, task: asyncio.Task[_T]) -> None:
        """Cancel a call whose caller has given up, from any thread."""
        self._loop.call_soon_threadsafe(task.cancel)

    def close(self, parts: Iterable[Callable[[], Awaitable[None]]]) -> None:
        """Cancel running calls, close other parts and the gate, then end the thread."""

        async def close_all(gate: Gate) -> None:
            async with AsyncExitStack() as stack:
                stack.push_async_callback(gate.aclose)
                for part in parts:
                    stack.push_async_callback(part)
                # First, so that the gate still voids and refunds their charges.
                running = self._tasks - {asyncio.current_task()}
                for task in running:
                    task.cancel()
                if running:
                    await asyncio.wait(running, timeout=CANCEL_S_MAX)

        try:
            self.submit(close_all, closed := Future[None]())
            closed.result()
        finally:
            self._loop.call_soon_threadsafe(self._is_over.set)
            self._thread.join()


def _pass_on(task: asyncio.Task[_T], future: Future[_T]) -> None:
    """Pass the result of a call to its caller, unless the caller has given up."""
    if task.cancelled():
        future.cancel()
        return
    error = task.exception()
    if not future.set_running_or_notify_cancel():
        return
    if error is None:
        future.set_result(task.result())
    else:
        future.set_exception(error)


def _check_threads() -> None:
    """Refuse greenlets in place of threads: the event loop needs a thread of the system."""
    origin = threading.get_ident.__module__
    if origin != "_thread":
        raise ConfigurationError(
            f"{origin} has replaced threads, and a SyncGate needs those of the system: use"
            " workers `gthread` or `sync` of gunicorn, pools `prefork` or `threads` of Celery"
        )
