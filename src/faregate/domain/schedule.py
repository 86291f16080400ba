"""The schedule of reconciliations."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

#: The interval in which all users are compared, in seconds.
WHOLE_INTERVAL_S = 86_400.0


class Run(StrEnum):
    """The users that a reconciliation compares."""

    #: All users.
    WHOLE = "whole"
    #: Users with rows since the last one.
    RECENT = "recent"


@dataclass(frozen=True, slots=True, kw_only=True)
class LastRun:
    """The last reconciliation."""

    #: The time since it began and ended, in seconds.
    began_s: float
    ended_s: float
    #: The time since the last one of all users began; None if there was none.
    whole_s: float | None
    drift_users: int
    #: The number of findings of each kind.
    finding_counts: Mapping[str, int]


def due(last: LastRun | None, every_s: float) -> Run | None:
    """Return which reconciliation is due, if any.

    Args:
        last: The last one; None if there was none.
        every_s: The interval in which users with new rows are compared, in seconds.
    """
    if last is None or last.whole_s is None or last.whole_s >= WHOLE_INTERVAL_S:
        return Run.WHOLE
    return Run.RECENT if last.began_s >= every_s else None
