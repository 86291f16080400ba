"""Voids: attempts that were answered "not charged", or not at all, are undone by their id."""

from faregate.domain.attempt import Attempt
from faregate.domain.request import VOID_DESCRIPTION, Refund, Void, VoidOutcome
from faregate.domain.windows import GIVEN_ID_MS_MAX
from faregate.gate.fallback import Fallback
from faregate.gate.reversals import Reversals
from faregate.gate.session import Session


class Voids:
    """Undoes attempts."""

    def __init__(
        self,
        session: Session,
        fallback: Fallback,
        reversals: Reversals,
    ) -> None:
        self._session = session
        self._fallback = fallback
        self._reversals = reversals

    def make_later(self, attempt: Attempt) -> None:
        """Make a void in the background, once its deadline has passed."""
        if attempt.spend.policy.is_shadow:
            return
        void = attempt.void()

        async def try_once() -> bool:
            return await self.make(void) is not VoidOutcome.TOO_EARLY

        self._session.retries.submit(
            f"void of {void.transaction_id} of user {void.user_id}",
            try_once,
            lambda: self._fallback.keep_void(void),
            after_s=max(0, void.deadline_ms - self._session.ledger.now_ms()) / 1000,
        )

    async def make(self, void: Void) -> VoidOutcome:
        """Void an attempt, however old it is; `TOO_EARLY` asks for another try later."""
        outcome = await self._session.ask(lambda: self._session.ledger.void(void))
        age_ms = self._session.ledger.now_ms() - (void.transaction_id.time_ms or 0)
        if outcome is not VoidOutcome.REFUSED or age_ms <= GIVEN_ID_MS_MAX:
            return outcome
        # So late that the record may be a row by now, and no longer in the stream. One that is
        # older than this call was answered to an earlier one.
        row = await self._session.accounts.transaction(void.transaction_id)
        if row is None:
            return outcome
        if row.timestamp.timestamp() * 1000 < void.asked_at_ms:
            return VoidOutcome.KEPT
        await self._reversals.give_back(
            Refund(
                user_id=void.user_id,
                deduct_id=void.transaction_id,
                transaction_id=void.refund_id,
                amount=None,
                description=VOID_DESCRIPTION,
            )
        )
        return VoidOutcome.REFUNDED
