"""Percentiles, medians, spreads, ratios."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Self


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some values, and the smallest and largest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Self | None:
        """Summarise the values that there are; None of none."""
        found = [value for value in values if value is not None]
        return cls(median(found), min(found), max(found)) if found else None


def percentile_ms(ascending_s: Sequence[float], percent: int) -> float | None:
    """Return a percentile, by the nearest rank, of times in seconds; None of none."""
    if not ascending_s:
        return None
    rank = -(-percent * len(ascending_s) // 100)
    return round(ascending_s[max(0, rank - 1)] * 1_000, 3)


def ratio(value: float | None, base: float | None) -> float | None:
    """Return how often a base goes into a value; None where either is missing."""
    return value / base if value is not None and base else None
