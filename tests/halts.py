"""Points at which a job halts, so that a test may kill something just there."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from waiting import WAIT_S_MAX, wait_for

_LOOK_S = 0.002


@dataclass(frozen=True, slots=True)
class Halts:
    """What test and jobs tell each other by files in a folder."""

    folder: Path

    def reach(self, point: str) -> None:
        """Halt at a point, if it is armed and no other job was there before."""
        halted = self.folder / f"halted {os.getpid()}"
        try:
            (self.folder / f"arm {point}").rename(halted)
        except FileNotFoundError:
            return
        ends_at_s = time.monotonic() + WAIT_S_MAX
        while halted.exists() and time.monotonic() < ends_at_s:
            time.sleep(_LOOK_S)

    @contextmanager
    def at(self, point: str) -> Iterator[int]:
        """Wait until a job halts at a point; yield its process id, and let it go on."""
        (self.folder / f"arm {point}").touch()
        wait_for(self._halted, f"a job is there: {point}")
        (halted,) = self._halted()
        try:
            yield int(halted.name.split()[1])
        finally:
            halted.unlink()

    def _halted(self) -> list[Path]:
        return list(self.folder.glob("halted *"))
