"""The steps of a repair, planned as values, each with a sentence for the operator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias, cast
from uuid import UUID

from faregate.domain.alignment import LiveDrift
from faregate.domain.finding import Finding

#: A row of `credit_transactions` as JSON, by the names of its columns.
Row: TypeAlias = Mapping[str, object]


class Favour(StrEnum):
    """Who benefits if numbers contradict each other and none is proven."""

    #: The ledger: rows and records count as they are.
    LEDGER = "ledger"
    #: The user: a charge without a row or record is not paid.
    USER = "user"


class StepAction(StrEnum):
    """The kinds of steps."""

    #: The profile gets the sum and the last number of its user's rows.
    RECOMPUTE = "recompute"
    #: The same, if the last number of the profile is higher than any real one.
    REWIND = "rewind"
    #: Lost rows are stored again.
    STORE = "store"
    #: A changed row gets its former content.
    RESTORE = "restore"
    #: A new row closes a gap.
    CLOSE = "close"
    #: A row that was written by hand counts from now on.
    REGISTER = "register"
    #: The live balance gets missing credits, or loses excess ones.
    CORRECT = "correct"
    #: The live balance stays, and a record makes the ledger follow it.
    RECORD = "record"
    #: The user is charged by an adjustment.
    ADJUST = "adjust"
    #: The whole schema is restored to that of the migrations.
    RESTORE_SCHEMA = "restore_schema"
    #: A new epoch begins in an empty Redis.
    REBUILD = "rebuild"
    #: The finding is accepted, and is no alarm any more.
    ACKNOWLEDGE = "acknowledge"
    #: Another step comes first.
    WAIT = "wait"
    #: No command repairs it; the sentence says what to do.
    NONE = "none"

    @property
    def is_done(self) -> bool:
        """Whether the step changes anything."""
        return self not in {StepAction.WAIT, StepAction.NONE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The step for one finding."""

    finding: Finding
    action: StepAction
    #: One sentence, with numbers.
    says: str
    #: The change of a balance, or the amount of a new row, in credits.
    amount: int | None = None
    #: The rows that are stored, or the row that replaces `row_id`.
    rows: tuple[Row, ...] = ()
    #: The measured drift of a live balance.
    drift: LiveDrift | None = None
    #: The row that was changed.
    row_id: UUID | None = None
    #: Findings that are accepted with it.
    accepts: tuple[Finding, ...] = ()

    @property
    def users(self) -> Sequence[UUID]:
        """The users whose rows it changes: two if a row was moved to another user."""
        users = {UUID(str(row["user_id"])) for row in self.rows}
        if self.finding.user_id:
            users.add(self.finding.user_id)
        return sorted(users)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairEvent:
    """A step that is applied, with actor and reason."""

    id: UUID
    step: Step
    actor: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveChange:
    """The change of a live balance."""

    #: The last transaction before the change.
    sequence: int
    credits_before: int
    credits_after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RowContext:
    """The rows and sums around some sequence numbers of a user."""

    #: The row before the first of them, and the row after the last.
    before: Row | None
    after: Row | None
    #: The amounts of dead letters by sequence.
    moves: tuple[tuple[int, int], ...]
    #: The sum of the rows that are older than Faregate.
    opening: int
    #: The durable balance and its sequence; None without a profile.
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
