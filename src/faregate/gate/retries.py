"""Does in the background what could not be done at once, until it is done."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from faregate.domain.errors import FaregateError

#: How many actions may wait. Each stands for one request that was answered "not charged".
QUEUE_LENGTH_MAX = 10_000
#: How long one action is tried before an operator is told to look at it.
TRIES_SECONDS_MAX = 600.0
#: How many are tried at a time, so that requests find connections while Redis does not answer.
RUNNING_MAX = 8

_DELAY_MIN_S = 0.05
_DELAY_MAX_S = 2.0

#: Returns whether it is done; False and a `FaregateError` alike mean: try again later.
Action: TypeAlias = Callable[[], Awaitable[bool]]
#: Keeps an action that is given up for somebody else; returns whether it did.
Keep: TypeAlias = Callable[[], bool]


def _keep_nothing() -> bool:
    return False


_log = logging.getLogger(__name__)


class RetryQueue:
    """Tries actions again, each with its own growing delay, in tasks of the running loop."""

    def __init__(
        self,
        *,
        length_max: int = QUEUE_LENGTH_MAX,
        tries_seconds_max: float = TRIES_SECONDS_MAX,
    ) -> None:
        self._length_max = length_max
        self._tries_seconds_max = tries_seconds_max
        self._tasks: dict[asyncio.Task[None], Keep] = {}
        self._turns = asyncio.Semaphore(RUNNING_MAX)
        self._closed = False
        #: How many actions were given up for good. Each has been logged, with its name.
        self.given_up = 0

    def __len__(self) -> int:
        return len(self._tasks)

    def submit(self, name: str, action: Action, keep: Keep = _keep_nothing) -> None:
        """Try `action` until it is done.

        Args:
            name: Tells an operator what was given up.
            action: What to try.
            keep: Is asked once the action is given up.
        """
        if self._closed:
            self._give_up(name, "the gate is closed", keep)
            return
        if len(self._tasks) >= self._length_max:
            self._give_up(name, "too many actions wait", keep)
            return
        task = asyncio.get_running_loop().create_task(self._run(name, action, keep), name=name)
        self._tasks[task] = keep
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    async def _run(self, name: str, action: Action, keep: Keep) -> None:
        loop = asyncio.get_running_loop()
        gives_up_at_s = loop.time() + self._tries_seconds_max
        delay_s = _DELAY_MIN_S
        while loop.time() < gives_up_at_s:
            try:
                async with self._turns:
                    if await action():
                        return
            except FaregateError as error:
                _log.debug("%s: %s; trying again", name, error)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _DELAY_MAX_S)
        self._give_up(name, f"not done within {self._tries_seconds_max:.0f} s", keep)

    def _give_up(self, name: str, why: str, keep: Keep) -> None:
        if keep():
            _log.warning("left to the journal: %s (%s)", name, why)
            return
        self.given_up += 1
        _log.error("given up: %s (%s); settle it by hand", name, why)

    async def join(self, timeout_s: float) -> bool:
        """Wait until nothing is left to do; return whether that was so in time."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=timeout_s)
        return not self._tasks

    async def aclose(self, timeout_s: float) -> None:
        """Wait for what is under way, then give the rest up, by name."""
        await self.join(timeout_s)
        self._closed = True
        left = dict(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for task, keep in left.items():
            if task.cancelled():
                self._give_up(task.get_name(), "closed before it was done", keep)
