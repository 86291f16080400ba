"""How a gate is, at one moment: for metrics and for people."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from faregate.domain.decision import Verdict
from faregate.domain.histogram import Histogram

#: The bounds of what is told of calls: how long decisions took, in seconds, and spends of a call.
DECISION_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
CALL_SPENDS = (1, 2, 4, 8, 16, 32, 64, 128)


class BreakerState(StrEnum):
    """Whether requests are decided by Redis."""

    #: They are.
    CLOSED = "closed"
    #: Too many answers of Redis were missing: requests do not wait for it.
    OPEN = "open"
    #: The same, while one request finds out whether Redis answers again.
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalState:
    """What this process has written to its journal."""

    #: How many requests have been written down since the process started.
    requests: int
    #: How many bytes there are in the journal.
    bytes: int
    #: How many bytes there may be.
    bytes_max: int


@dataclass(slots=True)
class CallCounts:
    """What became of the calls in which a ledger was asked to decide. It goes on counting."""

    #: How long decisions took, from the first wait to the answer, in seconds. All decisions of a
    #: call count as long as its first one.
    seconds: Histogram = field(default_factory=lambda: Histogram.empty(DECISION_SECONDS))
    #: How many spends a call held.
    spends: Histogram = field(default_factory=lambda: Histogram.empty(CALL_SPENDS))
    #: How many spends were decided after their callers had given up.
    late: int = 0

    def note(self, count: int, seconds: float, *, is_late: bool) -> None:
        """Count a call that was answered."""
        self.spends.observe(count)
        if is_late:
            self.late += count
        else:
            self.seconds.observe(seconds, count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a gate is. All counts begin with the process."""

    #: The state of the circuit breaker.
    breaker: BreakerState
    #: For how many milliseconds the breaker has been closed, or has not been.
    breaker_state_ms: int
    #: How often it has opened.
    breaker_opened: int
    #: How many voids and refunds wait to be made.
    retries_waiting: int
    #: How many voids and refunds were given up.
    retries_given_up: int
    #: How many requests came while more waited than could be decided in time.
    shed: int
    #: How many requests had no decision because of an outage.
    undecided: int
    #: How many of both were served.
    served_open: int
    #: How many attempts without an answer had to be voided.
    voids: int = 0
    #: How often each policy has decided how, by its name and the verdict.
    decisions: Mapping[str, Mapping[Verdict, int]] = field(default_factory=dict)
    #: None where the ledger is asked without calls, as one in memory.
    calls: CallCounts | None = None
    #: None where nothing is written down.
    journal: JournalState | None = None
