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

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from faregate.asgi.quotas import bounding_policy, quotas_of, whole_seconds
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import ConfigurationError
from faregate.domain.limit import LimitState, RateLimit
from faregate.domain.policy import CreditPolicy, PolicySet

#: The draft that the fields follow; a newer one may change them. It is no standard yet.
DRAFT = "draft-ietf-httpapi-ratelimit-headers-11"

Headers: TypeAlias = list[tuple[bytes, bytes]]

#: Of how many policies the fields are remembered.
_POLICIES_MAX = 1_000
_ALLOWED = Verdict.ALLOWED
#: What the names of fields begin with that tell what is left, by the draft and as they were sent
#: before it.
_OWN = b"ratelimit"
_OWN_AND_LEGACY = (_OWN, b"x-ratelimit-", b"x-rate-limit-")
_PRINTABLE_MIN = " "
_PRINTABLE_MAX = "~"


class _Known(NamedTuple):
    """The parts of the fields that are the same for all decisions by a policy."""

    #: Kept, so that no other policy gets its id.
    policy: CreditPolicy
    policy_field: tuple[bytes, bytes]
    #: The beginning of `RateLimit`.
    credits_left: str


_known: dict[int, _Known] = {}


def _known_of(policy: CreditPolicy) -> _Known:
    """Return what is known of a policy, by its id: to hash a policy takes longer than the rest."""
    found = _known.get(id(policy))
    if found is None:
        if len(_known) >= _POLICIES_MAX:
            _known.clear()
        field = _policy_field(policy, policy.limits)
        found = _known[id(policy)] = _Known(policy, field, f"{sf_string(policy.name)};r=")
    return found


def _policy_field(
    policy: CreditPolicy, limits: Sequence[LimitState] | Sequence[RateLimit]
) -> tuple[bytes, bytes]:
    length_ms = None if policy.allowance is None else policy.allowance.period.fixed_length_ms
    items = [_policy_item(policy.name, policy.quota, length_ms)]
    items += [_policy_item(limit.name, limit.count, limit.period_ms) for limit in limits]
    return b"ratelimit-policy", ", ".join(items).encode()


def rate_limit_fields(
    decision: Decision, credits: int | None = None, *, legacy: bool = False
) -> Headers:
    """Return the fields for what a decision left; none where nothing bounds the user.

    Args:
        decision: An answer of the gate, allowed or refused. Times are told from its moment.
        credits: The balance, where it has changed since.
        legacy: Whether `X-RateLimit-Limit`, `-Remaining` and `-Reset` are sent as well. They have
            room for one policy: the one that refuses or, if none does, has the least left. `Reset`
            is a moment in Unix seconds, as at GitHub and in the limiters that sent these fields
            before there was a draft (express-rate-limit, Flask-Limiter): clients that still read
            them were written for those. Others mean seconds from now; `t` and `Retry-After` do.
    """
    policy = bounding_policy(decision)
    if policy is None:
        return []
    known, verdict, limits = _known_of(policy), decision.verdict, decision.limits
    left = decision.credits if credits is None else credits
    ratelimit = f"{known.credits_left}{left if left > 0 else 0}"
    is_allowed, resets_at_ms = verdict is _ALLOWED, decision.resets_at_ms
    if resets_at_ms is not None and (is_allowed or verdict is Verdict.OUT_OF_CREDITS):
        ratelimit += _time(resets_at_ms - decision.decided_at_ms)
    for state in limits:
        ratelimit += f", {sf_string(state.name)};r={state.remaining}"
        if is_allowed or (verdict is Verdict.RATE_LIMITED and not state.remaining):
            ratelimit += _time(state.resets_in_ms)
    # A retry looks at no limits.
    is_whole = len(limits) == len(policy.limits)
    policy_field = known.policy_field if is_whole else _policy_field(policy, limits)
    fields = [policy_field, (b"ratelimit", ratelimit.encode())]
    return [*fields, *_legacy_fields(decision, left)] if legacy else fields


def with_fields(
    headers: Iterable[tuple[bytes, bytes]], fields: Headers, *, legacy: bool = False
) -> Headers:
    """Return the fields of a response with ours, which replace those of an upstream.

    Args:
        headers: The fields of the app, which may pass on how much it has left elsewhere.
        fields: Those of `rate_limit_fields`; without any, the app's are left as they are.
        legacy: Whether `X-RateLimit` fields are among them.
    """
    if not fields:
        return list(headers)
    own = _OWN_AND_LEGACY if legacy else _OWN
    return [pair for pair in headers if not pair[0].lower().startswith(own)] + fields


def _time(ms: int) -> str:
    return f";t={whole_seconds(ms)}" if ms > 0 else ""


def _policy_item(name: str, size: int, period_ms: int | None) -> str:
    window = "" if period_ms is None else f";w={whole_seconds(period_ms)}"
    return f"{sf_string(name)};q={size}{window}"


def _legacy_fields(decision: Decision, credits: int) -> Headers:
    quotas = quotas_of(decision, credits)
    tightest = min(quotas, key=lambda quota: (not quota.is_violated, quota.remaining))
    fields = [
        (b"x-ratelimit-limit", str(tightest.size).encode()),
        (b"x-ratelimit-remaining", str(tightest.remaining).encode()),
    ]
    if tightest.resets_in_ms is not None:
        resets_at_s = whole_seconds(decision.decided_at_ms + tightest.resets_in_ms)
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
