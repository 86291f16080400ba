"""The problems of refusals."""

from collections.abc import Sequence
from datetime import UTC, datetime

from faregate.asgi.problems import (
    BACKLOG,
    KEY_DONE,
    KEY_IN_FLIGHT,
    KEY_REUSED,
    OVERLOADED,
    QUOTA_EXCEEDED,
    QUOTA_TITLE,
    SOON_S,
    STATUSES,
    TOO_MANY_HOLDS,
    TOO_MANY_KEYS,
    UNAVAILABLE,
    UNKNOWN_USER,
    VOIDED,
    Problem,
)
from faregate.asgi.quotas import Quota, quotas_of, whole_seconds
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import InvalidArgumentError
from faregate.domain.idempotency import KeyState

#: Shorter waits give a `Retry-After` of one second, since it has no fractions.
_SOON_MS_MAX = 1_500

_BY_VERDICT = {
    Verdict.UNKNOWN_USER: UNKNOWN_USER,
    Verdict.KEY_REUSED: KEY_REUSED,
    Verdict.VOIDED: VOIDED,
    Verdict.BACKLOG: BACKLOG,
    Verdict.TOO_MANY_KEYS: TOO_MANY_KEYS,
    Verdict.TOO_MANY_HOLDS: TOO_MANY_HOLDS,
}
_BY_KEY_STATE = {KeyState.IN_FLIGHT: KEY_IN_FLIGHT, KeyState.DONE: KEY_DONE}


def problem_of(decision: Decision) -> Problem:
    """Return the problem of a request that is not served.

    Args:
        decision: A refusal, or the decision on an idempotency key whose request is in flight or was
            served.

    Raises:
        InvalidArgumentError: The request is served.
    """
    if decision.verdict in _BY_DECISION:
        return _BY_DECISION[decision.verdict](decision)
    if not decision.allowed:
        # Requests get no other verdicts. An unexpected one is not served.
        return _BY_VERDICT.get(decision.verdict, UNAVAILABLE)
    if decision.key_state not in _BY_KEY_STATE:
        raise InvalidArgumentError("the request is served, so there is no problem")
    return _BY_KEY_STATE[decision.key_state]


def _out_of_credits(decision: Decision) -> Problem:
    """Return the problem of a balance below the cost: a 429 if waiting helps, else a 402."""
    violated = _violated(decision)
    # Without a policy there is no quota.
    resets_in_ms = violated[0].resets_in_ms if violated else None
    waits = resets_in_ms is not None and _reset_suffices(decision, violated[0].size)
    return Problem(
        code="out_of_credits",
        status=429 if waits else STATUSES["out_of_credits"],
        type=QUOTA_EXCEEDED if waits else "",
        title=QUOTA_TITLE if waits else "Not enough credits",
        detail=f"{_cost_and_balance(decision)}.",
        retry_after_s=whole_seconds(resets_in_ms or 0) if waits else None,
        extensions=_members(decision, violated),
        offers_upgrade=True,
    )


def _reset_suffices(decision: Decision, allowance: int) -> bool:
    """Return whether the next period alone brings enough credits."""
    left = max(0, min(decision.allowance_left, decision.credits))
    return -decision.amount <= decision.credits + max(0, allowance - left)


def _rate_limited(decision: Decision) -> Problem:
    """Return the problem of rate limits: which of them refuse, and when all of them will allow."""
    violated = _violated(decision)
    wait_ms = max([decision.retry_after_ms, *(quota.resets_in_ms or 0 for quota in violated)])
    retry_after_s = whole_seconds(wait_ms)
    return Problem(
        code="rate_limited",
        status=STATUSES["rate_limited"],
        type=QUOTA_EXCEEDED,
        title=QUOTA_TITLE,
        detail="Too many requests arrived in a short time.",
        retry_after_s=retry_after_s,
        extensions=_members(decision, violated),
        offers_upgrade=True,
    )


def _credits_held(decision: Decision) -> Problem:
    """Return the problem of credits in open holds."""
    return Problem(
        code="credits_held",
        status=STATUSES["credits_held"],
        type=QUOTA_EXCEEDED,
        title=QUOTA_TITLE,
        detail=f"{_cost_and_balance(decision)}, and your requests in progress hold more.",
        retry_after_s=SOON_S,
        extensions=_members(decision, _violated(decision)),
    )


def _overloaded(decision: Decision) -> Problem:
    """Return the problem of an overload, with different waits for different requests."""
    is_soon = decision.retry_after_ms < _SOON_MS_MAX
    return OVERLOADED[0] if is_soon else OVERLOADED[1]


_BY_DECISION = {
    Verdict.OUT_OF_CREDITS: _out_of_credits,
    Verdict.RATE_LIMITED: _rate_limited,
    Verdict.CREDITS_HELD: _credits_held,
    Verdict.OVERLOADED: _overloaded,
}


def _violated(decision: Decision) -> Sequence[Quota]:
    return [quota for quota in quotas_of(decision) if quota.is_violated]


def _members(decision: Decision, violated: Sequence[Quota]) -> dict[str, object]:
    """Return the members about the violated policies; `limit` is that of the first."""
    resets_ms = [quota.resets_in_ms for quota in violated if quota.resets_in_ms is not None]
    members: dict[str, object] = {
        # Without the states of limits, the decision still names the limit.
        "violated-policies": [quota.name for quota in violated] or [decision.limited_by],
        "credits": decision.credits,
        "cost": -decision.amount,
    }
    if violated:
        members["limit"] = violated[0].size
    if resets_ms:
        resets_at_s = whole_seconds(decision.decided_at_ms + max(resets_ms))
        members["resets_at"] = f"{datetime.fromtimestamp(resets_at_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return members


def _cost_and_balance(decision: Decision) -> str:
    cost, balance = _credits(-decision.amount), _credits(decision.credits)
    return f"This request costs {cost}; the balance is {balance}"


def _credits(count: int) -> str:
    return f"{count} credit" if count == 1 else f"{count} credits"
