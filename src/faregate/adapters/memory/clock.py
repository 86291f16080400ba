"""Times: of this machine, where no test has its own, and as dates."""

import time
from datetime import UTC, datetime


def unix_ms() -> int:
    """Return the time in Unix milliseconds."""
    return time.time_ns() // 1_000_000


def unix_ms_of(moment: datetime | None) -> int | None:
    """Return a date in Unix milliseconds, if there is one."""
    return None if moment is None else round(moment.timestamp() * 1000)


def utc(time_ms: int) -> datetime:
    """Return a time in Unix milliseconds as a date."""
    return datetime.fromtimestamp(time_ms / 1000, UTC)
