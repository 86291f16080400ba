"""When an event loop ran nothing: a processor that is busy makes calls late, too."""

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

#: How often the loop is looked at, and the shortest pause that counts.
LOOK_S = 0.005


@dataclass(slots=True)
class LoopPauses:
    """The pauses of an event loop, in seconds of its clock."""

    ends: list[float] = field(default_factory=list)
    lengths: list[float] = field(default_factory=list)

    @asynccontextmanager
    async def noted(self) -> AsyncIterator[None]:
        """Note pauses during the block."""
        noting = asyncio.ensure_future(self._note())
        try:
            yield
        finally:
            noting.cancel()

    async def _note(self) -> None:
        now_s = asyncio.get_running_loop().time
        while True:
            due_s = now_s() + LOOK_S
            await asyncio.sleep(LOOK_S)
            late_s = now_s() - due_s
            if late_s > LOOK_S:
                self.ends.append(due_s + late_s)
                self.lengths.append(late_s)

    def within(self, at_s: float, took_s: float) -> float:
        """Return how long the loop paused during a call, in seconds."""
        total = 0.0
        for i in range(bisect_left(self.ends, at_s), len(self.ends)):
            began_s = self.ends[i] - self.lengths[i]
            if began_s >= at_s + took_s:
                break
            total += min(self.ends[i], at_s + took_s) - max(began_s, at_s)
        return total
