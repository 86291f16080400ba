"""Shadow balances in plain dicts: the verdicts of policies that are only observed."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from uuid import UUID

from faregate.adapters.memory.accounts import Account, InPeriod, blank_decision
from faregate.adapters.memory.expiring import Expiring
from faregate.adapters.memory.limits import RateLimits
from faregate.adapters.memory.shard import Shard
from faregate.domain.decision import Decision, Verdict
from faregate.domain.policy import CreditPolicy, renewed
from faregate.domain.spend import Spend
from faregate.domain.transaction import CREDITS_MAX, CreditTransactionId
from faregate.domain.windows import SHADOW_MS


class Shadows:
    """A balance for each user and shadow policy, and how often each verdict would have been."""

    def __init__(self, clock: Callable[[], int], shard: Shard, limits: RateLimits) -> None:
        self._shard = shard
        self._limits = limits
        self._accounts: Expiring[tuple[str, UUID], Account] = Expiring(clock)
        self._counts: defaultdict[str, Counter[Verdict]] = defaultdict(Counter)

    def decide(self, spend: Spend, identity: CreditTransactionId) -> Decision:
        """Decide on the shadow balance of a user, and count the answer."""
        now_ms = self._shard.now_ms
        account, in_period = self._account(spend.user_id, spend.policy)
        states = self._limits.states(spend, account, now_ms)
        refusing = next((state for state in states if not state.remaining), None)
        would_be = Verdict.ALLOWED
        if refusing is not None:
            would_be = Verdict.RATE_LIMITED
        elif 0 < spend.cost > in_period.user.credits:
            would_be = Verdict.OUT_OF_CREDITS
        if spend.cost:
            self._counts[spend.policy.name][would_be] += 1
        if spend.cost and would_be is Verdict.ALLOWED:
            self._take(spend.policy, account, in_period, spend.cost)
            self._limits.take(spend, account, now_ms)
            states = self._limits.states(spend, account, now_ms)
        after = in_period.user if would_be is not Verdict.ALLOWED or not spend.cost else account
        blank = blank_decision(
            spend.user_id,
            identity,
            -spend.cost,
            now_ms=now_ms,
            user=in_period.user,
            policy=spend.policy,
        )
        return replace(
            blank,
            verdict=Verdict.ALLOWED,
            credits=after.credits,
            allowance_left=after.allowance_left,
            limited_by=refusing.name if refusing else "",
            retry_after_ms=refusing.resets_in_ms if refusing else 0,
            limits=states,
            shadow=would_be,
        )

    def correct(self, user_id: UUID, policy: CreditPolicy, amount: int) -> None:
        """Add to the shadow balance of a user. It begins no period."""
        account = self._accounts.get((policy.name, user_id))
        account = account or Account(user_id, policy.starting_credits)
        account.credits = max(-CREDITS_MAX, min(account.credits + amount, CREDITS_MAX))
        account.allowance_left = max(0, account.allowance_left + min(0, amount))
        self._accounts.put((policy.name, user_id), account, SHADOW_MS)

    def counts(self, policy: str) -> Mapping[Verdict, int]:
        """Return how often each verdict would have been given."""
        return self._counts[policy]

    def _account(self, user_id: UUID, policy: CreditPolicy) -> tuple[Account, InPeriod]:
        """Return the shadow of a user, and the user in the current period."""
        account = self._accounts.get((policy.name, user_id))
        if account is None:
            account = Account(user_id, policy.starting_credits)
        user, top_up = renewed(account.user(0), policy.allowance, self._shard.now_ms)
        user = replace(user, credits=min(user.credits, CREDITS_MAX))
        return account, InPeriod(user, top_up)

    def _take(self, policy: CreditPolicy, account: Account, in_period: InPeriod, cost: int) -> None:
        user = in_period.user
        account.credits = min(user.credits - cost, CREDITS_MAX)
        account.allowance_left = max(0, user.allowance_left - max(0, cost))
        account.period_start_ms = user.period_start_ms
        self._accounts.put((policy.name, account.user_id), account, SHADOW_MS)
