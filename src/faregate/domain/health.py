"""The health of a gate at one moment, for metrics and for people."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from faregate.domain.decision import Verdict
from faregate.domain.histogram import Histogram

#: The bounds of two histograms: the time of decisions, in seconds, and the spends of a call.
DECISION_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
CALL_SPENDS = (1, 2, 4, 8, 16, 32, 64, 128)


class BreakerState(StrEnum):
    """The state of the circuit breaker."""

    #: Requests are decided by Redis.
    CLOSED = "closed"
    #: Too many answers of Redis were missing: requests fail at once.
    OPEN = "open"
    #: One request tries whether Redis answers again; others fail at once.
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class LaneHealth:
    """The circuit breaker of one lane, which leads to one server."""

    #: The state of the circuit breaker.
    breaker: BreakerState
    #: How long the breaker has been in this state, in milliseconds.
    state_ms: int
    #: How often the breaker has opened.
    opened: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalState:
    """The journal of this process."""

    #: The requests written since the process started.
    requests: int
    #: The size of the journal, in bytes.
    bytes: int
    #: The maximum of that size, in bytes.
    bytes_max: int


@dataclass(slots=True)
class CallCounts:
    """Counts of the calls of a lane, which go on counting."""

    #: The time of decisions, the wait in the queue included, in seconds. All decisions of a call
    #: count with the time of its first one.
    seconds: Histogram = field(default_factory=lambda: Histogram.empty(DECISION_SECONDS))
    #: The spends of a call.
    spends: Histogram = field(default_factory=lambda: Histogram.empty(CALL_SPENDS))
    #: Spends that were decided after their callers had given up.
    late: int = 0
    #: Spends whose decisions callers were given, and that Redis has lost since, in a failover or a
    #: restart.
    lost: int = 0

    def note(self, count: int, seconds: float, *, is_late: bool) -> None:
        """Count a call that was answered."""
        self.spends.observe(count)
        if is_late:
            self.late += count
        else:
            self.seconds.observe(seconds, count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The health of a gate. All counts begin with the process."""

    #: The worst state of a circuit breaker: each server of the ledger has one.
    breaker: BreakerState
    #: How long that breaker has been in this state, in milliseconds.
    breaker_state_ms: int
    #: How often any breaker has opened.
    breaker_opened: int
    #: How many voids and refunds wait to be made.
    retries_waiting: int
    #: How many voids and refunds were given up.
    retries_given_up: int
    #: How many requests came while more waited than could be decided in time.
    shed: int
    #: How many requests had no decision because of an outage.
    undecided: int
    #: How many requests of these two kinds were served.
    served_open: int
    #: The circuit breaker of each lane, by the address of its server.
    lanes: Mapping[str, LaneHealth] = field(default_factory=dict)
    #: Attempts without an answer that were voided.
    voids: int = 0
    #: Decisions by policy and verdict.
    decisions: Mapping[str, Mapping[Verdict, int]] = field(default_factory=dict)
    #: None for a ledger without calls, such as that in memory.
    calls: CallCounts | None = None
    #: None without a journal.
    journal: JournalState | None = None
