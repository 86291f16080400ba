"""The circuit breaker: while Redis does not answer, requests fail at once.

It opens when `failures_max` answers in a row are missing within a span, at least one of them to a
call that began after the first one was missing. So a pause of the whole process, during which many
calls time out together, does not open it: Redis is asked again first.

While it is open, calls are refused at once. After a delay, which doubles with each failure, one
call passes as a probe, and an answer to it closes the breaker. A probe is a real request, so no
other traffic is needed. A probe that is never reported counts as lost after `PROBE_S_MAX`.

A call has a ticket: the number of failures when it began. While the breaker is closed, a call only
reads that number.
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

#: The time after which a probe counts as lost, in seconds.
PROBE_S_MAX = 30.0

_MISSING = {Event.TIMED_OUT, Event.LOST, Event.NOT_SENT, Event.UNCONFIRMED}
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
    """A circuit breaker for one event loop, with a monotonic clock in seconds."""

    def __init__(
        self,
        options: BreakerOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        name: str = "Redis",
    ) -> None:
        """Make a closed breaker.

        Args:
            options: Its thresholds and delays.
            clock: A monotonic clock in seconds.
            name: The name of the server for messages.
        """
        self._name = name
        self._options = options or BreakerOptions()
        self._clock = clock
        self._changed_at_s = clock()
        self._row_began_at_s = 0.0
        self._row_began = 0
        self._delay_s = 0.0
        self._probe_at_s = 0.0
        self._probe = _NONE
        #: Whether calls other than probes are refused.
        self.is_open = False
        #: The number of missing answers so far: the ticket of a call that begins now.
        self.failures = 0
        #: The number of missing answers in a row; 0 while Redis answers.
        self.row = 0
        #: How often it has opened.
        self.opened = 0

    @property
    def state(self) -> BreakerState:
        """The state of the breaker."""
        if not self.is_open:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self._probe == _NONE else BreakerState.HALF_OPEN

    @property
    def state_ms(self) -> int:
        """How long it has been closed, or not closed, in milliseconds."""
        return int((self._clock() - self._changed_at_s) * 1000)

    def admit(self) -> int:
        """Admit a call, and return its ticket.

        Raises:
            LedgerUnavailableError: The circuit breaker is open, and no probe is due.
        """
        if self.is_open:
            now_s = self._clock()
            if now_s < self._probe_at_s:
                raise LedgerUnavailableError(
                    f"the circuit breaker is open: {self._name} does not answer"
                )
            self._probe_at_s = now_s + PROBE_S_MAX
            # Counted as a failure until it succeeds, so that no other call has its ticket.
            self.failures += 1
            self._probe = self.failures
        return self.failures

    def report(self, ticket: int, error: BaseException) -> None:
        """Note that a call raised an error. Only a missing answer is a failure."""
        if isinstance(error, AttemptError):
            is_missing, is_answer = error.event in _MISSING, error.event in _ANSWERED
        else:
            # Unresolved and corrupt are answers, about one user.
            is_answer = isinstance(error, _ANSWERS)
            is_missing = isinstance(error, LedgerUnavailableError) and not is_answer
        if is_missing:
            self.note_failure(ticket, error)
        elif is_answer:
            self.note_success()
        else:
            self.note_abandoned(ticket)

    def note_success(self) -> None:
        """Note that Redis has answered any call."""
        self.row = 0
        if self.is_open:
            self.is_open = False
            self._probe = _NONE
            self._changed_at_s = self._clock()
            _log.warning("circuit breaker of %s closed", self._name)

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
            _log.warning("circuit breaker of %s opened: %s", self._name, why)

    def note_abandoned(self, ticket: int) -> None:
        """Note that a call ended without a result about Redis, such as a cancelled one."""
        if ticket == self._probe:
            self._wait(0.0)

    def _wait(self, delay_s: float) -> None:
        """Admit the next probe after a delay; 0 does not change the next delay."""
        self._probe = _NONE
        self._probe_at_s = self._clock() + delay_s
        self._delay_s = delay_s or self._delay_s
