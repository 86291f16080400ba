"""The tier and the policy of a user; and a cache of tiers."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeAlias
from uuid import UUID

from faregate.domain.policy import CreditPolicy, PolicySet

#: Returns the tier of a user; None for the default one.
TierOf: TypeAlias = Callable[[UUID], Awaitable[str | None]]

#: The most users in the cache.
USERS_MAX = 100_000


class Tiers:
    """Finds the policy of a user."""

    def __init__(self, policies: PolicySet, resolver: TierOf | None) -> None:
        self.policies = policies
        self.resolver = resolver

    async def policy_of(self, user_id: UUID, tier: str | None = None) -> CreditPolicy:
        """Return the policy of a tier or, without one, of the user's tier.

        Raises:
            UnknownTierError: There is no such tier.
        """
        return self.policies.of(await self.tier_of(user_id, tier))

    async def tier_of(self, user_id: UUID, tier: str | None = None) -> str | None:
        """Return the tier or, without one, that of the user; None for the default one."""
        if tier is None and self.resolver is not None:
            return await self.resolver(user_id)
        return tier


class CachedTiers:
    """Caches the results of a resolver for a fixed time.

    A change of a tier takes effect after at most that time, or at once with `forget`.
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
        """Return a user's tier. An error of the resolver is not cached."""
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
        """Resolve the tier again at the user's next request."""
        self._known.pop(user_id, None)
