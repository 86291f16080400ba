"""Shadow balances in plain dicts."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from uuid import UUID

from faregate.adapters.memory.clock import unix_ms
from faregate.adapters.memory.expiring import Expiring
from faregate.adapters.memory.limits import MemoryLimits
from faregate.domain.decision import Decision, Verdict
from faregate.domain.policy import renewed
from faregate.domain.shadow import Observation
from faregate.domain.transaction import CREDITS_MAX, check_whole
from faregate.domain.user import User

#: How long a shadow that nobody asks for is remembered: longer than a month.
_MEMORY_MS = 35 * 86_400_000


class MemoryShadows:
    """The port `Shadows`."""

    def __init__(self, *, now_ms: Callable[[], int] = unix_ms) -> None:
        self._now_ms = now_ms
        self._users: Expiring[tuple[str, UUID], User] = Expiring(now_ms)
        self._limits: defaultdict[str, MemoryLimits] = defaultdict(MemoryLimits)
        self._counts: defaultdict[str, Counter[Verdict]] = defaultdict(Counter)

    async def observe(self, observation: Observation) -> Decision:
        """Decide on the shadow balance of a user, and count the answer; see the port."""
        charge, limits = observation.charge, self._limits[observation.policy]
        check_whole("a cost", charge.cost, 0)
        user = self._user(observation)
        name, wait_ms = limits.refusing(charge, self._now_ms())
        would_be = Verdict.RATE_LIMITED if name else Verdict.ALLOWED
        if not name and 0 < charge.cost > user.credits:
            would_be = Verdict.OUT_OF_CREDITS
        if charge.cost:
            self._counts[observation.policy][would_be] += 1
        if charge.cost and would_be is Verdict.ALLOWED:
            user = self._take(observation, user, charge.cost)
            limits.take(charge, self._now_ms())
        decision = Decision(
            verdict=Verdict.ALLOWED,
            user_id=charge.user_id,
            transaction_id=charge.transaction_id,
            amount=-charge.cost,
            credits=user.credits,
            allowance_left=user.allowance_left,
            resets_at_ms=user.period_end_ms,
            limited_by=name,
            retry_after_ms=wait_ms,
            shadow=would_be,
        )
        return limits.tell(decision, charge, self._now_ms())

    async def correct(self, observation: Observation, amount: int) -> None:
        """Change the shadow balance of a user; see the port."""
        if amount:
            self._take(observation, self._user(observation), -amount)

    async def counts(self, policy: str) -> Mapping[Verdict, int]:
        """Return how often each verdict would have been given; see the port."""
        return self._counts[policy]

    def _user(self, observation: Observation) -> User:
        """Return the shadow of a user in the period of now."""
        charge = observation.charge
        start = User(id=charge.user_id, credits=observation.starting_credits, sequence=0, epoch=0)
        known = self._users.get((observation.policy, charge.user_id)) or start
        user, _ = renewed(known, charge.allowance, self._now_ms())
        return replace(user, credits=min(user.credits, CREDITS_MAX))

    def _take(self, observation: Observation, user: User, cost: int) -> User:
        user = replace(
            user,
            credits=min(user.credits - cost, CREDITS_MAX),
            allowance_left=max(0, user.allowance_left - max(0, cost)),
        )
        self._users.put((observation.policy, user.id), user, _MEMORY_MS)
        return user
