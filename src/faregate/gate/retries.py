"""Retries actions in the background until they are done: voids, refunds, ends of holds."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias, TypeVar
from uuid import UUID

from faregate.domain.errors import (
    ArchiveUnavailableError,
    FaregateError,
    InvalidArgumentError,
    JournalError,
    LedgerError,
    TransactionConflictError,
)
from faregate.domain.transaction import CreditTransactionId

_T = TypeVar("_T")

#: The most actions that wait. Each belongs to a request that was answered "not charged".
QUEUE_LENGTH_MAX = 10_000
#: How long one action is tried before it is given up, in seconds.
TRIES_S_MAX = 600.0
#: How many are tried at once, so that requests have priority.
RUNNING_MAX = 8

_DELAY_MIN_S = 0.05
_DELAY_MAX_S = 2.0

#: Returns whether it is done. False and a `FaregateError` both mean: try again later.
Action: TypeAlias = Callable[[], Awaitable[bool]]
#: Writes an action that is given up to the journal; returns whether it did.
ToJournal: TypeAlias = Callable[[], bool]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Name:
    """The name of an action in the log, with its transaction."""

    what: str
    transaction_id: CreditTransactionId
    user_id: UUID

    def __str__(self) -> str:
        return f"{self.what} {self.transaction_id} of user {self.user_id}"


class RetryQueue:
    """Tries each action with its own growing delay, in tasks of the event loop."""

    def __init__(
        self,
        *,
        length_max: int = QUEUE_LENGTH_MAX,
        tries_s_max: float = TRIES_S_MAX,
    ) -> None:
        self._length_max = length_max
        self._tries_s_max = tries_s_max
        #: The number of actions that were given up for good. Each was logged.
        self.given_up = 0
        self.open()

    def open(self) -> None:
        """Accept actions, on the running event loop."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(RUNNING_MAX)
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    def submit(
        self,
        name: object,
        action: Action,
        to_journal: ToJournal | None = None,
        *,
        after_s: float = 0.0,
    ) -> None:
        """Try `action` until it is done.

        Args:
            name: The name of the action in the log.
            action: The action.
            to_journal: Writes a given up action to the journal, and returns whether it did.
            after_s: The wait before the first try, in seconds.
        """
        if self._is_closed or len(self._tasks) >= self._length_max:
            why = "the gate is closed" if self._is_closed else "too many actions wait"
            self._give_up(name, why, to_journal)
            return
        task = asyncio.get_running_loop().create_task(self._run(name, action, to_journal, after_s))
        self._tasks.add(task)

        def note_end(done: asyncio.Task[None]) -> None:
            self._tasks.discard(done)
            if done.cancelled():
                self._give_up(name, "closed before it was done", to_journal)

        task.add_done_callback(note_end)

    async def ensure(self, name: object, operation: Callable[[], Awaitable[_T]]) -> _T | None:
        """Run an operation now or, if it fails, in the background until it succeeds.

        Args:
            name: The name of the operation in the log.
            operation: The operation, which must be idempotent.

        Returns:
            The answer, or None if it is tried in the background.
        """

        async def again() -> bool:
            # A conflict means that it was done in another way, so retrying is useless.
            with suppress(TransactionConflictError):
                await operation()
            return True

        try:
            return await operation()
        except (LedgerError, ArchiveUnavailableError, JournalError) as error:
            _log.debug("retrying in the background: %s: %s", name, error)
        except asyncio.CancelledError:
            self.submit(name, again)
            raise
        self.submit(name, again)
        return None

    async def _run(
        self, name: object, action: Action, to_journal: ToJournal | None, after_s: float
    ) -> None:
        await asyncio.sleep(after_s)
        loop = asyncio.get_running_loop()
        gives_up_at_s = loop.time() + self._tries_s_max
        delay_s = _DELAY_MIN_S
        while loop.time() < gives_up_at_s:
            try:
                async with self._turns:
                    if await action():
                        return
            except InvalidArgumentError as error:
                self._give_up(name, str(error), to_journal)
                return
            except FaregateError as error:
                _log.debug("retrying in the background: %s: %s", name, error)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _DELAY_MAX_S)
        self._give_up(name, f"not done within {self._tries_s_max:.0f} s", to_journal)

    def _give_up(self, name: object, why: str, to_journal: ToJournal | None) -> None:
        if to_journal is not None and to_journal():
            _log.warning("action written to the journal: %s (%s)", name, why)
            return
        self.given_up += 1
        _log.error("action given up: %s (%s); settle it by hand", name, why)

    async def join(self, timeout_s: float) -> bool:
        """Wait until no action is left; return whether that happened in time."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        return not self._tasks

    async def aclose(self, timeout_s: float) -> None:
        """Wait for running actions, then give up and log the rest."""
        await self.join(timeout_s)
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
