"""The fallback: requests that are served without a decision, written down to be charged later.

    no decision ──> the journal, with the id of the attempt ──> served
                        │
                        └─ an attempt that was sent is voided by its id, as one that was not served

    faregate journal import ──> void it again ──> take the cost, as far as there is enough

So the entry alone charges, once, whatever became of the attempt. A request that cannot be written
down is not served.
"""

import logging
import time

from faregate.domain.attempt import Attempt
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import ConfigurationError, JournalError, LedgerUnavailableError
from faregate.domain.health import JournalState
from faregate.domain.journal import JournalChange, JournalEntry
from faregate.domain.policy import OnExpiry
from faregate.domain.request import Void
from faregate.domain.transaction import CreditTransactionId
from faregate.gate.paced_log import PacedLog
from faregate.gate.retries import Name
from faregate.gate.session import Session
from faregate.ports import Journal

_log = logging.getLogger(__name__)


class Fallback:
    """Writes to the journal. It is asked only where there is no decision."""

    def __init__(self, session: Session, journal: Journal | None) -> None:
        self._session = session
        self._journal = journal
        self._log_refused = PacedLog(_log, logging.ERROR)
        self._second = 0
        self._served_in_second = 0

    @property
    def is_there(self) -> bool:
        """Whether there is a journal."""
        return self._journal is not None

    @property
    def state(self) -> JournalState | None:
        """How much is in the journal, if there is one."""
        return None if self._journal is None else self._journal.state

    def check(self) -> bool:
        """Return True where requests can be served open.

        Raises:
            ConfigurationError: There is no journal.
        """
        if self._journal is None:
            raise ConfigurationError(
                "no request is served open without a journal: set FAREGATE_JOURNAL_DIR"
            )
        return True

    def may_serve_overload(self) -> bool:
        """Whether `GateOptions.open_rate_max` lets one more request be served this second."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._served_in_second = second, 0
        self._served_in_second += 1
        return self._served_in_second <= self._session.options.open_rate_max

    def serve(self, attempt: Attempt, cost: int, why: Exception) -> Decision:
        """Write a request down, and return the answer that it is served by.

        Args:
            attempt: The attempt without a decision.
            cost: In credits, though the user may never be refused. A peek is not written down.
            why: Why there is no decision.

        Raises:
            LedgerUnavailableError: It cannot be written down.
        """
        spend, entry = attempt.spend, self._entry(attempt, cost)
        if cost > 0 or entry.is_unlimited:
            try:
                self._write(entry)
            except JournalError as error:
                self._log_refused("request refused, journal not writable: %s", error)
                raise LedgerUnavailableError(f"{why}; and {error}") from error
        return Decision(
            verdict=Verdict.ALLOWED,
            user_id=spend.user_id,
            transaction_id=entry.attempt_id,
            amount=-spend.cost,
            credits=0,
            policy=spend.policy,
            journaled=True,
            expires_at_ms=entry.expires_at_ms or 0,
        )

    def _entry(self, attempt: Attempt, cost: int) -> JournalEntry:
        spend, options = attempt.spend, attempt.spend.options
        hold, served_at_ms = options.hold, wall_ms()
        # As long as Redis has never answered, its time is not known.
        now_ms = self._session.ledger.now_ms() or served_at_ms
        sent_id = attempt.transaction_id
        goes_back = hold is not None and hold.on_expiry is OnExpiry.GIVE_BACK
        return JournalEntry(
            attempt_id=sent_id or CreditTransactionId.mint(now_ms),
            user_id=spend.user_id,
            cost=0 if goes_back else cost,
            is_unlimited=spend.policy.is_unlimited,
            description=spend.description,
            metadata=options.metadata,
            allowance=spend.policy.allowance,
            asked_at_ms=(attempt.asked_at_ms or now_ms) if attempt.is_given else 0,
            # An attempt that was made for this call cannot be charged after its time from now.
            deadline_ms=max(
                attempt.deadline_ms, now_ms + self._session.options.decision_timeout_ms
            ),
            served_at_ms=served_at_ms,
            # An id of the caller's may have been charged by an earlier call.
            may_be_charged=sent_id is not None,
            key=None if options.key is None else options.key.to_saved(),
            expires_at_ms=None if hold is None else served_at_ms + hold.ttl_ms,
        )

    async def change(self, change: JournalChange) -> bool:
        """Write a change of an entry down; return False where that is tried again later."""

        async def write() -> bool:
            self._write(change)
            return True

        name = Name("a change of the journaled", change.attempt_id, change.user_id)
        return await self._session.retries.ensure(name, write) is not None

    def journal_void(self, void: Void) -> bool:
        """Leave a void to the import; return whether that could be done."""
        entry = JournalEntry(
            attempt_id=void.transaction_id,
            user_id=void.user_id,
            cost=0,
            description="request",
            asked_at_ms=void.asked_at_ms,
            deadline_ms=void.deadline_ms,
            served_at_ms=wall_ms(),
            may_be_charged=True,
            is_served=False,
        )
        try:
            self._write(entry)
        except JournalError:
            return False
        return True

    def _write(self, line: JournalEntry | JournalChange) -> None:
        if self._journal is None:
            raise JournalError("there is no journal")
        self._journal.write(line)

    async def aclose(self) -> None:
        """Make sure that all of the journal is on the disk."""
        if self._journal is not None:
            await self._journal.aclose()


def wall_ms() -> int:
    """Return the time of this machine in Unix milliseconds."""
    return time.time_ns() // 1_000_000
