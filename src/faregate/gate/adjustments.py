"""Adjustments: credits that are given or corrected, by a payment or by hand."""

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
    """Adds credits and adjusts balances, each once for its key or its id, for good."""

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
        """Give new credits, such as those of a purchase.

        Args:
            user_id: The user who gets them.
            amount: In credits, at least 1.
            idempotency_key: The reason, such as the id of a payment: a webhook that is delivered
                twice grants once, however late. Each user has keys of its own.
            transaction_id: The same, as an id of the caller's; not both.
            description: Why, for people.
            metadata: Why, for programs: a JSON object.

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
            user_id: The user whose balance it is.
            amount: In credits, of either sign.
            actor: The person who does it; stored as `actor` in the metadata.
            reason: Why; stored as the description.
            negative_allowed: Whether it may take the balance below zero.
            idempotency_key: As of `grant`.
            transaction_id: As of `grant`.
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
        """Ask Postgres for the id first: the ledger remembers it for a day only."""
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
