"""The history of a user's credits, for the user: pages of rows, the newest first."""

from dataclasses import dataclass
from datetime import datetime

from faregate.domain.transaction import CreditTransactionId, TransactionType

#: The most rows of a page.
PAGE_LENGTH_MAX = 100
#: The default number of rows of a page.
PAGE_LENGTH = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPlace:
    """The place of a row: its time, then its id among rows of the same time."""

    #: The time of the row.
    timestamp: datetime
    #: The id of the row.
    id: CreditTransactionId


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRow:
    """One transaction of a user, without its metadata, which are for the application."""

    #: The id of the row.
    id: CreditTransactionId
    #: The kind of change.
    type: TransactionType
    #: The change, in credits; its sign follows the type.
    amount: int
    #: The reason of the change, for people.
    description: str
    #: When the balance changed.
    timestamp: datetime
    #: The balance right after it; None for a row that Faregate did not write.
    balance_after: int | None
    #: The deduct that a refund gives back.
    refund_of: CreditTransactionId | None

    @property
    def place(self) -> HistoryPlace:
        """The place of the row."""
        return HistoryPlace(timestamp=self.timestamp, id=self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPage:
    """Consecutive rows of a history."""

    #: The rows, the newest first.
    rows: tuple[HistoryRow, ...]
    #: The place where the next page continues; None if there is none.
    ends_at: HistoryPlace | None
