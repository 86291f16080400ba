"""What bounds a user: its credit policy and each rate limit, in the same terms."""

from typing import NamedTuple

from faregate.domain.decision import Decision, Verdict

_MS_PER_S = 1_000


class Quota(NamedTuple):
    """One policy, and what a decision left of it. Units are credits, or requests of a limit.

    A tuple and no dataclass: each response makes some, and tuples are made in a third of the time.
    """

    name: str
    #: How many units the policy gives.
    size: int
    #: In which time, in milliseconds; None where that differs, or where it gives once.
    period_ms: int | None
    #: How many units are left. A balance below zero buys nothing either, so it counts as 0.
    remaining: int
    #: After how many milliseconds more units than `remaining` may be used; None for never, or where
    #: nobody knows.
    resets_in_ms: int | None
    #: Whether it refuses the request.
    is_violated: bool = False

    @property
    def resets_in_s(self) -> int | None:
        """The same in whole seconds, rounded up."""
        return None if self.resets_in_ms is None else whole_seconds(self.resets_in_ms)


def whole_seconds(ms: int) -> int:
    """Return a time in seconds, rounded up, so that nobody comes a moment too early."""
    return -(-ms // _MS_PER_S)


def quotas_of(decision: Decision, now_ms: int) -> tuple[Quota, ...]:
    """Return the quota of the credits, and then one for each rate limit that was looked at.

    There are none where nothing bounds the user, since its policy never refuses or is only
    observed, and none of a user that nobody knows.
    """
    is_unbounded = decision.is_unlimited or decision.shadow is not None
    if is_unbounded or decision.verdict is Verdict.UNKNOWN_USER:
        return ()
    is_limited = decision.verdict is Verdict.RATE_LIMITED
    limits = (
        Quota(
            name=state.name,
            size=state.count,
            period_ms=state.period_ms,
            remaining=state.remaining,
            resets_in_ms=state.resets_in_ms,
            is_violated=is_limited and not state.remaining,
        )
        for state in decision.limits
    )
    return (_credit_quota(decision, now_ms), *limits)


def _credit_quota(decision: Decision, now_ms: int) -> Quota:
    is_held = decision.verdict is Verdict.CREDITS_HELD
    resets_in_ms = None
    # What is held may come back at any moment, so that nothing is known of the time.
    if decision.resets_at_ms is not None and not is_held:
        resets_in_ms = max(0, decision.resets_at_ms - now_ms)
    return Quota(
        name=decision.policy,
        size=decision.limit,
        period_ms=decision.period_ms,
        remaining=max(0, decision.credits),
        resets_in_ms=resets_in_ms,
        is_violated=is_held or decision.verdict is Verdict.OUT_OF_CREDITS,
    )
