"""The time of this machine, where no test has its own."""

import time
from datetime import UTC, datetime


def unix_ms() -> int:
    """Return the time in Unix milliseconds."""
    return time.time_ns() // 1_000_000


def utc(time_ms: int) -> datetime:
    """Return a time in Unix milliseconds as a date."""
    return datetime.fromtimestamp(time_ms / 1000, UTC)
