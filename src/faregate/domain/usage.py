"""The usage of a user: used and remaining credits."""

from dataclasses import dataclass
from typing import Self
from uuid import UUID

from faregate.domain.policy import CreditPolicy
from faregate.domain.user import User


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """A user's credits at one moment, by its policy."""

    #: The user.
    user_id: UUID
    #: The name of the policy.
    policy: str
    #: Whether the user is never refused; then the other numbers do not limit it.
    is_unlimited: bool
    #: The credits that can be spent now: the rest of the allowance, and bought credits.
    remaining: int
    #: The credits in open holds: not part of `remaining`, though some may come back.
    held: int
    #: The allowance of a period; None without one.
    limit: int | None
    #: The spent part of the allowance in this period; None without one.
    used: int | None
    #: When the period began, in Unix milliseconds.
    period_start_ms: int | None
    #: When the next period begins, in Unix milliseconds.
    period_end_ms: int | None
    #: Whether the used part of the allowance reaches the warning level, without bought credits.
    is_warning: bool

    @classmethod
    def of(cls, user: User, policy: CreditPolicy) -> Self:
        """Return the usage of a balance, as a charge would find it now, by its policy."""
        allowance = policy.granted
        limit = None if allowance is None else allowance.amount
        # Credits carried over exceed the limit, so none of the limit is used yet.
        used = None if limit is None else max(0, limit - user.allowance_left)
        has_bought_credits = user.credits > user.allowance_left
        is_near = (
            limit is not None
            and used is not None
            and (100 * used >= policy.warning_percent * limit)
        )
        return cls(
            user_id=user.id,
            policy=policy.name,
            is_unlimited=policy.is_unlimited or policy.is_shadow,
            remaining=user.credits,
            held=user.held,
            limit=limit,
            used=used,
            period_start_ms=None if limit is None else user.period_start_ms,
            period_end_ms=user.period_end_ms,
            is_warning=is_near and not has_bought_credits and not policy.is_unlimited,
        )
