"""Log lines that an outage repeats: one a second of each kind, with a count of the others."""

import logging
import time
from collections.abc import Callable

#: The interval between two lines of a kind, in seconds.
INTERVAL_S = 1.0


class PacedLog:
    """Writes lines of one kind."""

    def __init__(
        self,
        log: logging.Logger,
        level: int = logging.WARNING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._level = level
        self._clock = clock
        self._next_at_s = float("-inf")
        self._left_out = 0

    def __call__(self, message: str, *values: object) -> None:
        """Write a line, or count it if one was written within the last second."""
        now_s = self._clock()
        if now_s < self._next_at_s:
            self._left_out += 1
            return
        if self._left_out:
            message, values = f"{message} (and %d more)", (*values, self._left_out)
        self._next_at_s, self._left_out = now_s + INTERVAL_S, 0
        self._log.log(self._level, message, *values)
