"""How a gate is, at one moment: for metrics and for people."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from faregate.domain.decision import Verdict


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
    #: How many bytes there are in the journal, and how many there may be.
    bytes: int
    bytes_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a gate is. All counts begin with the process."""

    breaker: BreakerState
    #: For how many milliseconds the breaker has been closed, or has not been.
    breaker_state_ms: int
    #: How often it has opened.
    breaker_opened: int
    #: How many voids and refunds wait to be made, and how many were given up.
    retries_waiting: int
    retries_given_up: int
    #: How many requests came while more waited than could be decided in time, on how many no
    #: decision could be had, and how many of both were served all the same.
    shed: int
    undecided: int
    served_open: int
    #: How often each policy has decided how, by its name and the verdict.
    decisions: Mapping[str, Mapping[Verdict, int]] = field(default_factory=dict)
    #: None where nothing is written down.
    journal: JournalState | None = None
