"""Policies: starting credits, costs, allowances, limits; and the policies of tiers."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Self

from faregate.domain.durability import Durability
from faregate.domain.errors import AmountError, ConfigurationError, UnknownTierError
from faregate.domain.idempotency import KEYS_MAX, LEASE_MS, LIFETIME_MS
from faregate.domain.limit import LIMITS_MAX, RateLimit
from faregate.domain.period import Period
from faregate.domain.transaction import CREDITS_MAX, check_whole
from faregate.domain.user import User

_PERCENT_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """Credits that each period gives, besides bought credits.

    They are spent first. The first charge in a new period restores them.
    """

    #: The credits at the start of a period.
    amount: int
    #: How long it lasts.
    period: Period
    #: The most unused credits that are carried over to the next period.
    rollover_max: int = 0

    def __post_init__(self) -> None:
        check_whole("an allowance", self.amount, 1)
        check_whole("rollover_max", self.rollover_max, 0)

    def top_up(self, left: int) -> int:
        """Return the credits that a new period adds if `left` are unused of the last one.

        Never negative: a smaller allowance takes nothing back.
        """
        return max(0, self.amount + min(left, self.rollover_max) - left)


def in_current_period(user: User, allowance: Allowance | None, now_ms: int) -> tuple[User, int]:
    """Return the user in the period of `now_ms`, and the credits that a new period adds.

    A period never moves back. A changed allowance applies from the next period on.
    """
    if allowance is None:
        return replace(user, period_end_ms=None), 0
    period, started = allowance.period, user.period_start_ms
    if started is not None:
        end_ms = period.end_ms(period.start_ms(started, started))
        if now_ms < end_ms:
            return replace(user, period_end_ms=end_ms), 0
    start_ms = period.start_ms(now_ms, now_ms if started is None else started)
    # A debt lowers the rest of an allowance, so that it is paid once and not in each period. For
    # example, 8 left and a debt of 5 make 3 credits, so 3 are left.
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
    """The treatment of a request that cannot be decided in time."""

    #: The request is not served, and not charged.
    CLOSED = "closed"
    #: The request is served and written to the journal, by which it is charged later.
    OPEN = "open"


class OnExpiry(StrEnum):
    """The end of a hold that is not settled in time."""

    #: The estimate is refunded.
    GIVE_BACK = "give_back"
    #: The estimate stays charged.
    KEEP = "keep"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditPolicy:
    """The rules by which users are charged."""

    #: The name of the policy in headers and decisions.
    name: str = "credits"
    #: The starting credits of a new user, as a row of its own. 0 means no row.
    starting_credits: int = 3
    #: The cost of a request, in credits.
    request_cost: int = 1
    #: The allowance, if any.
    allowance: Allowance | None = None
    #: The rate limits, checked with the credits in this order. A request passes all or none.
    limits: tuple[RateLimit, ...] = ()
    #: Whether the policy never refuses: requests are deducts of 0, with the cost in their metadata.
    is_unlimited: bool = False
    #: Whether this is a shadow policy: it decides on a balance of its own, and neither refuses,
    #: charges nor records.
    is_shadow: bool = False
    #: The most that one request may cost, in credits.
    cost_max: int = CREDITS_MAX
    #: The used part of the allowance from which a user is warned, in percent.
    warning_percent: int = 80
    #: How far below zero a settlement may take a balance, in credits.
    overdraft_max: int = 0
    #: The default end of a hold that is not settled in time.
    on_expiry: OnExpiry = OnExpiry.GIVE_BACK
    #: How safe a charge or hold is before it is answered. A rule, or the call, may ask for another.
    durability: Durability = Durability.MEMORY

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
            AmountError: It is no whole number, negative, or larger than `cost_max`.
        """
        if cost is None:
            return self.request_cost
        number = check_whole("a cost", cost, 0)
        if number > self.cost_max:
            raise AmountError(f"policy {self.name!r} lets a request cost {self.cost_max} at most")
        return number

    @property
    def granted(self) -> Allowance | None:
        """The allowance that the ledger pays: none for a shadow policy."""
        return None if self.is_shadow else self.allowance

    @property
    def quota(self) -> int:
        """The quota of the policy: its allowance or, without one, its starting credits."""
        return self.starting_credits if self.allowance is None else self.allowance.amount


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySet:
    """The policies of tiers."""

    #: The policy of each tier, such as free, paid and admin.
    tiers: Mapping[str, CreditPolicy]
    #: The tier of users without another one.
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
        """Return a set with one policy for all users."""
        return cls(tiers={"default": policy})

    def of(self, tier: str | None) -> CreditPolicy:
        """Return the policy of a tier, or of the default one.

        Raises:
            UnknownTierError: There is no such tier.
        """
        try:
            return self.tiers[self.default_tier if tier is None else tier]
        except (KeyError, TypeError):
            known = ", ".join(sorted(self.tiers))
            raise UnknownTierError(f"no policy for the tier {tier!r}; known: {known}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerOptions:
    """The thresholds and delays of the circuit breaker."""

    #: The missing answers in a row that open it, at least one of them to a request that was made
    #: after the first one was missing.
    failures_max: int = 10
    #: The span of these, in milliseconds.
    span_ms: int = 10_000
    #: The first delay until one request tries Redis again, in milliseconds. It doubles with each
    #: failure.
    delay_ms_min: int = 100
    #: The longest delay, in milliseconds.
    delay_ms_max: int = 1_000

    def __post_init__(self) -> None:
        if self.failures_max < 1 or self.span_ms < 1:
            raise ConfigurationError("a breaker opens after 1 failure, within 1 ms, or more")
        if not 0 < self.delay_ms_min <= self.delay_ms_max:
            raise ConfigurationError("the delay of a breaker is 1 ms at least, and grows")


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOptions:
    """The options of a gate, besides its policies."""

    #: A charge is decided within this time, in milliseconds, or fails and is never charged. The
    #: first request of a user also waits for Postgres, and then for a second decision.
    decision_timeout_ms: int = 50
    #: The timeout of other operations, in milliseconds: the end of a hold, a refund, a balance.
    end_timeout_ms: int = 2_000
    #: The most requests per second that are served open in an overload; others are `OVERLOADED`. An
    #: outage has no such bound.
    open_rate_max: int = 1_000
    #: The options of the circuit breaker.
    breaker: BreakerOptions = BreakerOptions()
    #: Whether a user that Postgres does not know is created at its first request.
    provision_users: bool = False
    #: How long an idempotency key is remembered, in milliseconds. A change forgets existing keys.
    idempotency_lifetime_ms: int = LIFETIME_MS
    #: The time after which a retry takes over a request that was not completed, in milliseconds.
    idempotency_lease_ms: int = LEASE_MS
    #: The most idempotency keys of a user in one lifetime.
    idempotency_keys_max: int = KEYS_MAX
    #: How long `aclose` waits for pending voids and refunds, in seconds.
    close_timeout_s: float = 5.0
