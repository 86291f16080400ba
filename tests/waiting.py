"""Waits for what happens in the background, and never for ever."""

import asyncio
import time
from collections.abc import Callable

WAIT_S_MAX = 20.0


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    ends_at_s = time.monotonic() + WAIT_S_MAX
    while not condition():
        assert time.monotonic() < ends_at_s, "it never came to be"
        await asyncio.sleep(0.005)
