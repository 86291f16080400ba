"""An order: a change of credits that SQL has asked for, to be made once."""

from dataclasses import dataclass
from datetime import datetime

from faregate.domain.request import Credit


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order that a worker has taken."""

    credit: Credit
    #: When the order is due again; another worker that takes it later changes this.
    due_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCounts:
    """Counts of orders."""

    #: Orders that are not rows yet, and the age of the oldest, in seconds.
    waiting: int
    oldest_s: float
    #: Refused orders, which have a reason.
    refused: int
