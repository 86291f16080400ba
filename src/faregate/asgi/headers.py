"""The fields that tell a client what it has left. The one module that knows the draft.

The draft has two lists in the syntax of structured fields (RFC 9651), whose items are the names of
policies: first the credit policy, then its rate limits.

    RateLimit-Policy: "free";q=100;w=86400, "burst";q=10;w=1
    RateLimit: "free";r=40;t=3600, "burst";r=9;t=1

- `q` is what the policy gives: the allowance of a period or, without one, the starting credits. It
  stays the same from response to response, as the draft asks, so that `r`, what is left, exceeds it
  after a purchase. The alternatives mislead more: the largest balance a user ever had is known to
  nobody, and the balance before the request would be a quota that shrinks.
- `w` is the length of a period in seconds, rounded up: the draft has no fractions, and a policy
  that looks stricter than it is harms nobody. Months differ, so they have none.
- `t` is the time in which no more than `r` can be used. A refusal tells it only of policies that
  refuse, so that `Retry-After` never lies before a `t`, as the draft asks.

What is left out, and why: `qu`, since a unit must be one that the draft registers, and a credit is
none of them (by default a unit is a request, which is what a credit buys unless the policy says
otherwise); `pk`, since a policy has one quota a user; a cap of the ratio of `r` to `t`, since a
rate limit beside the credits bounds bursts for real.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import TypeAlias

from faregate.asgi.quotas import Quota, quotas_of, whole_seconds
from faregate.domain.decision import Decision
from faregate.domain.errors import ConfigurationError
from faregate.domain.policy import PolicySet

#: The draft that the fields follow; a newer one may change them. It is no standard yet.
DRAFT = "draft-ietf-httpapi-ratelimit-headers-11"

Headers: TypeAlias = list[tuple[bytes, bytes]]

_PRINTABLE_MIN = " "
_PRINTABLE_MAX = "~"


def rate_limit_fields(decision: Decision, now_ms: int, *, legacy: bool = False) -> Headers:
    """Return the fields for what a decision left; none where nothing bounds the user.

    Args:
        decision: An answer of the gate, allowed or refused.
        now_ms: The ledger's time in Unix milliseconds, for the time until credits come back. What
            is told of rate limits is as old as the decision.
        legacy: Whether `X-RateLimit-Limit`, `-Remaining` and `-Reset` are sent as well. They have
            room for one policy: the one that refuses or, if none does, has the least left. `Reset`
            is a moment in Unix seconds, as at GitHub and in the limiters that sent these fields
            before there was a draft (express-rate-limit, Flask-Limiter): who still reads
            them was written for those. Others mean seconds from now; `t` and `Retry-After` do.
    """
    quotas = quotas_of(decision, now_ms)
    if not quotas:
        return []
    states = [
        _state_item(quota, tells_time=decision.allowed or quota.is_violated) for quota in quotas
    ]
    fields = [
        (b"ratelimit-policy", ", ".join(map(_policy_item, quotas)).encode()),
        (b"ratelimit", ", ".join(states).encode()),
    ]
    return [*fields, *_legacy_fields(quotas, now_ms)] if legacy else fields


def _policy_item(quota: Quota) -> str:
    window = "" if quota.period_ms is None else f";w={whole_seconds(quota.period_ms)}"
    return f"{sf_string(quota.name)};q={quota.size}{window}"


def _state_item(quota: Quota, *, tells_time: bool) -> str:
    time = f";t={quota.resets_in_s}" if tells_time and quota.resets_in_s else ""
    return f"{sf_string(quota.name)};r={quota.remaining}{time}"


def _legacy_fields(quotas: Iterable[Quota], now_ms: int) -> Headers:
    told = min(quotas, key=lambda quota: (not quota.is_violated, quota.remaining))
    fields = [
        (b"x-ratelimit-limit", str(told.size).encode()),
        (b"x-ratelimit-remaining", str(told.remaining).encode()),
    ]
    if told.resets_in_ms is not None:
        resets_at_s = whole_seconds(now_ms + told.resets_in_ms)
        fields.append((b"x-ratelimit-reset", str(resets_at_s).encode()))
    return fields


def check_names(policies: PolicySet) -> None:
    """Make sure, once and before anybody is served, that fields can name all policies and limits.

    Raises:
        ConfigurationError: A name has characters that a field cannot carry, or a limit is named
            like its policy, so that clients could not tell them apart.
    """
    for policy in policies.tiers.values():
        printable(policy.name, "the name of a policy")
        for limit in policy.limits:
            printable(limit.name, "the name of a limit")
            if limit.name == policy.name:
                raise ConfigurationError(f"a limit of {policy.name!r} has the name of its policy")


def printable(text: object, what: str) -> str:
    """Return `text` if it can be part of a field: printable ASCII, so that it injects nothing.

    Raises:
        ConfigurationError: It is not a text, is empty, or has other characters. `what` names it.
    """
    if not isinstance(text, str):
        raise ConfigurationError(f"{what} is a text, not {text!r}")
    if not text or not all(_PRINTABLE_MIN <= char <= _PRINTABLE_MAX for char in text):
        raise ConfigurationError(f"{what} consists of printable ASCII characters, not {text!r}")
    return text


@lru_cache(maxsize=256)
def sf_string(text: str) -> str:
    """Write a printable text as a String of RFC 9651, section 4.1.6."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
