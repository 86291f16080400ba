"""An order: a change of credits that SQL has asked for, to be made once."""

from dataclasses import dataclass
from datetime import datetime

from faregate.domain.request import Credit


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order as a worker has taken it."""

    credit: Credit
    #: When it is due again. Another worker that takes it later changes this.
    due_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCounts:
    """How many orders are there."""

    #: Those that are not rows yet, and for how long the oldest has been waiting, in seconds.
    waiting: int
    oldest_s: float
    #: Those that were not made, and say why.
    refused: int
