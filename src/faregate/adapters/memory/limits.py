"""Rate limits in plain dicts."""

from collections.abc import Sequence

from faregate.adapters.memory.accounts import Account
from faregate.domain.limit import LimitKind, LimitState, RateLimit
from faregate.domain.spend import Spend

_US_PER_MS = 1_000

#: The shadow policy (empty for real spends), the name of the limit, and whose requests it counts.
Key = tuple[str, str, str]


class RateLimits:
    """The state of all rate limits: all are checked before any is taken from."""

    def __init__(self) -> None:
        #: Of limits by key: when the next request would arrive, if all came at the steady rate.
        self._arrivals_us: dict[Key, int] = {}
        #: When requests came, in microseconds, oldest first.
        self._times_us: dict[Key, list[int]] = {}

    def states(self, spend: Spend, account: Account, now_ms: int) -> tuple[LimitState, ...]:
        """Return how each limit stands."""
        now_us = now_ms * _US_PER_MS
        return tuple(self._state(limit, spend, account, now_us) for limit in spend.limits)

    def take(self, spend: Spend, account: Account, now_ms: int) -> None:
        """Count a request that is allowed."""
        now_us = now_ms * _US_PER_MS
        for limit in spend.limits:
            key = _key(limit, spend)
            if limit.kind is LimitKind.WINDOW:
                self._times_us[key] = [*self._recent(limit, key, now_us), now_us]
                continue
            arrival_us = now_us + self._ahead_us(limit, spend, account, now_us) + limit.interval_us
            if limit.is_by_key:
                self._arrivals_us[key] = arrival_us
            else:
                account.arrivals_us[limit.name] = arrival_us

    def _state(self, limit: RateLimit, spend: Spend, account: Account, now_us: int) -> LimitState:
        next_us = 0
        if limit.kind is LimitKind.GCRA:
            ahead_us, size = self._ahead_us(limit, spend, account, now_us), limit.burst_size
            used = -(-ahead_us // limit.interval_us)
            if used:
                next_us = ahead_us - (used - 1) * limit.interval_us
        else:
            recent, size = self._recent(limit, _key(limit, spend), now_us), limit.count
            used = len(recent)
            if used:
                next_us = recent[0] + limit.period_ms * _US_PER_MS - now_us
        return LimitState.of(limit, max(0, size - used), -(-next_us // _US_PER_MS))

    def _ahead_us(self, limit: RateLimit, spend: Spend, account: Account, now_us: int) -> int:
        """Return how far the requests so far are ahead of the steady rate, in microseconds.

        More than a whole burst can only be the debt of another policy. Then one request may come,
        and counts as the last one of a burst.
        """
        if limit.is_by_key:
            arrival_us = self._arrivals_us.get(_key(limit, spend), 0)
        else:
            arrival_us = account.arrivals_us.get(limit.name, 0)
        ahead_us, burst_us = max(0, arrival_us - now_us), limit.burst_size * limit.interval_us
        return ahead_us if ahead_us <= burst_us else burst_us - limit.interval_us

    def _recent(self, limit: RateLimit, key: Key, now_us: int) -> Sequence[int]:
        after_us = now_us - limit.period_ms * _US_PER_MS
        return [time_us for time_us in self._times_us.get(key, []) if time_us > after_us]


def _key(limit: RateLimit, spend: Spend) -> Key:
    policy = spend.policy.name if spend.policy.is_shadow else ""
    return policy, limit.name, spend.counts_for(limit)
