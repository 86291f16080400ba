"""What a user starts with, what a request costs, what comes back in each period, and for whom."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Self

from faregate.domain.errors import AmountError, ConfigurationError, UnknownTierError
from faregate.domain.idempotency import KEYS_MAX, LEASE_MS, LIFETIME_MS
from faregate.domain.limit import LIMITS_MAX, RateLimit
from faregate.domain.period import Period
from faregate.domain.transaction import CREDITS_MAX, check_whole
from faregate.domain.user import User

_PERCENT_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """Credits that a user gets anew in each period, beside those that it has bought.

    What is left of it is spent first. The first charge in a new period restores it, and it alone.
    """

    #: How many credits a period begins with.
    amount: int
    #: How long it lasts.
    period: Period
    #: How much of what was left is carried over into the next period, at most.
    rollover_max: int = 0

    def __post_init__(self) -> None:
        check_whole("an allowance", self.amount, 1)
        check_whole("rollover_max", self.rollover_max, 0)

    def top_up(self, left: int) -> int:
        """Return what a new period adds where `left` is left of the one before.

        Never less than 0: an allowance that has become smaller takes nothing back.
        """
        return max(0, self.amount + min(left, self.rollover_max) - left)


def in_current_period(user: User, allowance: Allowance | None, now_ms: int) -> tuple[User, int]:
    """Return the user as it is in the period of `now_ms`, and how many credits that adds.

    A period never moves back. A smaller allowance, or one of other periods, holds from the next
    period on.
    """
    if allowance is None:
        return replace(user, period_end_ms=None), 0
    period, started = allowance.period, user.period_start_ms
    if started is not None:
        end_ms = period.end_ms(period.start_ms(started, started))
        if now_ms < end_ms:
            return replace(user, period_end_ms=end_ms), 0
    start_ms = period.start_ms(now_ms, now_ms if started is None else started)
    # A debt lowers the rest of an allowance: 8 left and a debt of 5 are 3 credits, so 3 are left.
    # So a debt is paid once, and not in each period.
    left = max(0, min(user.allowance_left, user.credits))
    top_up = allowance.top_up(left)
    in_period = replace(
        user,
        credits=user.credits + top_up,
        allowance_left=left + top_up if top_up else user.allowance_left,
        period_start_ms=start_ms,
        period_end_ms=period.end_ms(start_ms),
    )
    return in_period, top_up


class FailureMode(StrEnum):
    """What becomes of a request on which no decision can be had in time."""

    #: It is not served, and nobody pays for it.
    CLOSED = "closed"
    #: It is served, and written to the journal, from which it is charged later.
    OPEN = "open"


class OnExpiry(StrEnum):
    """What becomes of a hold that nobody settles in time."""

    #: The estimate is refunded.
    GIVE_BACK = "give_back"
    #: The estimate stays charged.
    KEEP = "keep"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditPolicy:
    """The rules by which users are charged."""

    #: Names the policy in headers and decisions.
    name: str = "credits"
    #: What a new user gets, once, as a row of its own. 0 means no row.
    starting_credits: int = 3
    #: What one request costs.
    request_cost: int = 1
    #: What comes back in each period, if anything.
    allowance: Allowance | None = None
    #: Checked together with the credits, in this order: all allow, or nothing is taken.
    limits: tuple[RateLimit, ...] = ()
    #: Never refused: recorded as a deduct of 0, with the cost in its metadata.
    is_unlimited: bool = False
    #: Only observed, on a balance of its own: it neither refuses, charges nor records.
    is_shadow: bool = False
    #: The most that one request may cost, in credits.
    cost_max: int = CREDITS_MAX
    #: From which part of the allowance on a user is warned, in percent.
    warning_percent: int = 80
    #: How far below zero a settlement may take a balance for what its hold's estimate lacks.
    overdraft_max: int = 0
    #: What becomes of a hold that nobody settles in time, unless the hold says otherwise.
    on_expiry: OnExpiry = OnExpiry.GIVE_BACK

    def __post_init__(self) -> None:
        names = [limit.name for limit in self.limits]
        if len(names) > LIMITS_MAX or len(set(names)) < len(names):
            raise ConfigurationError(f"at most {LIMITS_MAX} limits, each with a name of its own")
        if self.limits and self.is_unlimited:
            raise ConfigurationError("a policy that never refuses has no limits")
        if not self.name:
            raise ConfigurationError("a policy needs a name")
        check_whole("starting_credits", self.starting_credits, 0)
        check_whole("cost_max", self.cost_max, 0)
        check_whole("request_cost", self.request_cost, 0)
        self.cost_of(self.request_cost)
        check_whole("overdraft_max", self.overdraft_max, 0)
        if not 0 < self.warning_percent <= _PERCENT_MAX:
            raise ConfigurationError(f"warning_percent is 1 to 100, not {self.warning_percent}")

    def cost_of(self, cost: object) -> int:
        """Return the cost of a request: `request_cost` for None.

        Raises:
            AmountError: It is no whole number, negative, or more than `cost_max`.
        """
        if cost is None:
            return self.request_cost
        number = check_whole("a cost", cost, 0)
        if number > self.cost_max:
            raise AmountError(f"policy {self.name!r} lets a request cost {self.cost_max} at most")
        return number

    @property
    def granted(self) -> Allowance | None:
        """The allowance that the ledger really pays: none of a policy that is only observed."""
        return None if self.is_shadow else self.allowance

    @property
    def quota(self) -> int:
        """What the policy gives: its allowance in a period or, without one, to start with."""
        return self.starting_credits if self.allowance is None else self.allowance.amount


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySet:
    """Which policy holds for which tier of users."""

    #: The policy of each tier: free, paid, admin, or whatever the application calls them.
    tiers: Mapping[str, CreditPolicy]
    #: The tier of users of whom nothing else is known.
    default_tier: str = "default"

    def __post_init__(self) -> None:
        if self.default_tier not in self.tiers:
            raise ConfigurationError(f"there is no policy for the tier {self.default_tier!r}")
        object.__setattr__(self, "tiers", MappingProxyType(dict(self.tiers)))
        if len({policy.starting_credits for policy in self.tiers.values()}) > 1:
            raise ConfigurationError("all tiers start with the same credits: a user starts once")
        names = Counter(policy.name for policy in set(self.tiers.values()))
        for policy in self.tiers.values():
            if policy.is_shadow and names[policy.name] > 1:
                raise ConfigurationError(f"two policies are named {policy.name!r}: name them apart")

    @classmethod
    def single(cls, policy: CreditPolicy) -> Self:
        """Make a set in which one policy holds for everybody."""
        return cls(tiers={"default": policy})

    def of(self, tier: str | None) -> CreditPolicy:
        """Return the policy of a tier, or of the default one.

        Raises:
            UnknownTierError: No such tier.
        """
        try:
            return self.tiers[self.default_tier if tier is None else tier]
        except (KeyError, TypeError):
            known = ", ".join(sorted(self.tiers))
            raise UnknownTierError(f"no policy for the tier {tier!r}; known: {known}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerOptions:
    """When the circuit breaker opens, and how often it lets a request try Redis again."""

    #: How many answers in a row must be missing, one of them to a request that was made after the
    #: first was missing.
    failures_max: int = 10
    #: Within which time, in milliseconds.
    span_ms: int = 10_000
    #: After which time one request is let through at first, in milliseconds. The time doubles with
    #: each that fails.
    delay_ms_min: int = 100
    #: The longest such time, in milliseconds.
    delay_ms_max: int = 1_000

    def __post_init__(self) -> None:
        if self.failures_max < 1 or self.span_ms < 1:
            raise ConfigurationError("a breaker opens after 1 failure, within 1 ms, or more")
        if not 0 < self.delay_ms_min <= self.delay_ms_max:
            raise ConfigurationError("the delay of a breaker is 1 ms at least, and grows")


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOptions:
    """How a gate behaves, beside its policies."""

    #: Within this time a charge is decided, or answered as unavailable and never charged. A user
    #: that is seen for the first time may take as long as Postgres does, and once more.
    decision_timeout_ms: int = 50
    #: How long any other call to Redis may take, such as the end of a hold, a refund, a balance.
    end_timeout_ms: int = 2_000
    #: How many requests a second are served open while more wait than can be decided in time; the
    #: others are `OVERLOADED`. An outage has no such bound.
    open_rate_max: int = 1_000
    #: When requests stop waiting for Redis.
    breaker: BreakerOptions = BreakerOptions()
    #: Whether a user that Postgres does not know is created at first sight.
    provision_users: bool = False
    #: For how long an idempotency key is remembered; another value forgets those that are.
    idempotency_lifetime_ms: int = LIFETIME_MS
    #: After how long a request with a key that was not completed may be taken over.
    idempotency_lease_ms: int = LEASE_MS
    #: How many keys of one user are remembered in one lifetime.
    idempotency_keys_max: int = KEYS_MAX
    #: How long `aclose` waits for voids and refunds that are still being tried.
    close_timeout_s: float = 5.0
