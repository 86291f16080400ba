"""Makes orders of credits from SQL, in a thread of the ticker.

```
faregate.add_credits ─> order ─> take ─> Redis: balance and record, once for the id ─> drain: row
                          ^ due again, until its row is there ─────────────────────────────┘
```

An order is finished only when its row exists. Until then any worker sends it again. Redis knows its
id for a day, and Postgres for good after it is a row. So no order is sent while a record has been
pending for so long that its id might be forgotten. If Redis was lost before the row, it does not
know the id, and makes the change again.
"""

import logging
import time
from collections.abc import Callable, Sequence

from faregate.bootstrap import (
    open_archive,
    open_credits,
    open_installer,
    open_orders,
    open_stream,
)
from faregate.config import Settings
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import (
    AmountError,
    FaregateError,
    InvalidArgumentError,
    TransactionConflictError,
)
from faregate.domain.order import Order
from faregate.ops.backlog import pending_seconds
from faregate.ports import Credits, Installer, Orders, TransactionArchive, TransactionStream
from faregate_worker.drain import require_same_ledger
from faregate_worker.runtime import Stop, repeat

#: The interval between two checks for orders, in seconds.
ORDERS_INTERVAL_S = 0.25
#: The most orders that are taken together.
COUNT_MAX = 500
#: No order is sent while a record has been pending for longer, in seconds: half of the time for
#: which Redis knows its id.
BEHIND_S_MAX = 43_200.0
#: The interval between two checks of the oldest pending record, in seconds.
BACKLOG_INTERVAL_S = 5.0

_logger = logging.getLogger(__name__)

_Answer = Decision | FaregateError


class Ordering:
    """Makes orders.

    Any number of workers may do this at once, and each may be killed at any time.
    """

    def __init__(
        self,
        orders: Orders,
        credits_: Credits,
        installer: Installer,
        stream: TransactionStream,
        archive: TransactionArchive,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connects only when used."""
        self._orders = orders
        self._credits = credits_
        self._installer = installer
        self._stream = stream
        self._archive = archive
        self._clock = clock
        self._is_behind = False
        self._backlog_at = clock()

    def step(self) -> bool:
        """Make orders that are due; return whether there may be more.

        Raises:
            ArchiveUnavailableError, LedgerError: A server does not answer.
            ConfigurationError: Redis and Postgres are of different ledgers.
        """
        # Before the first API has started, Redis holds no identity, and accepts no credits.
        if not self._stream.identity_fields() or self._check_backlog():
            return False
        orders = self._orders.take(COUNT_MAX)
        if not orders:
            return False
        require_same_ledger(self._stream, self._archive)
        answers = list(zip(orders, self._make(orders), strict=True))
        refused = [(order, why) for order, answer in answers if (why := refusal(answer))]
        if refused:
            self._orders.refuse(refused)
            _logger.warning("orders refused: orders=%d", len(refused))
        return len(orders) == COUNT_MAX

    def _make(self, orders: Sequence[Order]) -> Sequence[_Answer]:
        """Send orders; install unknown users, and send theirs again."""
        answers = list(self._credits.add([order.credit for order in orders]))
        places = [place for place, answer in enumerate(answers) if _is_of_unknown_user(answer)]
        if places:
            again = [orders[place].credit for place in places]
            self._installer.install(self._orders.open_users([credit.user_id for credit in again]))
            for place, answer in zip(places, self._credits.add(again), strict=True):
                answers[place] = answer
        return answers

    def _check_backlog(self) -> bool:
        """Return whether records have been pending for so long that ids might be forgotten."""
        if self._clock() >= self._backlog_at:
            ages = pending_seconds(self._stream, self._archive.cursors())
            self._is_behind = max(ages.values(), default=0.0) > BEHIND_S_MAX
            self._backlog_at = self._clock() + BACKLOG_INTERVAL_S
        return self._is_behind


def refusal(answer: _Answer) -> str | None:
    """Return why an order is refused; None if it is made or will be sent again."""
    match answer:
        case Decision(verdict=Verdict.OUT_OF_CREDITS):
            return "out_of_credits"
        case AmountError():
            return "out_of_range"
        case TransactionConflictError():
            return "conflict"
        case InvalidArgumentError():
            return "invalid"
    return None


def _is_of_unknown_user(answer: _Answer) -> bool:
    return isinstance(answer, Decision) and answer.verdict is Verdict.UNKNOWN_USER


def run_orders(settings: Settings, stop: Stop) -> None:
    """Make orders until a stop is requested."""
    with (
        open_orders(settings) as orders,
        open_credits(settings) as credits_,
        open_installer(settings) as installer,
        open_stream(settings) as stream,
        open_archive(settings) as archive,
    ):
        ordering = Ordering(orders, credits_, installer, stream, archive)
        repeat(ordering.step, stop, ORDERS_INTERVAL_S, failure="orders not made")
