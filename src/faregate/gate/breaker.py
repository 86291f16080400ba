"""The circuit breaker: while Redis does not answer, requests do not wait for it.

It opens when a named number of answers in a row are missing within a span, at least one of them to
a call that began after the first was missing. So a pause of the whole process, however many calls
wait in it, does not open it: Redis is asked once more before.

While it is open, calls are refused at once. After a delay, which doubles with each failure, one
call at a time passes as a probe, and its answer closes the breaker. A probe is a real request, so
no other traffic is needed. A probe that is never reported is lost after `PROBE_S_MAX`.

A call has a ticket: the number of failures that were known when it began. While the breaker is
closed, reading that number is all that a call costs.
"""

import logging
import time
from collections.abc import Callable

from faregate.domain.attempt import AttemptError, Event
from faregate.domain.errors import (
    InvalidArgumentError,
    LedgerCorruptError,
    LedgerUnavailableError,
    LedgerUninitialisedError,
    TransactionConflictError,
    UnresolvedError,
)
from faregate.domain.health import BreakerState
from faregate.domain.policy import BreakerOptions

#: After how many seconds a probe counts as lost.
PROBE_S_MAX = 30.0

_MISSING = {Event.TIMED_OUT, Event.LOST, Event.NOT_SENT}
_ANSWERED = {Event.AHEAD, Event.LATE}
_ANSWERS = (
    InvalidArgumentError,
    LedgerCorruptError,
    LedgerUninitialisedError,
    TransactionConflictError,
    UnresolvedError,
)
_NONE = -1

_log = logging.getLogger(__name__)


class CircuitBreaker:
    """For one event loop. `clock` returns seconds that never go backwards."""

    def __init__(
        self,
        options: BreakerOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options or BreakerOptions()
        self._clock = clock
        self._changed_at_s = clock()
        self._row_began_at_s = 0.0
        self._row_began = 0
        self._delay_s = 0.0
        self._probe_at_s = 0.0
        self._probe = _NONE
        #: Whether calls are refused, probes excepted.
        self.is_open = False
        #: How many answers were missing so far: the ticket of a call that begins now.
        self.failures = 0
        #: How many were missing in a row; 0 while Redis answers.
        self.row = 0
        #: How often it has opened.
        self.opened = 0

    @property
    def state(self) -> BreakerState:
        """Whether calls pass."""
        if not self.is_open:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self._probe == _NONE else BreakerState.HALF_OPEN

    @property
    def state_ms(self) -> int:
        """For how many milliseconds it has been closed, or has not been."""
        return int((self._clock() - self._changed_at_s) * 1000)

    def admit(self) -> int:
        """Let a call in, and return its ticket.

        Raises:
            LedgerUnavailableError: It is open, and no probe is due.
        """
        if self.is_open:
            now_s = self._clock()
            if now_s < self._probe_at_s:
                raise LedgerUnavailableError("the circuit breaker is open: Redis does not answer")
            self._probe_at_s = now_s + PROBE_S_MAX
            # Counted as a failure until it succeeds, so that no other call has its ticket.
            self.failures += 1
            self._probe = self.failures
        return self.failures

    def report(self, ticket: int, error: BaseException) -> None:
        """Note that a call has raised. Only an answer that is missing is a failure."""
        if isinstance(error, AttemptError):
            is_missing, is_answer = error.event in _MISSING, error.event in _ANSWERED
        else:
            # Unresolved and corrupt are answers about one user.
            is_answer = isinstance(error, _ANSWERS)
            is_missing = isinstance(error, LedgerUnavailableError) and not is_answer
        if is_missing:
            self.note_failure(ticket, error)
        elif is_answer:
            self.note_success()
        else:
            self.note_abandoned(ticket)

    def note_success(self) -> None:
        """Note that Redis has answered a call, whichever it was."""
        self.row = 0
        if self.is_open:
            self.is_open = False
            self._probe = _NONE
            self._changed_at_s = self._clock()
            _log.warning("circuit breaker closed")

    def note_failure(self, ticket: int, why: object = "no answer") -> None:
        """Note that the answer to a call is missing."""
        self.failures += 1
        now_s = self._clock()
        if self.is_open:
            if ticket == self._probe:
                self._wait(min(self._delay_s * 2, self._options.delay_ms_max / 1000))
            return
        if self.row and now_s - self._row_began_at_s > self._options.span_ms / 1000:
            self.row = 0
        self.row += 1
        if self.row == 1:
            self._row_began_at_s, self._row_began = now_s, self.failures
        is_confirmed = ticket >= self._row_began or self.row == 1
        if is_confirmed and self.row >= self._options.failures_max:
            self.is_open = True
            self._changed_at_s = now_s
            self.opened += 1
            self._wait(self._options.delay_ms_min / 1000)
            _log.warning("circuit breaker opened: %s", why)

    def note_abandoned(self, ticket: int) -> None:
        """Note that a call ended without telling anything of Redis, as one that is cancelled."""
        if ticket == self._probe:
            self._wait(0.0)

    def _wait(self, delay_s: float) -> None:
        """Let the next probe pass after a delay; one of 0 leaves the next delay as it was."""
        self._probe = _NONE
        self._probe_at_s = self._clock() + delay_s
        self._delay_s = delay_s or self._delay_s
