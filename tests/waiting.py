"""Waits for what happens by itself: as long as it takes on a busy machine, and never for ever."""

import asyncio
import time
from collections.abc import Callable

#: Reached only where something is broken: what works is waited for by its condition.
WAIT_S_MAX = 120.0
#: Looking costs something, too: a connection, or a process.
PAUSE_S = 0.01
PAUSE_FOR_OTHERS_S = 0.05


async def until(condition: Callable[[], object], what: str = "what is waited for") -> None:
    """Wait until something is so, while the event loop goes on."""
    ends_at_s = time.monotonic() + WAIT_S_MAX
    while not condition():
        assert time.monotonic() < ends_at_s, f"never happened: {what}"
        await asyncio.sleep(PAUSE_S)


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Wait until something is so, in another process or thread."""
    ends_at_s = time.monotonic() + WAIT_S_MAX
    while not condition():
        assert time.monotonic() < ends_at_s, f"never happened: {what}"
        time.sleep(PAUSE_FOR_OTHERS_S)
