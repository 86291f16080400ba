"""Rate limits beside credits: how many requests in how long, whatever they cost."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from faregate.domain.errors import ConfigurationError, InvalidArgumentError
from faregate.domain.quick import quick_maker

#: A window remembers each request in it, so that its size is bounded.
WINDOW_COUNT_MAX = 10_000
#: How many limits one decision may check.
LIMITS_MAX = 16

_PERIOD_MS_MAX = 31 * 86_400_000
_COUNT_MAX = 1_000_000_000


class LimitKind(StrEnum):
    """How requests are counted."""

    #: The generic cell rate algorithm (ITU-T I.371): a steady rate, with bursts up to a size. One
    #: number for each user, whatever the rate.
    GCRA = "gcra"
    #: No more than `count` in any stretch of `period_ms`. Remembers each request in it.
    WINDOW = "window"


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """One named limit of a policy."""

    #: Names the limit in decisions and headers.
    name: str
    #: How many requests `period_ms` allows.
    count: int
    #: The period, in milliseconds.
    period_ms: int
    #: How requests are counted.
    kind: LimitKind = LimitKind.GCRA
    #: How many requests may come at once, of `GCRA`; 0 for as many as `count`.
    burst: int = 0
    #: Whether the limit counts the requests of a limit key, such as a member or an API key, where a
    #: request names one, instead of all of its user. The key is a key of that user: two users with
    #: equal keys are counted apart, so no limit spans several payers.
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
                    f"{what} of limit {self.name!r} lies within {low} and {high}, not {value!r}"
                )
        if self.interval_us < 1:
            raise InvalidArgumentError(f"limit {self.name!r} allows more than one in a microsecond")

    @property
    def state_name(self) -> str:
        """Names its state, for one user or key: limits with this name and these numbers share it.

        So a request of one tier does not free a limit of another tier that has the same name and
        other numbers; and a limit that is changed begins anew.
        """
        return f"{self.name}\0{self.count} {self.period_ms} {self.burst_size}"

    @property
    def interval_us(self) -> int:
        """The time between two requests at the steady rate, in microseconds, rounded down."""
        return self.period_ms * 1_000 // self.count

    @property
    def burst_size(self) -> int:
        """How many requests may come at once."""
        return self.burst or self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitState:
    """What is left of a rate limit after a decision."""

    #: The name of the limit.
    name: str
    #: How many requests the limit allows in a period.
    count: int
    #: The period of the limit, in milliseconds.
    period_ms: int
    #: How many requests could come now.
    remaining: int
    #: In how many milliseconds one more could, if none came until then; 0 where all could now. Of
    #: `WINDOW`, that is when the oldest request leaves it. Of `GCRA`, it is when the steady rate
    #: gives the next one, and not when the whole burst is back: only until then is `remaining` the
    #: most that can come, and of a limit that refuses it is when to come back.
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


#: Makes the state of a limit from all its fields, in their order.
limit_state_of: Callable[..., LimitState] = quick_maker(LimitState)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
