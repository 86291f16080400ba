"""The fallback: serves requests without a decision, and writes them to the journal.

    no decision ──> the journal, with the id of the attempt ──> served
                        │
                        └─ an attempt that was sent is voided by its id, as one that was not served

    faregate journal import ──> void it again ──> take the cost, as far as the credits go

So only the entry charges, once, whatever the outcome of the attempt was. A request that cannot be
written to the journal is not served.
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
    """Writes requests without a decision to the journal."""

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
        """The state of the journal, or None."""
        return None if self._journal is None else self._journal.state

    def check(self) -> bool:
        """Return True if requests can be served open.

        Raises:
            ConfigurationError: There is no journal.
        """
        if self._journal is None:
            raise ConfigurationError(
                "no request is served open without a journal: set FAREGATE_JOURNAL_DIR"
            )
        return True

    def may_serve_overload(self) -> bool:
        """Return whether `GateOptions.open_rate_max` allows one more request in this second."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._served_in_second = second, 0
        self._served_in_second += 1
        return self._served_in_second <= self._session.options.open_rate_max

    def serve(self, attempt: Attempt, cost: int, why: Exception) -> Decision:
        """Write a request to the journal, and return the decision to serve it.

        Args:
            attempt: The attempt without a decision.
            cost: The cost in credits, even if the user is never refused. A peek is not written.
            why: The error of the attempt.

        Raises:
            LedgerUnavailableError: The journal cannot be written.
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
        # Until Redis has answered once, its time is unknown.
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
            # An attempt of this call cannot be charged after its timeout from now.
            deadline_ms=max(
                attempt.deadline_ms, now_ms + self._session.options.decision_timeout_ms
            ),
            served_at_ms=served_at_ms,
            # An earlier call may have been charged under a caller's id.
            may_be_charged=sent_id is not None,
            key=None if options.key is None else options.key.to_saved(),
            expires_at_ms=None if hold is None else served_at_ms + hold.ttl_ms,
        )

    async def change(self, change: JournalChange) -> bool:
        """Write a change of an entry; return False if it is tried again later."""

        async def write() -> bool:
            self._write(change)
            return True

        name = Name("a change of the journaled", change.attempt_id, change.user_id)
        return await self._session.retries.ensure(name, write) is not None

    def journal_void(self, void: Void) -> bool:
        """Write a void to the journal for the import; return whether that succeeded."""
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
        """Close the journal, and sync it to the disk."""
        if self._journal is not None:
            await self._journal.aclose()


def wall_ms() -> int:
    """Return the time of this machine in Unix milliseconds."""
    return time.time_ns() // 1_000_000
