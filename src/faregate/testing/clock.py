"""A clock that a test advances."""

from datetime import UTC, datetime

#: The first of January 2026: a Thursday, and the first day of a month and of a year.
START_MS = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1000


class Clock:
    """A clock in Unix milliseconds that stands still until it is advanced."""

    def __init__(self, ms: int = START_MS) -> None:
        self.ms = ms

    def __call__(self) -> int:
        """Return the time."""
        return self.ms

    def advance(self, ms: int) -> None:
        """Advance the clock."""
        self.ms += ms
