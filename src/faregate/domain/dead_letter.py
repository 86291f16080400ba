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
    #: It is of an epoch that is over, and does not follow from the last row of its user.
    FORK = "fork"


class LetterOutcome(StrEnum):
    """The outcome of a dead letter."""

    #: It counts no more, and there is no row of it.
    DISCARDED = "discarded"
    #: The record is a row, as it was recorded.
    RETRIED = "retried"
    #: A row stands in place of the record; its metadata have actor and reason.
    RESOLVED = "resolved"
    #: It is still a dead letter, and counts as pending.
    STAYS = "stays"


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterResult:
    """One dead letter after an operator has treated it."""

    id: int
    kind: str
    #: Whose record it is; None where it cannot be read, or nothing of it is left.
    user_id: UUID | None
    amount: int | None
    outcome: LetterOutcome
    #: Whether that had been done before, so that nothing was changed.
    repeated: bool = False
    #: Why it stays.
    reason: str | None = None
    #: The row that it became.
    row_id: UUID | None = None
