"""The tier and the policy of a user; and tiers that are remembered for a while."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeAlias
from uuid import UUID

from faregate.domain.policy import CreditPolicy, PolicySet

#: Says which tier a user has; None for the default one.
TierOf: TypeAlias = Callable[[UUID], Awaitable[str | None]]

#: How many users' tiers are remembered.
USERS_MAX = 100_000


class Tiers:
    """Knows which policy applies to whom."""

    def __init__(self, policies: PolicySet, resolver: TierOf | None) -> None:
        self.policies = policies
        self.resolver = resolver

    async def policy_of(self, user_id: UUID, tier: str | None = None) -> CreditPolicy:
        """Return the policy of a tier or, without one, of the user's tier.

        Raises:
            UnknownTierError: No such tier.
        """
        return self.policies.of(await self.tier_of(user_id, tier))

    async def tier_of(self, user_id: UUID, tier: str | None = None) -> str | None:
        """Return the tier or, without one, that of the user; None for the default one."""
        if tier is None and self.resolver is not None:
            return await self.resolver(user_id)
        return tier


class CachedTiers:
    """Asks a resolver, and remembers its answer for a named time.

    A change of a tier takes effect after that time at the latest, or at once with `forget`.
    """

    def __init__(
        self,
        resolver: TierOf,
        *,
        lifetime_s: float = 30.0,
        users_max: int = USERS_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resolver = resolver
        self._lifetime_s = lifetime_s
        self._users_max = users_max
        self._clock = clock
        self._known: OrderedDict[UUID, tuple[float, str | None]] = OrderedDict()

    async def __call__(self, user_id: UUID) -> str | None:
        """Return a user's tier. An error of the resolver is not remembered."""
        known = self._known.get(user_id)
        if known is not None and self._clock() < known[0]:
            return known[1]
        tier = await self._resolver(user_id)
        self._known.pop(user_id, None)
        while len(self._known) >= self._users_max:
            self._known.popitem(last=False)
        self._known[user_id] = (self._clock() + self._lifetime_s, tier)
        return tier

    def forget(self, user_id: UUID) -> None:
        """Ask again at the user's next request."""
        self._known.pop(user_id, None)
