"""Totals of a worker, which its processes count together from its start to its end.

Jobs run in short-lived processes, which cannot be asked for their numbers. So they count in shared
memory. A job is forked from the worker and inherits its mapping. The ticker, which serves the
metrics, gets the file. If a job is killed, its counts stay. There is no lock: if two processes
count at the same moment, which is rare in one worker, one of two increments may be lost.
"""

import os
import tempfile
from dataclasses import fields
from mmap import mmap

from faregate.domain.histogram import Histogram
from faregate_worker.drain import Drained

#: The work of drains, and how often records stayed pending because a shard was blocked or a server
#: did not answer.
TOTALS = (*(field.name for field in fields(Drained)), "blocked", "outage")
#: Bounds of two histograms: the time to store a batch, in seconds, and its records.
BATCH_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BATCH_RECORDS = (1, 10, 100, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
_RECORDS_AT = len(TOTALS) + len(BATCH_SECONDS) + 2
_END = _RECORDS_AT + len(BATCH_RECORDS) + 2
_BYTES = 8 * _END


class Counts:
    """Numbers that only grow."""

    def __init__(self) -> None:
        self.open(-1)

    def open(self, fd: int) -> None:
        """Count in the file of a descriptor; -1 for memory of this process and its forks."""
        self._cells = cells = memoryview(mmap(fd, _BYTES)).cast("d")
        self.batch_seconds = Histogram(BATCH_SECONDS, cells[len(TOTALS) : _RECORDS_AT])
        self.batch_records = Histogram(BATCH_RECORDS, cells[_RECORDS_AT:])

    def share(self) -> int:
        """Count in a new anonymous file, and return its descriptor for a child process."""
        with tempfile.TemporaryFile() as file:
            file.truncate(_BYTES)
            self.open(file.fileno())
            return os.dup(file.fileno())

    def add(self, **amounts: int) -> None:
        """Add to some totals."""
        for name, amount in amounts.items():
            self._cells[TOTALS.index(name)] += amount

    @property
    def totals(self) -> dict[str, float]:
        """All totals."""
        return dict(zip(TOTALS, self._cells, strict=False))


#: The totals of the worker of this process. A job inherits them by its fork.
COUNTS = Counts()
