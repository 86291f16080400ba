"""Dead letters: records that cannot be rows, and their outcomes."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class LetterKind(StrEnum):
    """Why a record cannot be a row."""

    #: Its user is missing.
    DELETED_USER = "deleted_user"
    #: Its id is known with other content.
    CONFLICT = "conflict"
    #: Postgres refuses it.
    REFUSED = "refused"
    #: It cannot be read.
    UNREADABLE = "unreadable"
    #: It belongs to an earlier epoch, and does not follow the last row of its user.
    FORK = "fork"


class LetterOutcome(StrEnum):
    """The outcome of a dead letter."""

    #: It does not count any more, and has no row.
    DISCARDED = "discarded"
    #: The record is a row, as it was recorded.
    RETRIED = "retried"
    #: A row stands in place of the record; its metadata have actor and reason.
    RESOLVED = "resolved"
    #: It remains a dead letter, and counts as pending.
    STAYS = "stays"


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterResult:
    """The result of an operator's action on one dead letter."""

    id: int
    kind: str
    #: The user of the record; None if it is unreadable, or was removed.
    user_id: UUID | None
    amount: int | None
    outcome: LetterOutcome
    #: Whether it was done before, so that nothing changed.
    repeated: bool = False
    #: Why it remains a dead letter.
    reason: str | None = None
    #: The row that it became.
    row_id: UUID | None = None
