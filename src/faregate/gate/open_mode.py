"""Open mode: what is served although no decision could be had, written down to be charged later.

A request whose failure mode is open goes this way:

    decide in time ──> no ──> the journal, with the id of the attempt ──> served
                                   │
          an attempt that may have been charged is voided by its id, as one that was not served
                                   │
    faregate journal import ──> void it again ──> take what it costs, as far as there is enough

So it is the entry that charges, once, whatever became of the attempt. Where nothing can be written
down, nothing is served.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import (
    ArchiveUnavailableError,
    ConfigurationError,
    JournalError,
    LedgerError,
    LedgerUnavailableError,
    OutcomeUnknownError,
)
from faregate.domain.health import Health
from faregate.domain.journal import JournalChange, JournalEntry
from faregate.domain.policy import CreditPolicy, OnExpiry
from faregate.domain.request import Charge
from faregate.domain.transaction import CreditTransactionId
from faregate.gate.observing import Observing
from faregate.gate.terms import Call

_T = TypeVar("_T")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lapse:
    """What becomes of a hold that nobody settles, and when."""

    ttl_ms: int
    on_expiry: OnExpiry


class OpenMode(Observing):
    """Serves without a decision where that is asked for, and knows how the gate is."""

    _served_open = 0

    @property
    def serves_open(self) -> bool:
        """Whether there is a journal, without which `FailureMode.OPEN` is refused."""
        return self._journal is not None

    def health(self) -> Health:
        """Return how the gate is now. Asks nobody."""
        return Health(
            breaker=self._breaker.state,
            breaker_state_ms=self._breaker.state_ms,
            breaker_opened=self._breaker.opened,
            retries_waiting=len(self.retries),
            retries_given_up=self.retries.given_up,
            served_open=self._served_open,
            journal=None if self._journal is None else self._journal.state,
        )

    def _check_mode(self, call: Call) -> None:
        if call.is_open and self._journal is None:
            raise ConfigurationError(
                "no request is served open without a journal: set FAREGATE_JOURNAL_DIR"
            )

    async def _decided(
        self,
        call: Call,
        policy: CreditPolicy,
        decide: Callable[[Charge], Awaitable[_T]],
        lapse: Lapse | None = None,
    ) -> _T | JournalEntry:
        """Have a call decided or, where that cannot be and it is to be served, write it down.

        Args:
            call: What is asked for, and whether it is to be served in any case.
            policy: What holds for it.
            decide: Asks the ledger.
            lapse: What becomes of a hold that nobody settles; None for a charge.

        Raises:
            LedgerError, ArchiveUnavailableError: There is no decision, and it is not served.
        """
        attempt = None
        try:
            await self._ready()
            attempt = self._charge(call, policy)
            return await decide(attempt)
        except (LedgerError, ArchiveUnavailableError) as error:
            if not call.is_open:
                raise
            # No attempt that was made for this call can be charged after its time from now.
            deadline_ms = self.now_ms() + self._options.decision_timeout_ms
            attempt = replace(attempt or self._charge(call, policy), deadline_ms=deadline_ms)
            entry = _entry(call, attempt, error, lapse)
            self._serve(entry, is_kept=call.cost > 0 or entry.is_unlimited, why=error)
            return entry

    @staticmethod
    def _passable(call: Call, decision: Decision) -> Decision:
        """Return a decision, unless it says that nothing can be decided and that is not enough."""
        if call.is_open and decision.verdict is Verdict.BACKLOG:
            raise LedgerUnavailableError("too many records wait for Postgres")
        return decision

    def _serve(self, entry: JournalEntry, *, is_kept: bool, why: Exception) -> None:
        """Write down what is to be served; a peek costs nothing, so nothing is written of it."""
        if is_kept:
            try:
                self._write(entry)
            except JournalError as error:
                _log.error("refused, since nothing can be written down: %s", error)
                raise LedgerUnavailableError(f"{why}; and {error}") from error
        self._served_open += 1

    def _write(self, line: JournalEntry | JournalChange) -> None:
        if self._journal is None:
            raise JournalError("there is no journal")
        self._journal.write(line)

    def _change(self, change: JournalChange) -> None:
        """Write down what an entry costs after all, or try to later, and raise."""

        async def write() -> bool:
            try:
                self._write(change)
            except JournalError:
                return False
            return True

        try:
            self._write(change)
        except JournalError as error:
            self.retries.submit(f"a change of the journaled {change.attempt_id}", write)
            raise LedgerUnavailableError(f"it will be written down later: {error}") from error

    def _strike_out(
        self, served: Decision, amount: int | None, refund_id: CreditTransactionId | None
    ) -> Decision:
        """Give a journaled request back, wholly or in part: the import takes so much less."""
        cost, attempt_id = -served.amount, served.transaction_id
        back = cost if amount is None else amount
        if not 0 < back <= cost:
            return replace(served, verdict=Verdict.REFUND_EXCEEDED, amount=back)
        self._change(
            JournalChange(
                attempt_id=attempt_id,
                user_id=served.user_id,
                refund_id=refund_id or CreditTransactionId.derive("refund", attempt_id.value),
                amount=amount,
            )
        )
        return replace(served, amount=back)

    def _keep_void(self, attempt: Charge, *, is_hold: bool = False) -> bool:
        """Leave the void of an attempt to the import; return whether that could be done."""
        entry = JournalEntry(
            attempt_id=attempt.transaction_id,
            user_id=attempt.user_id,
            cost=0,
            description=attempt.description,
            asked_at_ms=attempt.asked_at_ms,
            deadline_ms=attempt.deadline_ms,
            served_at_ms=wall_ms(),
            may_be_charged=True,
            is_served=False,
            is_hold=is_hold,
        )
        try:
            self._write(entry)
        except JournalError:
            return False
        return True


def served_decision(entry: JournalEntry) -> Decision:
    """Return the answer to a request that is served without a decision."""
    return Decision(
        verdict=Verdict.ALLOWED,
        user_id=entry.user_id,
        transaction_id=entry.attempt_id,
        amount=-entry.owed,
        credits=0,
        journaled=True,
    )


def _entry(call: Call, attempt: Charge, error: Exception, lapse: Lapse | None) -> JournalEntry:
    now_ms = wall_ms()
    goes_back = lapse is not None and lapse.on_expiry is OnExpiry.GIVE_BACK
    return JournalEntry(
        attempt_id=attempt.transaction_id,
        user_id=attempt.user_id,
        cost=0 if goes_back else call.cost,
        is_unlimited=attempt.records_zero,
        description=attempt.description,
        metadata=attempt.metadata,
        allowance=attempt.allowance,
        asked_at_ms=attempt.asked_at_ms,
        deadline_ms=attempt.deadline_ms,
        served_at_ms=now_ms,
        # A caller's own id may have been charged by an earlier call.
        may_be_charged=isinstance(error, OutcomeUnknownError) or not attempt.fresh,
        key=None if attempt.key is None else attempt.key.kept(),
        is_hold=lapse is not None,
        expires_at_ms=None if lapse is None else now_ms + lapse.ttl_ms,
    )


def wall_ms() -> int:
    """Return the time of this machine in Unix milliseconds."""
    return time.time_ns() // 1_000_000
