"""The session of a gate with its servers, from start to close.

Connections, tasks and locks belong to the event loop and the process that made them. So a call on
another loop or in a forked process is refused before anything is sent. If the loop has ended, the
session attaches again on the running one.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

from faregate.domain.durability import Durability
from faregate.domain.errors import (
    ArchiveUnavailableError,
    ConfigurationError,
    FaregateError,
    LedgerUnavailableError,
    OutcomeUnknownError,
)
from faregate.domain.policy import GateOptions
from faregate.gate.breaker import CircuitBreaker
from faregate.gate.breakers import Breakers
from faregate.gate.retries import RetryQueue
from faregate.ports import Accounts, Ledger

_T = TypeVar("_T")

_OTHER_LOOP = (
    "this gate is in use on another event loop: build a gate for each loop, or close it there first"
)
_FORKED = "this gate was in use when its process was forked: build a gate in each process"
#: How often a close looks for requests under way, in seconds.
_POLL_S = 0.01
_CLOSED = "this gate is closed; `await gate.start()` opens it again"


class Binding:
    """The event loop and the process of the first use, until the close."""

    def __init__(self) -> None:
        self._pid = 0
        self.loop: asyncio.AbstractEventLoop | None = None
        self.is_closed = False

    def bind(self) -> bool:
        """Bind to the running loop; return whether it is a new one.

        Raises:
            ConfigurationError: The gate is closed, or bound to another loop or process.
        """
        loop, pid = asyncio.get_running_loop(), os.getpid()
        if self.is_closed:
            raise ConfigurationError(_CLOSED)
        if loop is self.loop and pid == self._pid:
            return False
        if self.loop is not None and pid != self._pid:
            raise ConfigurationError(_FORKED)
        if self.loop is not None and not self.loop.is_closed():
            raise ConfigurationError(_OTHER_LOOP)
        self.loop, self._pid = loop, pid
        return True

    def close(self) -> None:
        """Refuse calls until `is_closed` is reset; then any loop may bind."""
        self.loop, self.is_closed = None, True


class Session:
    """Attaches the gate to its servers, installs users, and runs other operations."""

    def __init__(
        self, ledger: Ledger, accounts: Accounts, options: GateOptions, starting_credits: int
    ) -> None:
        self.ledger = ledger
        self.accounts = accounts
        self.options = options
        self.breakers = Breakers(options.breaker, ledger)
        #: Pending voids, refunds and ends of holds.
        self.retries = RetryQueue()
        #: The loop on which calls pass directly while the breaker is closed; None until the start.
        self.ready_on: asyncio.AbstractEventLoop | None = None
        self._binding = Binding()
        self._starting_credits = starting_credits
        #: The epoch of the attached ledger; 0 before the start.
        self._epoch = 0
        self._has_failed = False
        self._attaching: asyncio.Future[None] | None = None
        self._installing: dict[tuple[UUID, bool], asyncio.Future[bool]] = {}

    async def start(self) -> None:
        """Attach to the servers if that is not done; open a closed session again."""
        self._binding.is_closed = False
        self.bind()
        await self._attached(None)

    async def enter(self, breaker: CircuitBreaker) -> int:
        """Admit a call after the start, and return its ticket of the breaker."""
        self.bind()
        ticket = breaker.admit()
        timeout_s = self.options.decision_timeout_ms / 1000 if self._has_failed else None
        try:
            await self._attached(timeout_s)
        except BaseException as error:
            if isinstance(error, ArchiveUnavailableError):
                # Without Postgres there is no start, so waiting is useless.
                breaker.note_failure(ticket, error)
            else:
                breaker.report(ticket, error)
            raise
        return ticket

    def bind(self) -> None:
        """Refuse a call on another loop, in another process, or after the close.

        Raises:
            ConfigurationError: The call is refused for one of these reasons.
        """
        if self._binding.bind():
            self.ready_on, self._epoch, self._attaching = None, 0, None
            self._installing.clear()
            self.retries.open()

    async def _attached(self, timeout_s: float | None) -> None:
        if not self._epoch:
            # All waiting callers share one start, and fail together.
            if self._attaching is None:
                self._attaching = _watched(self._attach())
            await _result(self._attaching, timeout_s)
        self.ready_on = self._binding.loop

    async def _attach(self) -> None:
        try:
            identity = await self.accounts.identity()
            _check_starting_credits(identity.starting_credits, self._starting_credits)
            await self.ledger.attach(identity)
            if not identity.installed:
                await self.accounts.mark_installed(identity.epoch)
            self._epoch = identity.epoch
        except FaregateError:
            self._has_failed = True
            raise
        finally:
            self._attaching = None

    async def ask(
        self,
        user_id: UUID | None,
        operation: Callable[[], Awaitable[_T]],
        durability: Durability = Durability.MEMORY,
    ) -> _T:
        """Run an operation other than a decision, within `GateOptions.end_timeout_ms`.

        Args:
            user_id: The user that it is about; None if it is about all lanes.
            operation: The operation.
            durability: How safe it is to be before it is answered.

        Raises:
            LedgerUnavailableError: There is no answer, or the breaker is open.
        """
        breaker = self.breakers.of_user(user_id, durability)
        ticket = await self.enter(breaker)
        try:
            answer = await _within(self.options.end_timeout_ms / 1000, operation)
        except BaseException as error:
            breaker.report(ticket, error)
            raise
        breaker.note_success()
        return answer

    async def install(self, user_id: UUID, *, creates: bool = True) -> bool:
        """Install a user from Postgres, in one query for all callers; return whether it exists.

        With `creates` a missing user is created, if the options provision users.
        """
        self.bind()
        key = user_id, creates and self.options.provision_users
        installing = self._installing.get(key)
        if installing is None:
            installing = self._installing[key] = _watched(self._install(user_id, creates=key[1]))
            installing.add_done_callback(lambda _: self._installing.pop(key, None))
        return await _result(installing)

    async def _install(self, user_id: UUID, *, creates: bool) -> bool:
        user = await self.accounts.open(user_id, provision=creates)
        if user is None:
            return False
        if user.epoch != self._epoch:
            # Redis was rebuilt, perhaps with another shard count.
            self._epoch, self.ready_on = 0, None
            await self._attached(None)
        await self.ask(user_id, lambda: self.ledger.install(user))
        return True

    async def aclose(self, is_idle: Callable[[], bool]) -> None:
        """Wait until no request is under way, finish pending work, and close the servers' clients.

        Callers that still wait get a `LedgerUnavailableError`; their voids are written to the
        journal.
        """
        if self._binding.is_closed:
            return
        if self._binding.loop is not None:
            self.bind()
        left_s = await _wait(is_idle, self.options.close_timeout_s)
        await self.retries.join(left_s)
        self._binding.close()
        self._epoch, self.ready_on = 0, None
        if self._attaching is not None:
            self._attaching.cancel()
        for installing in self._installing.values():
            installing.cancel()
        await self.ledger.aclose()
        # One turn of the loop, in which those callers submit their voids.
        await asyncio.sleep(0)
        await self.retries.aclose(0)
        await self.accounts.aclose()


def _check_starting_credits(of_ledger: int, of_policy: int) -> None:
    if of_ledger != of_policy:
        raise ConfigurationError(
            f"the ledger was created with {of_ledger} starting credits, the policy says {of_policy}"
        )


async def _wait(is_idle: Callable[[], bool], seconds_max: float) -> float:
    """Wait until no request is under way; return the rest of the time, in seconds."""
    now_s = asyncio.get_running_loop().time
    ends_at_s = now_s() + seconds_max
    # Polled, since each request pays for a count, and only a close for a wait.
    while not is_idle() and now_s() < ends_at_s:  # noqa: ASYNC110
        await asyncio.sleep(_POLL_S)
    return max(0.0, ends_at_s - now_s())


async def _within(timeout_s: float, operation: Callable[[], Awaitable[_T]]) -> _T:
    try:
        async with asyncio.timeout(timeout_s):
            return await operation()
    except TimeoutError as error:
        raise OutcomeUnknownError(f"no answer from Redis within {timeout_s:.3f} s") from error


def _watched(work: Awaitable[_T]) -> asyncio.Future[_T]:
    """Start a shared task.

    Its exception is retrieved here, since all waiting callers may give up.
    """
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


async def _result(task: asyncio.Future[_T], timeout_s: float | None = None) -> _T:
    """Wait for a shared task without cancelling it."""
    await asyncio.wait([task], timeout=timeout_s)
    if not task.done():
        raise LedgerUnavailableError("the gate has not started yet; it is trying to")
    if task.cancelled():
        raise LedgerUnavailableError("the gate was closed")
    return task.result()
