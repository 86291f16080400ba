"""What a repair does about a finding: planned as values, each with a sentence for the operator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias, cast
from uuid import UUID

from faregate.domain.alignment import LiveDrift
from faregate.domain.finding import Finding

#: A row of `credit_transactions` as JSON has it, by the names of its columns.
Row: TypeAlias = Mapping[str, object]


class Favour(StrEnum):
    """Who gets the benefit, where numbers contradict each other and none is proven."""

    #: What rows and records say counts.
    LEDGER = "ledger"
    #: No user pays for what cannot be shown.
    USER = "user"


class Action(StrEnum):
    """What is done."""

    #: The profile gets the sum and the last number of its user's rows.
    RECOMPUTE = "recompute"
    #: The same, where the last number of the profile is beyond all that ever was.
    REWIND = "rewind"
    #: Rows are stored again as they were.
    STORE = "store"
    #: A row that was changed is as it was again.
    RESTORE = "restore"
    #: A new row closes a gap.
    CLOSE = "close"
    #: A row that somebody made by hand counts from now on.
    REGISTER = "register"
    #: The live balance gets what it lacks, or loses what it has beyond.
    CORRECT = "correct"
    #: The live balance stays, and a record makes the ledger follow it.
    RECORD = "record"
    #: The user is charged by an adjustment.
    ADJUST = "adjust"
    #: The schema becomes what the migrations make, as a whole.
    RESTORE_SCHEMA = "restore_schema"
    #: A new epoch begins in an empty Redis.
    REBUILD = "rebuild"
    #: The finding is accepted, and no alarm any more.
    ACKNOWLEDGE = "acknowledge"
    #: Nothing is done now: something else comes first.
    WAIT = "wait"
    #: Nothing here repairs it; the sentence says what may.
    NONE = "none"

    @property
    def is_done(self) -> bool:
        """Whether anything is done."""
        return self not in {Action.WAIT, Action.NONE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is to be done about one finding."""

    finding: Finding
    action: Action
    #: One sentence, with numbers.
    says: str
    #: By how many credits a balance changes, or the amount of a new row.
    amount: int | None = None
    #: The rows that are stored, or the one that takes the place of `row_id`.
    rows: tuple[Row, ...] = ()
    #: What a live balance lacks, as it was measured.
    drift: LiveDrift | None = None
    #: The row that was changed.
    row_id: UUID | None = None
    #: What is accepted along with it.
    accepts: tuple[Finding, ...] = ()

    @property
    def users(self) -> Sequence[UUID]:
        """Whose rows it changes: more than one where a row had been given to somebody else."""
        users = {UUID(str(row["user_id"])) for row in self.rows}
        if self.finding.user_id:
            users.add(self.finding.user_id)
        return sorted(users)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One step that is taken: who takes it, and why."""

    id: UUID
    step: Step
    actor: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveChange:
    """What has become of a live balance."""

    #: The next row follows from the balance after this transaction.
    sequence: int
    credits_before: int
    credits_after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What surrounds some numbers of a user."""

    #: The row before the first of them, and the row after the last.
    before: Row | None
    after: Row | None
    #: What dead letters have moved, by their numbers.
    moves: tuple[tuple[int, int], ...]
    #: What rows add up to that are older than Faregate.
    opening: int
    #: What the profile says, if there is one.
    credits: int | None
    sequence: int | None
    #: What all rows add up to.
    total: int

    @property
    def balance(self) -> int:
        """The balance after the row before."""
        return self.opening if self.before is None else cast("int", self.before["balance_after"])

    def moved(self, first: int, last: int) -> int:
        """Return what was moved without rows by numbers from `first` to `last`."""
        return sum(amount for number, amount in self.moves if first <= number <= last)
