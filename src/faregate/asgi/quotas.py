"""The quotas of a user: that of the credit policy, and those of its rate limits."""

from collections.abc import Sequence
from typing import NamedTuple

from faregate.domain.decision import Decision, Verdict
from faregate.domain.policy import CreditPolicy

_MS_PER_S = 1_000
#: Verdicts that come before the user's credits are checked.
_UNKNOWN = (Verdict.UNKNOWN_USER, Verdict.OVERLOADED)


class Quota(NamedTuple):
    """The quota of one policy after a decision. Units are credits, or requests of a limit."""

    name: str
    #: The units that the policy gives.
    size: int
    #: The units that are left. A balance below zero counts as 0.
    remaining: int
    #: The time until more units than `remaining` may be used, in milliseconds; None for never, or
    #: if it is not known.
    resets_in_ms: int | None
    #: Whether the bound refuses the request.
    is_violated: bool = False


def whole_seconds(ms: int) -> int:
    """Return a time in seconds, rounded up, so that no client comes too early."""
    return -(-ms // _MS_PER_S)


def bounding_policy(decision: Decision) -> CreditPolicy | None:
    """Return the policy that bounds the user of a decision, or None if none does.

    A policy that never refuses, and a shadow policy, bound nobody. Nothing is known if the user is
    unknown or the ledger did not decide.
    """
    policy = decision.policy
    is_unbounded = policy is None or policy.is_unlimited or decision.shadow is not None
    is_unknown = not decision.decided_at_ms or decision.verdict in _UNKNOWN
    return None if is_unbounded or is_unknown else policy


def quotas_of(decision: Decision, credits: int | None = None) -> Sequence[Quota]:
    """Return the quota of the credits, then one for each rate limit that was checked.

    Args:
        decision: An answer of the gate, allowed or refused.
        credits: The balance, if it has changed since.
    """
    policy = bounding_policy(decision)
    if policy is None:
        return ()
    is_over_holds = decision.verdict is Verdict.CREDITS_HELD
    is_limited = decision.verdict is Verdict.RATE_LIMITED
    resets_in_ms = None
    # Held credits may come back at any moment, so the time is not known.
    if decision.resets_at_ms is not None and not is_over_holds:
        resets_in_ms = max(0, decision.resets_at_ms - decision.decided_at_ms)
    of_credits = Quota(
        name=policy.name,
        size=policy.quota,
        remaining=max(0, decision.credits if credits is None else credits),
        resets_in_ms=resets_in_ms,
        is_violated=is_over_holds or decision.verdict is Verdict.OUT_OF_CREDITS,
    )
    of_limits = (
        Quota(
            name=state.name,
            size=state.count,
            remaining=state.remaining,
            resets_in_ms=state.resets_in_ms,
            is_violated=is_limited and not state.remaining,
        )
        for state in decision.limits
    )
    return (of_credits, *of_limits)
