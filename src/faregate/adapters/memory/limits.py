"""Rate limits in plain dicts."""

from collections.abc import Sequence

from faregate.domain.limit import LimitKind, RateLimit
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
        for limit in charge.limits:
            wait_us = self._wait_us(limit, _key(limit, charge), now_ms * _US_PER_MS)
            if wait_us > 0:
                return limit.name, -(-wait_us // _US_PER_MS)
        return "", 0

    def take(self, charge: Charge, now_ms: int) -> None:
        """Count a request that is allowed."""
        now_us = now_ms * _US_PER_MS
        for limit in charge.limits:
            key = _key(limit, charge)
            if limit.kind is LimitKind.GCRA:
                self._arrivals_us[key] = self._arrival_us(limit, key, now_us)
            else:
                self._times_us[key] = [*self._recent(limit, key, now_us), now_us]

    def _wait_us(self, limit: RateLimit, key: Key, now_us: int) -> int:
        if limit.kind is LimitKind.GCRA:
            burst_us = limit.burst_size * limit.interval_us
            return self._arrival_us(limit, key, now_us) - burst_us - now_us
        recent = self._recent(limit, key, now_us)
        if len(recent) < limit.count:
            return 0
        return recent[0] + limit.period_ms * _US_PER_MS - now_us

    def _arrival_us(self, limit: RateLimit, key: Key, now_us: int) -> int:
        return max(self._arrivals_us.get(key, 0), now_us) + limit.interval_us

    def _recent(self, limit: RateLimit, key: Key, now_us: int) -> Sequence[int]:
        after_us = now_us - limit.period_ms * _US_PER_MS
        return [time_us for time_us in self._times_us.get(key, []) if time_us > after_us]


def _key(limit: RateLimit, charge: Charge) -> Key:
    return limit.name, f"key {charge.limit_key}" if limit.is_by_key else str(charge.user_id)
