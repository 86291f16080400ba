"""A histogram: counts of values up to some bounds, and their sum."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Self


@dataclass(slots=True)
class Histogram:
    """Counts in a flat array of cells, so that observing a value takes a fraction of a µs.

    Several processes may share the memory of the cells. If two observe at the same moment, one of
    the values may be lost.
    """

    #: The upper bound of each bucket, ascending. A bucket without a bound follows.
    bounds: Sequence[float]
    #: One cell for each bucket, and one for the sum of all values.
    cells: "list[float] | memoryview[float]"

    @classmethod
    def empty(cls, bounds: Sequence[float]) -> Self:
        """Return an empty histogram."""
        return cls(bounds, [0.0] * (len(bounds) + 2))

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, `count` times."""
        self.cells[bisect_left(self.bounds, value)] += times
        self.cells[-1] += value * times

    @property
    def total(self) -> float:
        """The sum of all values."""
        return self.cells[-1]

    @property
    def buckets(self) -> list[tuple[str, float]]:
        """Return each bound in the form of Prometheus, with the number of values up to it."""
        names = [*(str(float(bound)) for bound in self.bounds), "+Inf"]
        return list(zip(names, accumulate(self.cells[:-1]), strict=True))
