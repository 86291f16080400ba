"""Rate limits in plain dicts."""

from collections.abc import Sequence
from dataclasses import replace

from faregate.domain.decision import Decision
from faregate.domain.limit import LimitKind, LimitState, RateLimit
from faregate.domain.request import Charge

_US_PER_MS = 1_000

Key = tuple[str, str]


class MemoryLimits:
    """The state of all rate limits: all are checked before any is taken from."""

    def __init__(self) -> None:
        #: When the next request would arrive, if all came at the steady rate, in microseconds.
        self._arrivals_us: dict[Key, int] = {}
        #: When requests came, in microseconds, oldest first.
        self._times_us: dict[Key, list[int]] = {}

    def refusing(self, charge: Charge, now_ms: int) -> tuple[str, int]:
        """Return the name of the first limit that refuses, and for how many milliseconds."""
        for state in self.states(charge, now_ms):
            if not state.remaining:
                return state.name, state.resets_in_ms
        return "", 0

    def states(self, charge: Charge, now_ms: int) -> tuple[LimitState, ...]:
        """Return how each limit stands."""
        return tuple(self._state(limit, charge, now_ms * _US_PER_MS) for limit in charge.limits)

    def tell(self, decision: Decision, charge: Charge, now_ms: int) -> Decision:
        """Return the decision with how each limit stands."""
        return replace(decision, limits=self.states(charge, now_ms))

    def take(self, charge: Charge, now_ms: int) -> None:
        """Count a request that is allowed."""
        now_us = now_ms * _US_PER_MS
        for limit in charge.limits:
            key = _key(limit, charge)
            if limit.kind is LimitKind.GCRA:
                ahead_us = self._ahead_us(key, now_us) + limit.interval_us
                self._arrivals_us[key] = now_us + ahead_us
            else:
                self._times_us[key] = [*self._recent(limit, key, now_us), now_us]

    def _state(self, limit: RateLimit, charge: Charge, now_us: int) -> LimitState:
        key, next_us = _key(limit, charge), 0
        if limit.kind is LimitKind.GCRA:
            ahead_us, size = self._ahead_us(key, now_us), limit.burst_size
            used = min(-(-ahead_us // limit.interval_us), size)
            if used:
                next_us = ahead_us - (used - 1) * limit.interval_us
        else:
            recent, size = self._recent(limit, key, now_us), limit.count
            used = len(recent)
            if used:
                next_us = recent[0] + limit.period_ms * _US_PER_MS - now_us
        return LimitState.of(limit, max(0, size - used), -(-next_us // _US_PER_MS))

    def _ahead_us(self, key: Key, now_us: int) -> int:
        """Return how far the requests so far are ahead of the steady rate, in microseconds."""
        return max(0, self._arrivals_us.get(key, 0) - now_us)

    def _recent(self, limit: RateLimit, key: Key, now_us: int) -> Sequence[int]:
        after_us = now_us - limit.period_ms * _US_PER_MS
        return [time_us for time_us in self._times_us.get(key, []) if time_us > after_us]


def _key(limit: RateLimit, charge: Charge) -> Key:
    return limit.name, charge.whose(limit)
