"""Periods of allowances: by the calendar in UTC, or rolling from a user's first request.

All times are Unix milliseconds by the clock of Redis. `lua/lib/periods.lua` computes the same, and
tests compare the two.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from faregate.domain.errors import InvalidArgumentError

DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS
#: The Monday before the first of January 1970, which was a Thursday.
_MONDAY_MS = -3 * DAY_MS
_DAYS_MAX = 366
_LENGTH_MS_MIN = 1_000
_MONTHS = 12


class PeriodKind(StrEnum):
    """How periods follow each other."""

    #: From 00:00 UTC.
    DAY = "day"
    #: From Monday, 00:00 UTC.
    WEEK = "week"
    #: From the first of the month, 00:00 UTC.
    MONTH = "month"
    #: A fixed length, from the user's first request.
    ROLLING = "rolling"


_LENGTHS_MS = {PeriodKind.DAY: DAY_MS, PeriodKind.WEEK: WEEK_MS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """The period of an allowance."""

    #: A calendar period, or a rolling one.
    kind: PeriodKind
    #: The length of a rolling period in milliseconds; 0 for the others.
    length_ms: int = 0

    def __post_init__(self) -> None:
        if self.kind is PeriodKind.ROLLING:
            if not _LENGTH_MS_MIN <= self.length_ms <= _DAYS_MAX * DAY_MS:
                raise InvalidArgumentError(
                    f"a rolling period lasts from a second to {_DAYS_MAX} days, in milliseconds"
                )
        elif self.length_ms:
            raise InvalidArgumentError(
                f"leave out `length_ms`: the calendar sets the length of a {self.kind}"
            )

    @property
    def fixed_length_ms(self) -> int | None:
        """The length of each period, in milliseconds; None for months, which differ."""
        return None if self.kind is PeriodKind.MONTH else self.length_ms or _LENGTHS_MS[self.kind]

    def start_ms(self, now_ms: int, anchor_ms: int) -> int:
        """Return when the period that contains `now_ms` began.

        Args:
            now_ms: The time.
            anchor_ms: The start of an earlier rolling period; `now_ms` for the first one.
        """
        length_ms = self.fixed_length_ms
        if length_ms is None:
            now = datetime.fromtimestamp(now_ms / 1000, UTC)
            return _unix_ms(now.year, now.month)
        if self.kind is not PeriodKind.ROLLING:
            anchor_ms = _MONDAY_MS
        return now_ms - (now_ms - anchor_ms) % length_ms

    def end_ms(self, start_ms: int) -> int:
        """Return when the period that began at `start_ms` ends, and the next one begins."""
        length_ms = self.fixed_length_ms
        if length_ms is not None:
            return start_ms + length_ms
        start = datetime.fromtimestamp(start_ms / 1000, UTC)
        return _unix_ms(start.year + start.month // _MONTHS, start.month % _MONTHS + 1)


def _unix_ms(year: int, month: int) -> int:
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * 1000
