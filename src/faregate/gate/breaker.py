"""A circuit breaker: while Redis decides nothing, nobody waits for it.

It opens when as many decisions in a row as it is told have failed within a span, and one of them
was asked for after the first had failed. So a moment in which everything stands still, however many
wait in it, opens nothing: Redis is asked once more before.

From then on calls are refused at once, but for one at a time: after a delay, which grows with each
failure, the next call that comes is let through and tells whether Redis is back. So the first
answer after an outage is a decision about a real request, and no other traffic is needed.

Every call that is let in is reported once, with its ticket: `succeeded`, `failed`, or `abandoned`
where it ended without telling anything about Redis. One that is never reported holds nothing up for
longer than `PROBE_S_MAX`.
"""

import time
from collections.abc import Callable

from faregate.domain.errors import LedgerUnavailableError
from faregate.domain.health import BreakerState
from faregate.domain.policy import BreakerOptions

#: After how long a probe counts as lost that nobody has reported, in seconds.
PROBE_S_MAX = 30.0

_NONE = 0


class CircuitBreaker:
    """For one event loop. `clock` returns seconds that never go backwards."""

    def __init__(
        self,
        options: BreakerOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options or BreakerOptions()
        self._clock = clock
        self._is_open = False
        self._changed_at_s = clock()
        self._tickets = 0
        self._failures = 0
        self._first_failure_at_s = 0.0
        self._last_ticket_before = 0
        self._delay_s = 0.0
        self._probe_at_s = 0.0
        #: The ticket of the probe that is on its way.
        self._probe = _NONE
        #: How often it has opened.
        self.opened = 0

    @property
    def state(self) -> BreakerState:
        """Whether calls pass."""
        if not self._is_open:
            return BreakerState.CLOSED
        return BreakerState.HALF_OPEN if self._probe else BreakerState.OPEN

    @property
    def state_ms(self) -> int:
        """For how many milliseconds it has been open, a probe or not, or closed."""
        return int((self._clock() - self._changed_at_s) * 1000)

    def admit(self) -> int:
        """Let a call in, and return its ticket.

        Raises:
            LedgerUnavailableError: It is open, and this is no time for a probe.
        """
        if self._is_open:
            now_s = self._clock()
            if now_s < self._probe_at_s:
                raise LedgerUnavailableError("no decision could be had of late: none is waited for")
            self._probe_at_s = now_s + PROBE_S_MAX
            self._probe = self._tickets + 1
        self._tickets += 1
        return self._tickets

    def succeeded(self) -> bool:
        """Note that a call was decided in time; return whether that has closed the breaker.

        Whichever call it was, Redis is there.
        """
        self._failures = 0
        if not self._is_open:
            return False
        self._is_open = False
        self._probe = _NONE
        self._changed_at_s = self._clock()
        return True

    def failed(self, ticket: int) -> bool:
        """Note that a call was not decided in time; return whether that has opened the breaker."""
        if self._is_open:
            if ticket == self._probe:
                self._wait(min(self._delay_s * 2, self._options.delay_ms_max / 1000))
            return False
        self._count_failure(ticket)
        return self._is_open

    def abandoned(self, ticket: int) -> None:
        """Note that a call ended without telling anything, as one that is cancelled."""
        if ticket == self._probe:
            self._wait(0.0)

    def _count_failure(self, ticket: int) -> None:
        now_s = self._clock()
        if self._failures and now_s - self._first_failure_at_s > self._options.span_ms / 1000:
            self._failures = 0
        if not self._failures:
            self._first_failure_at_s = now_s
            self._last_ticket_before = self._tickets
        self._failures += 1
        is_confirmed = ticket > self._last_ticket_before or self._failures == 1
        if is_confirmed and self._failures >= self._options.failures_max:
            self._is_open = True
            self._changed_at_s = now_s
            self.opened += 1
            self._wait(self._options.delay_ms_min / 1000)

    def _wait(self, delay_s: float) -> None:
        """Let the next probe be made after a delay; one of 0 leaves the delay as it was."""
        self._probe = _NONE
        self._probe_at_s = self._clock() + delay_s
        self._delay_s = delay_s or self._delay_s
