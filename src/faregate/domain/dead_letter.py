"""Dead letters: records that cannot be rows, and their outcomes."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class LetterKind(StrEnum):
    """Why a record cannot be a row."""

    #: The user of the record is missing.
    DELETED_USER = "deleted_user"
    #: The id of the record is known with other content.
    CONFLICT = "conflict"
    #: Postgres refuses it.
    REFUSED = "refused"
    #: The record cannot be read.
    UNREADABLE = "unreadable"
    #: The record belongs to an earlier epoch, and does not follow the last row of its user. Or it
    #: was made again after Redis lost it, and is discarded from the start.
    FORK = "fork"


class LetterOutcome(StrEnum):
    """The outcome of a dead letter."""

    #: The record does not count any more, and has no row.
    DISCARDED = "discarded"
    #: The record is a row, as it was recorded.
    RETRIED = "retried"
    #: A row stands in place of the record; its metadata have actor and reason.
    RESOLVED = "resolved"
    #: The record remains a dead letter, and counts as pending.
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
    #: Whether the action was done before, so that nothing changed.
    repeated: bool = False
    #: Why the record remains a dead letter.
    reason: str | None = None
    #: The row that it became.
    row_id: UUID | None = None
