"""Completes requests with an idempotency key, and returns saved responses."""

from faregate.domain.decision import Decision
from faregate.domain.idempotency import Completion
from faregate.gate.retries import Name
from faregate.gate.session import Session


class Completions:
    """Completes requests."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def complete(self, decision: Decision, response: bytes = b"") -> bool:
        """Note that the request of an idempotency key was served.

        Until then, a retry gets the answer that the request is in flight. After
        `GateOptions.idempotency_lease_ms` one retry takes over. A completion that cannot be noted
        in time is noted in the background.

        Args:
            decision: The decision by which the request was served.
            response: The response that `saved_response` returns for retries, at most a MiB; empty
                for none.

        Returns:
            Whether the key is known, or will be completed in the background.
        """
        if decision.keyed_attempt is None:
            return False
        completion = Completion(
            user_id=decision.user_id,
            transaction_id=decision.transaction_id,
            attempt_id=decision.keyed_attempt,
            response=response,
            lifetime_ms=self._session.options.idempotency_lifetime_ms,
        )
        is_known = await self._session.retries.ensure(
            Name("completion of", decision.transaction_id, decision.user_id),
            lambda: self._session.ask(
                completion.user_id, lambda: self._session.ledger.complete(completion)
            ),
        )
        return is_known is not False

    async def saved_response(self, decision: Decision) -> bytes | None:
        """Return the response that was saved for the idempotency key of a decision."""
        user_id, transaction_id = decision.user_id, decision.transaction_id
        return await self._session.ask(
            user_id, lambda: self._session.ledger.response(user_id, transaction_id)
        )
