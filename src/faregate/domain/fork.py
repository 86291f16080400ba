"""Forks: where Redis continued without its newest records, as after a failover."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

#: The actor of the alignments that workers make after a fork.
ALIGNER: Final = "faregate worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkReport:
    """A fork of one shard, and what is known of its records now."""

    id: int
    shard: int
    epoch: int
    #: When a worker noticed it.
    noticed_at: datetime
    #: The last stored entry, which Redis has lost, and the last entry at the end of a batch that
    #: both histories have. Empty if Redis has lost no stored entry.
    position_before: str
    position_after: str
    #: The number of lost records that are rows or dead letters.
    kept: int
    #: The number of decisions that gates were given and that Redis then lost, with their charges.
    lost: int
    #: Whether more decisions may be lost than gates remember.
    is_at_least: bool
    #: The number of users with kept records, and of those whose live balances include them.
    users: int
    aligned: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentForks:
    """The forks of the last day, and those whose users still wait."""

    forks: int
    #: The sums of `ForkReport`.
    kept: int
    lost: int
    #: The number of users whose live balances do not include their kept records yet.
    users_waiting: int

    @classmethod
    def of(cls, reports: Sequence[ForkReport]) -> "RecentForks":
        """Add up forks."""
        return cls(
            forks=len(reports),
            kept=sum(report.kept for report in reports),
            lost=sum(report.lost for report in reports),
            users_waiting=sum(report.users - report.aligned for report in reports),
        )
