"""Shadow mode: shadow policies decide on balances of their own, and have no effect."""

import logging

from faregate.domain.attempt import Attempt
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import ArchiveUnavailableError, LedgerError
from faregate.domain.transaction import NO_ID
from faregate.gate.paced_log import PacedLog
from faregate.gate.session import Session

_log = logging.getLogger(__name__)


class Shadows:
    """Corrects shadow balances. A failure refuses no request."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._log_uncorrected = PacedLog(_log)

    async def correct(self, decision: Decision, amount: int) -> None:
        """Change a shadow balance by the difference between the observed and the actual cost."""
        policy = decision.policy
        if policy is None or decision.shadow is not Verdict.ALLOWED:
            return
        user_id = decision.user_id
        try:
            await self._session.ask(
                user_id, lambda: self._session.ledger.correct_shadow(user_id, policy, amount)
            )
        except (LedgerError, ArchiveUnavailableError) as error:
            self._log_uncorrected("shadow balance not corrected: credits=%d: %s", amount, error)


def unobserved(attempt: Attempt) -> Decision:
    """Return the decision on a request that is served without a decision of its shadow policy."""
    spend = attempt.spend
    return Decision(
        verdict=Verdict.ALLOWED,
        user_id=spend.user_id,
        transaction_id=attempt.transaction_id or NO_ID,
        amount=-spend.cost,
        credits=0,
        policy=spend.policy,
        shadow=Verdict.UNDECIDED,
    )
