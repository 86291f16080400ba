"""Rate limits in plain dicts."""

from collections.abc import Sequence

from faregate.domain.limit import LimitKind, LimitState, RateLimit
from faregate.domain.spend import Spend

_US_PER_MS = 1_000


class RateLimits:
    """The state of all rate limits. All are checked before any counts a request."""

    def __init__(self) -> None:
        #: Of limits by key: when the next request would arrive, if all came at the steady rate.
        self._arrivals_us: dict[object, int] = {}
        #: When requests came, in microseconds, oldest first.
        self._times_us: dict[object, Sequence[int]] = {}

    def states(self, spend: Spend, now_ms: int) -> tuple[LimitState, ...]:
        """Return the state of each limit after a spend."""
        return tuple(self._state(limit, spend, now_ms * _US_PER_MS) for limit in spend.limits)

    def take(self, spend: Spend, now_ms: int) -> None:
        """Count a request that is allowed."""
        now_us = now_ms * _US_PER_MS
        for limit in spend.limits:
            if limit.kind is LimitKind.WINDOW:
                recent = self._recent(limit, spend, now_us)
                self._times_us[_counter_of(limit, spend)] = [*recent, now_us]
            else:
                ahead_us = self._ahead_us(limit, spend, now_us)
                self._arrivals_us[_counter_of(limit, spend)] = now_us + ahead_us + limit.interval_us

    def _state(self, limit: RateLimit, spend: Spend, now_us: int) -> LimitState:
        next_us = 0
        if limit.kind is LimitKind.GCRA:
            ahead_us, size = self._ahead_us(limit, spend, now_us), limit.burst_size
            used = -(-ahead_us // limit.interval_us)
            if used:
                next_us = ahead_us - (used - 1) * limit.interval_us
        else:
            recent, size = self._recent(limit, spend, now_us), limit.count
            used = len(recent)
            if used:
                next_us = recent[0] + limit.period_ms * _US_PER_MS - now_us
        return LimitState.of(limit, max(0, size - used), -(-next_us // _US_PER_MS))

    def _ahead_us(self, limit: RateLimit, spend: Spend, now_us: int) -> int:
        """Return how far the requests so far are ahead of the steady rate, in microseconds."""
        return max(0, self._arrivals_us.get(_counter_of(limit, spend), 0) - now_us)

    def _recent(self, limit: RateLimit, spend: Spend, now_us: int) -> Sequence[int]:
        after_us = now_us - limit.period_ms * _US_PER_MS
        times_us = self._times_us.get(_counter_of(limit, spend), ())
        return [time_us for time_us in times_us if time_us > after_us]


def _counter_of(limit: RateLimit, spend: Spend) -> object:
    """Return the counter of a limit: shadow policies, and limits by key, count apart."""
    policy = spend.policy.name if spend.policy.is_shadow else ""
    return policy, limit.state_name, limit.is_by_key, spend.counts_for(limit)
