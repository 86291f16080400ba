"""The steps of a repair, planned as values, each with a sentence for the operator."""

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

    #: Rows and records count as they are.
    LEDGER = "ledger"
    #: No user pays for a charge that no row or record shows.
    USER = "user"


class StepAction(StrEnum):
    """The kinds of steps."""

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
    #: A row that was made by hand counts from now on.
    REGISTER = "register"
    #: The live balance gets missing credits, or loses excess ones.
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
    #: No command repairs it; the sentence says what to do.
    NONE = "none"

    @property
    def is_done(self) -> bool:
        """Whether anything is done."""
        return self not in {StepAction.WAIT, StepAction.NONE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The step that answers one finding."""

    finding: Finding
    action: StepAction
    #: One sentence, with numbers.
    says: str
    #: By how many credits a balance changes, or the amount of a new row.
    amount: int | None = None
    #: The rows that are stored, or the one that takes the place of `row_id`.
    rows: tuple[Row, ...] = ()
    #: The drift of a live balance, as it was measured.
    drift: LiveDrift | None = None
    #: The row that was changed.
    row_id: UUID | None = None
    #: Findings that are accepted with it.
    accepts: tuple[Finding, ...] = ()

    @property
    def users(self) -> Sequence[UUID]:
        """The users whose rows it changes: two if a row was given to another user."""
        users = {UUID(str(row["user_id"])) for row in self.rows}
        if self.finding.user_id:
            users.add(self.finding.user_id)
        return sorted(users)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairEvent:
    """One step that is taken, with actor and reason."""

    id: UUID
    step: Step
    actor: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveChange:
    """The change of a live balance."""

    #: The next row follows from the balance after this transaction.
    sequence: int
    credits_before: int
    credits_after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RowContext:
    """The rows and sums around some numbers of a user."""

    #: The row before the first of them, and the row after the last.
    before: Row | None
    after: Row | None
    #: The amounts of dead letters, by their numbers.
    moves: tuple[tuple[int, int], ...]
    #: The sum of the rows that are older than Faregate.
    opening: int
    #: The durable balance and its number, if there is a profile.
    credits: int | None
    sequence: int | None
    #: The sum of all rows.
    total: int

    @property
    def balance(self) -> int:
        """The balance after the row before."""
        return self.opening if self.before is None else cast("int", self.before["balance_after"])

    def moved(self, first: int, last: int) -> int:
        """Return the sum of the dead letters numbered `first` to `last`."""
        return sum(amount for number, amount in self.moves if first <= number <= last)
