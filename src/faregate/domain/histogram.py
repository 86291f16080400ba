"""A histogram: how many values were observed up to each of some bounds, and their sum."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Self


@dataclass(slots=True)
class Histogram:
    """Counts in a flat row of cells, so that to observe a value costs a fraction of a µs.

    The cells may lie in memory that several processes share. Two of them that observe at the same
    moment may lose one of the two.
    """

    #: The greatest value of each bucket, ascending. One without a bound follows.
    bounds: Sequence[float]
    #: One for each bucket, and one for the sum of all values.
    cells: "list[float] | memoryview[float]"

    @classmethod
    def empty(cls, bounds: Sequence[float]) -> Self:
        """Make one that has observed nothing."""
        return cls(bounds, [0.0] * (len(bounds) + 2))

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, as often as it was seen."""
        self.cells[bisect_left(self.bounds, value)] += times
        self.cells[-1] += value * times

    @property
    def total(self) -> float:
        """The sum of all values."""
        return self.cells[-1]

    @property
    def buckets(self) -> list[tuple[str, float]]:
        """Each bound as Prometheus writes it, and how many values are not above it."""
        names = [*(str(float(bound)) for bound in self.bounds), "+Inf"]
        return list(zip(names, accumulate(self.cells[:-1]), strict=True))
