"""What has happened to a user's credits, as the user reads it: page by page, the newest first."""

from dataclasses import dataclass
from datetime import datetime

from faregate.domain.transaction import CreditTransactionId, TransactionType

#: How many rows one page may have.
PAGE_LENGTH_MAX = 100
#: How many rows a page has if nothing is said.
PAGE_LENGTH = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPlace:
    """Where a row stands: by its time, and by its id among those of the same time."""

    #: The time of the row.
    timestamp: datetime
    #: The id of the row.
    id: CreditTransactionId


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRow:
    """One transaction of a user. Metadata is for programs of the application, and not in it."""

    #: Its identity.
    id: CreditTransactionId
    #: The kind of change.
    type: TransactionType
    #: The change, in credits; its sign follows the type.
    amount: int
    #: Its reason, for people.
    description: str
    #: When the balance changed.
    timestamp: datetime
    #: The balance right after it; None for a row that Faregate did not write.
    balance_after: int | None
    #: The deduct that a refund gives back.
    refund_of: CreditTransactionId | None

    @property
    def place(self) -> HistoryPlace:
        """Where it stands."""
        return HistoryPlace(timestamp=self.timestamp, id=self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPage:
    """A stretch of a history without a gap."""

    #: The rows, the newest first.
    rows: tuple[HistoryRow, ...]
    #: Where the next page goes on; None if there is none.
    ends_at: HistoryPlace | None
