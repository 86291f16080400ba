"""The circuit breakers of a gate: one for each lane, so that a dead server refuses only its own."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from faregate.domain.durability import Durability
from faregate.domain.health import BreakerState, LaneHealth
from faregate.domain.policy import BreakerOptions
from faregate.gate.breaker import CircuitBreaker
from faregate.ports import Ledger

#: The name of the breaker of calls to all servers.
_ALL = "all servers"
_WORST_FIRST = (BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED)


@dataclass(frozen=True, slots=True)
class BreakersHealth:
    """The breakers of all lanes at one moment."""

    #: The worst one.
    worst: LaneHealth
    #: How often any has opened, those of former lanes included.
    opened: int
    #: By the name of the lane.
    lanes: dict[str, LaneHealth]


class Breakers:
    """Makes a breaker for each lane at its first call."""

    def __init__(self, options: BreakerOptions, ledger: Ledger) -> None:
        self._options = options
        self._ledger = ledger
        self._by_lane: dict[str, CircuitBreaker] = {}
        self._opened_before = 0

    def of(self, lane: str) -> CircuitBreaker:
        """Return the breaker of a lane."""
        return self._by_lane.get(lane) or self._make(lane)

    def of_user(
        self, user_id: UUID | None, durability: Durability = Durability.MEMORY
    ) -> CircuitBreaker:
        """Return the breaker of the lane of a user; for None, that of calls to all servers."""
        if user_id is None:
            return self.of(_ALL)
        return self.of(self._ledger.lane(user_id, durability).name)

    def _make(self, lane: str) -> CircuitBreaker:
        breaker = self._by_lane[lane] = CircuitBreaker(self._options, name=lane)
        return breaker

    def health(self, lanes: Iterable[str]) -> BreakersHealth:
        """Return the health of the lanes of the ledger, and forget the breakers of others.

        Args:
            lanes: The names of all lanes; none before the start and after the close, when no
                breaker is forgotten.
        """
        names = list(lanes)
        for name in list(self._by_lane) if names else ():
            if name not in {*names, _ALL}:
                self._opened_before += self._by_lane.pop(name).opened
        found = {
            name: LaneHealth(breaker.state, breaker.state_ms, breaker.opened)
            for name, breaker in self._by_lane.items()
        }
        all_found = list(found.values()) or [LaneHealth(BreakerState.CLOSED, 0, 0)]
        return BreakersHealth(
            worst=min(all_found, key=lambda one: (_WORST_FIRST.index(one.breaker), one.state_ms)),
            opened=self._opened_before + sum(one.opened for one in found.values()),
            lanes=found,
        )
