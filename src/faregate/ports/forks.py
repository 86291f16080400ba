"""The ports to forks: where Redis continued without its newest records."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from faregate.domain.alignment import Aligned, Alignment


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedAnswers:
    """The decisions that a gate was given in a shard, and that Redis then lost."""

    shard: int
    epoch: int
    #: The name of the report, which is the same if it is read again.
    report: str
    #: The ids of the transactions.
    ids: Sequence[UUID]
    #: Whether more may be lost than the gate remembers.
    is_at_least: bool


class LostAnswerReports(Protocol):
    """The reports of gates. Implemented for Redis."""

    def read(self) -> Sequence[ReportedAnswers]:
        """Return all reports, but for those of shards that do not answer.

        An unreadable report has no ids.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        ...

    def forget(self, answers: ReportedAnswers) -> None:
        """Delete a report that is stored; raises as `read` does."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DueUser:
    """A user whose live balance must follow kept records of a fork."""

    fork_id: int
    shard: int
    user_id: UUID
    #: Since when.
    due_at: datetime


class Forks(Protocol):
    """Forks and their records. Implemented for Postgres, for the worker.

    Every method raises `ArchiveUnavailableError` where Postgres does not answer in time.
    """

    def store(self, answers: ReportedAnswers) -> int:
        """Store a report, once; return how many ids are new."""
        ...

    def name_more(self) -> bool:
        """Name more kept records of forks with very many; return whether there are more."""
        ...

    def due(self, after: DueUser | None, count_max: int) -> Sequence[DueUser]:
        """Return the next users whose live balances must be compared and aligned."""
        ...

    def note_aligned(self, users: Sequence[tuple[DueUser, bool]]) -> None:
        """Note that balances are right: found right (true), or aligned just now (false)."""
        ...

    def begin(self, user: DueUser, alignment: Alignment) -> bool:
        """Note an alignment before it is sent; return False if its user was deleted."""
        ...

    def end(self, alignment: Alignment, aligned: Aligned | None) -> None:
        """Note the answer; None if the alignment was refused."""
        ...

    def unanswered(self, count_max: int) -> Sequence[Alignment]:
        """Return alignments of dead workers without a known answer, to be sent again."""
        ...
