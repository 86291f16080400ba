"""Grants and adjustments of credits, by a payment or by an operator."""

from uuid import UUID

from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import InvalidArgumentError, TransactionConflictError
from faregate.domain.idempotency import id_of_idempotency_key
from faregate.domain.request import Credit
from faregate.domain.transaction import CreditTransactionId, TransactionType
from faregate.gate.fallback import wall_ms
from faregate.gate.options import Metadata
from faregate.gate.session import Session


class Adjustments:
    """Adds credits and adjusts balances, once for each key or id, for good."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def grant(
        self,
        user_id: UUID,
        amount: int,
        *,
        idempotency_key: str | None = None,
        transaction_id: CreditTransactionId | None = None,
        description: str = "grant",
        metadata: Metadata | None = None,
    ) -> Decision:
        """Grant new credits, such as those of a purchase.

        Args:
            user_id: The user that gets them.
            amount: In credits, at least 1.
            idempotency_key: The cause, such as the id of a payment: a webhook that is delivered
                twice grants once, even much later. Each user has keys of its own.
            transaction_id: The same as an id of the caller; give only one of the two.
            description: The reason, for people.
            metadata: The reason, for programs: a JSON object.

        Raises:
            TransactionConflictError: The key or the id is known with another amount.
        """
        return await self._credit(
            Credit(
                user_id=user_id,
                transaction_id=self._credit_id(user_id, idempotency_key, transaction_id),
                type=TransactionType.ADD,
                amount=amount,
                description=description,
                metadata=metadata,
            )
        )

    async def adjust(
        self,
        user_id: UUID,
        amount: int,
        *,
        actor: str,
        reason: str,
        negative_allowed: bool = False,
        idempotency_key: str | None = None,
        transaction_id: CreditTransactionId | None = None,
        metadata: Metadata | None = None,
    ) -> Decision:
        """Correct a balance by hand.

        Args:
            user_id: The user of the balance.
            amount: In credits, of either sign.
            actor: The operator; stored as `actor` in the metadata.
            reason: The reason; stored as the description.
            negative_allowed: Whether it may take the balance below zero.
            idempotency_key: As for `grant`.
            transaction_id: As for `grant`.
            metadata: More for programs: a JSON object.

        Raises:
            TransactionConflictError: The key or the id is known with another amount.
        """
        _check_text("actor", actor)
        _check_text("reason", reason)
        return await self._credit(
            Credit(
                user_id=user_id,
                transaction_id=self._credit_id(user_id, idempotency_key, transaction_id),
                type=TransactionType.ADMIN_ADJUSTMENT,
                amount=amount,
                description=reason,
                metadata={**(metadata or {}), "actor": actor},
                negative_allowed=negative_allowed,
            )
        )

    def _credit_id(
        self, user_id: UUID, idempotency_key: str | None, transaction_id: CreditTransactionId | None
    ) -> CreditTransactionId:
        if idempotency_key is None:
            return transaction_id or CreditTransactionId.mint(
                self._session.ledger.now_ms() or wall_ms()
            )
        if transaction_id is not None:
            raise InvalidArgumentError("a key or a transaction id, not both: they mean the same")
        return id_of_idempotency_key(user_id, idempotency_key)

    async def _credit(self, credit: Credit) -> Decision:
        """Look the id up in Postgres first, since the ledger remembers it only for a day."""
        self._session.bind()
        row = await self._session.accounts.transaction(credit.transaction_id)
        if row is not None:
            if (row.user_id, row.amount, row.type) != (credit.user_id, credit.amount, credit.type):
                raise TransactionConflictError(f"transaction {row.id} is known with other content")
            return Decision.repeat(row)
        decision = await self._session.ask(lambda: self._session.ledger.credit(credit))
        if decision.verdict is Verdict.UNKNOWN_USER and await self._session.install(credit.user_id):
            decision = await self._session.ask(lambda: self._session.ledger.credit(credit))
        return decision


def _check_text(what: str, text: object) -> None:
    if not isinstance(text, str) or not text.strip():
        raise InvalidArgumentError(f"an adjustment needs its {what}, as text")
