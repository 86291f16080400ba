"""The rate limit fields of responses. The only module that knows the draft.

The draft has two lists in the syntax of structured fields (RFC 9651). Their items are names: first
that of the credit policy, then those of its rate limits.

    RateLimit-Policy: "free";q=100;w=86400, "burst";q=10;w=1
    RateLimit: "free";r=40;t=3600, "burst";r=9;t=1

- `q` is the quota of the policy: the allowance of a period or, without one, the starting credits.
  It is constant, as the draft requires, so `r`, the remaining credits, exceeds it after a purchase.
  Alternatives would mislead more: the largest balance that a user ever had is unknown, and the
  balance before the request would be a quota that shrinks.
- `w` is the length of a period in seconds, rounded up: the draft has no fractions, and a policy
  that looks too strict does no harm. Months differ in length, so they have no `w`.
- `t` is the time in which no more than `r` can be used. In a refusal only the policies that refuse
  have it, so `Retry-After` is never earlier than a `t`, as the draft requires.

Three parts of the draft are left out. `qu`: the draft registers units, and a credit is none of
them; the default unit is a request, which by default costs one credit. `pk`: a policy has one quota
per user. A cap of the ratio of `r` to `t`: a rate limit beside the credits really bounds bursts.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from faregate.asgi.quotas import bounding_policy, quotas_of, whole_seconds
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import ConfigurationError
from faregate.domain.limit import LimitState, RateLimit
from faregate.domain.policy import CreditPolicy, PolicySet

#: The draft that the fields follow. It is no standard yet; a newer one may change the fields.
DRAFT = "draft-ietf-httpapi-ratelimit-headers-11"

Headers: TypeAlias = list[tuple[bytes, bytes]]

#: For how many policies the constant parts are cached.
_POLICIES_MAX = 1_000
_ALLOWED = Verdict.ALLOWED
#: The prefixes of rate limit fields: those of the draft, and the older ones.
_OWN = b"ratelimit"
_OWN_AND_LEGACY = (_OWN, b"x-ratelimit-", b"x-rate-limit-")
_PRINTABLE_MIN = " "
_PRINTABLE_MAX = "~"


class _Known(NamedTuple):
    """The parts of the fields that are constant for a policy."""

    #: A reference, so that no other policy gets the same `id()`.
    policy: CreditPolicy
    policy_field: tuple[bytes, bytes]
    #: The beginning of `RateLimit`.
    credits_left: str


_known: dict[int, _Known] = {}


def _known_of(policy: CreditPolicy) -> _Known:
    """Return the constant parts of a policy, by `id()`, since hashing a policy takes longer."""
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
    """Return the fields of a decision; none if nothing bounds the user.

    Args:
        decision: A decision, allowed or refused. Times count from its moment.
        credits: The balance, if it has changed since.
        legacy: Whether `X-RateLimit-Limit`, `-Remaining` and `-Reset` are sent as well. They
            describe one policy: the one that refuses, else the one with the least left. `Reset` is
            a time in Unix seconds, as at GitHub and in older limiters (express-rate-limit,
            Flask-Limiter), for which clients of these fields were written. `t` and `Retry-After`
            are seconds from now.
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
    # A retry is not checked against limits.
    is_whole = len(limits) == len(policy.limits)
    policy_field = known.policy_field if is_whole else _policy_field(policy, limits)
    fields = [policy_field, (b"ratelimit", ratelimit.encode())]
    return [*fields, *_legacy_fields(decision, left)] if legacy else fields


def with_fields(
    headers: Iterable[tuple[bytes, bytes]], fields: Headers, *, legacy: bool = False
) -> Headers:
    """Return the fields of a response, in which ours replace those of an upstream.

    Args:
        headers: The fields of the app, which may contain rate limits of an upstream.
        fields: Those of `rate_limit_fields`. If empty, the app's fields stay as they are.
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
    """Check at the start that the fields can name all policies and limits.

    Raises:
        ConfigurationError: A name has characters that a field cannot carry, or a limit has the name
            of its policy.
    """
    for policy in policies.tiers.values():
        printable(policy.name, "the name of a policy")
        for limit in policy.limits:
            printable(limit.name, "the name of a limit")
            if limit.name == policy.name:
                raise ConfigurationError(f"a limit of {policy.name!r} has the name of its policy")


def printable(text: object, what: str) -> str:
    """Return `text` if it is printable ASCII, so that it is safe in a header field.

    Raises:
        ConfigurationError: It is not text, is empty, or has other characters. The error names it
            as `what`.
    """
    if not isinstance(text, str):
        raise ConfigurationError(f"{what} must be a text, not {text!r}")
    if not text or not all(_PRINTABLE_MIN <= char <= _PRINTABLE_MAX for char in text):
        raise ConfigurationError(f"{what} must consist of printable ASCII characters, not {text!r}")
    return text


@lru_cache(maxsize=256)
def sf_string(text: str) -> str:
    """Write a printable text as a String of RFC 9651, section 4.1.6."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
