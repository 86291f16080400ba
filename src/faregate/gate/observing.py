"""Shadow mode: what policies that are only observed would have said."""

import logging
from collections.abc import Mapping

from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import ConfigurationError, LedgerError
from faregate.domain.policy import CreditPolicy
from faregate.domain.request import Charge
from faregate.domain.shadow import Observation
from faregate.gate.reading import Reading
from faregate.ports import Shadows

_log = logging.getLogger(__name__)


class Observing(Reading):
    """Tries policies out. Whatever fails here refuses no request."""

    async def shadow_counts(self, policy: str) -> Mapping[Verdict, int]:
        """Return how often each verdict would have been given under a policy, by its name."""
        return await self._observed().counts(policy)

    async def _observe(self, policy: CreditPolicy, charge: Charge) -> Decision:
        observation = Observation(
            charge=charge, policy=policy.name, starting_credits=policy.starting_credits
        )
        try:
            shadows = self._observed()
            decision = await self._guard(lambda: shadows.observe(observation))
        except LedgerError as error:
            _log.warning("a request is served without having been observed: %s", error)
            decision = Decision(
                verdict=Verdict.ALLOWED,
                user_id=charge.user_id,
                transaction_id=charge.transaction_id,
                amount=-charge.cost,
                credits=0,
                shadow=Verdict.UNDECIDED,
            )
        return decision.under(policy)

    async def _correct(self, decision: Decision, amount: int) -> None:
        """Give back to a shadow balance, or take what was observed too low."""
        if decision.shadow is not Verdict.ALLOWED:
            return
        policy = self.policies.named(decision.policy)
        observation = Observation(
            charge=Charge(
                user_id=decision.user_id,
                transaction_id=decision.transaction_id,
                cost=0,
                asked_at_ms=0,
                deadline_ms=0,
                description="",
                allowance=policy.allowance,
            ),
            policy=policy.name,
            starting_credits=policy.starting_credits,
        )
        try:
            shadows = self._observed()
            await self._guard(lambda: shadows.correct(observation, amount))
        except LedgerError as error:
            _log.warning("a shadow balance is %d too low: %s", amount, error)

    def _observed(self) -> Shadows:
        if self._shadows is None:
            raise ConfigurationError("no policy is observed: there are no `shadows`")
        return self._shadows
