"""Rate limits: bounds on the number of requests in a time, independent of their cost."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from faregate.domain.errors import ConfigurationError, InvalidArgumentError
from faregate.domain.quick import quick_maker

#: The most requests of a window, since each of them is stored.
WINDOW_COUNT_MAX = 10_000
#: The most limits that one decision checks.
LIMITS_MAX = 16

_PERIOD_MS_MAX = 31 * 86_400_000
_COUNT_MAX = 1_000_000_000


class LimitKind(StrEnum):
    """The algorithm of a limit."""

    #: The generic cell rate algorithm (ITU-T I.371): a steady rate with bursts up to a size. It
    #: stores one number for each user.
    GCRA = "gcra"
    #: At most `count` in any window of `period_ms`. It stores the time of each of them.
    WINDOW = "window"


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """One named limit of a policy."""

    #: The name of the limit in decisions and headers.
    name: str
    #: The requests that `period_ms` allows.
    count: int
    #: The period, in milliseconds.
    period_ms: int
    #: How requests are counted.
    kind: LimitKind = LimitKind.GCRA
    #: For `GCRA`: the requests that may come at once; 0 for `count`.
    burst: int = 0
    #: Whether the limit counts requests by limit key, such as a member or an API key, instead of
    #: all requests of a user. The key belongs to the user: equal keys of two users count
    #: separately, so no limit spans several users.
    is_by_key: bool = False

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigurationError("a limit needs a name")
        count_max = WINDOW_COUNT_MAX if self.kind is LimitKind.WINDOW else _COUNT_MAX
        for what, value, low, high in (
            ("count", self.count, 1, count_max),
            ("period_ms", self.period_ms, 1, _PERIOD_MS_MAX),
            ("burst", self.burst, 0, _COUNT_MAX),
        ):
            if not _is_whole(value) or not low <= value <= high:
                raise InvalidArgumentError(
                    f"{what} of limit {self.name!r} must lie between {low} and"
                    f" {high}, not {value!r}"
                )
        if self.interval_us < 1:
            raise InvalidArgumentError(f"limit {self.name!r} allows more than one in a microsecond")

    @property
    def state_name(self) -> str:
        """The name of its state for a user or key. Limits with the same name and numbers share it.

        So limits of two tiers with the same name and other numbers are separate, and a changed
        limit begins again.
        """
        return f"{self.name}\0{self.count} {self.period_ms} {self.burst_size}"

    @property
    def interval_us(self) -> int:
        """The time between two requests at the steady rate, in microseconds, rounded down."""
        return self.period_ms * 1_000 // self.count

    @property
    def burst_size(self) -> int:
        """The requests that may come at once."""
        return self.burst or self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitState:
    """The state of a rate limit after a decision."""

    #: The name of the limit.
    name: str
    #: How many requests the limit allows in a period.
    count: int
    #: The period of the limit, in milliseconds.
    period_ms: int
    #: The requests that are allowed now.
    remaining: int
    #: The time until one more request is allowed, if none comes before, in milliseconds; 0 if the
    #: limit is unused. For `WINDOW` it is when the oldest request leaves the window. For `GCRA` it
    #: is when the steady rate allows the next one, not when the whole burst is back: `remaining` is
    #: the maximum only until then, and after a refusal a retry passes then.
    resets_in_ms: int

    @classmethod
    def of(cls, limit: RateLimit, remaining: int, resets_in_ms: int) -> Self:
        """Return the state of a limit."""
        return cls(
            name=limit.name,
            count=limit.count,
            period_ms=limit.period_ms,
            remaining=remaining,
            resets_in_ms=resets_in_ms,
        )


#: Makes the state of a limit from all its fields, by position.
limit_state_of: Callable[..., LimitState] = quick_maker(LimitState)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
