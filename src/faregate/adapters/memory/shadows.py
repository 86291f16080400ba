"""Shadow balances in plain dicts: the decisions of shadow policies."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

from faregate.adapters.memory.limits import RateLimits
from faregate.adapters.memory.state import Records
from faregate.adapters.memory.values import Expiring, blank_decision
from faregate.domain.decision import Decision, Verdict
from faregate.domain.policy import CreditPolicy, in_current_period
from faregate.domain.spend import Spend
from faregate.domain.transaction import CREDITS_MAX, CreditTransactionId
from faregate.domain.user import User
from faregate.domain.windows import SHADOW_MS


class MemoryShadows:
    """A balance for each user and shadow policy, and counts of their verdicts."""

    def __init__(self, records: Records, limits: RateLimits) -> None:
        self._records = records
        self._limits = limits
        self._users: Expiring[tuple[str, UUID], User] = Expiring(records.time_ms)
        self._counts: defaultdict[str, Counter[Verdict]] = defaultdict(Counter)

    def decide(self, spend: Spend, identity: CreditTransactionId) -> Decision:
        """Decide on the shadow balance of a user, and count the answer."""
        now_ms, policy, cost = self._records.now_ms, spend.policy, spend.cost
        user, _ = in_current_period(self._user(spend.user_id, policy), policy.allowance, now_ms)
        user = replace(user, credits=min(user.credits, CREDITS_MAX))
        states = self._limits.states(spend, now_ms)
        refusing = next((state for state in states if not state.remaining), None)
        would_be = Verdict.ALLOWED
        if refusing is not None:
            would_be = Verdict.RATE_LIMITED
        elif 0 < cost > user.credits:
            would_be = Verdict.OUT_OF_CREDITS
        if cost:
            self._counts[policy.name][would_be] += 1
        if cost and would_be is Verdict.ALLOWED:
            left = max(0, user.allowance_left - cost)
            user = replace(user, credits=user.credits - cost, allowance_left=left)
            self._users.put((policy.name, user.id), user, SHADOW_MS)
            self._limits.take(spend, now_ms)
            states = self._limits.states(spend, now_ms)
        blank = blank_decision(user.id, identity, -cost, now_ms=now_ms, user=user, policy=policy)
        return replace(
            blank,
            verdict=Verdict.ALLOWED,
            limited_by=refusing.name if refusing else "",
            retry_after_ms=refusing.resets_in_ms if refusing else 0,
            limits=states,
            shadow=would_be,
        )

    async def correct(self, user_id: UUID, policy: CreditPolicy, amount: int) -> None:
        """Add to the shadow balance of a user. It begins no period."""
        self._records.begin()
        user = self._user(user_id, policy)
        user = replace(
            user,
            credits=max(-CREDITS_MAX, min(user.credits + amount, CREDITS_MAX)),
            allowance_left=max(0, user.allowance_left + min(0, amount)),
        )
        self._users.put((policy.name, user_id), user, SHADOW_MS)

    async def counts(self, policy: str) -> Mapping[Verdict, int]:
        """Return how often a shadow policy would have given each verdict."""
        return self._counts[policy]

    def _user(self, user_id: UUID, policy: CreditPolicy) -> User:
        first = User(id=user_id, credits=policy.starting_credits, sequence=0, epoch=0)
        return self._users.get((policy.name, user_id)) or first
