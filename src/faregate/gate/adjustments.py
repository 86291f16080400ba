"""Grants and adjustments of credits, by a payment or by an operator."""

from typing import Unpack
from uuid import UUID

from faregate.domain.decision import Decision, Verdict
from faregate.domain.durability import Durability
from faregate.domain.errors import InvalidArgumentError, TransactionConflictError
from faregate.domain.idempotency import id_of_idempotency_key
from faregate.domain.request import Credit
from faregate.domain.transaction import CreditTransactionId, TransactionType
from faregate.gate.fallback import wall_ms
from faregate.gate.options import CreditOptions
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
        description: str = "grant",
        **options: Unpack[CreditOptions],
    ) -> Decision:
        """Grant new credits, such as those of a purchase.

        Args:
            user_id: The user that gets them.
            amount: In credits, at least 1.
            description: The reason, for people.
            **options: See `CreditOptions`.

        Raises:
            OutcomeUnknownError: The grant may have been made, or is less safe than it was asked
                for. Grant again with the same key.
            TransactionConflictError: The key or the id is known with another amount.
        """
        return await self._credit(
            Credit(
                user_id=user_id,
                transaction_id=self._credit_id(user_id, options),
                type=TransactionType.ADD,
                amount=amount,
                description=description,
                metadata=options.get("metadata"),
                durability=options.get("durability", Durability.MEMORY),
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
        **options: Unpack[CreditOptions],
    ) -> Decision:
        """Correct a balance by hand.

        Args:
            user_id: The user of the balance.
            amount: In credits, of either sign.
            actor: The operator; stored as `actor` in the metadata.
            reason: The reason; stored as the description.
            negative_allowed: Whether it may take the balance below zero.
            **options: See `CreditOptions`.

        Raises:
            OutcomeUnknownError: As for `grant`.
            TransactionConflictError: The key or the id is known with another amount.
        """
        _check_text("actor", actor)
        _check_text("reason", reason)
        return await self._credit(
            Credit(
                user_id=user_id,
                transaction_id=self._credit_id(user_id, options),
                type=TransactionType.ADMIN_ADJUSTMENT,
                amount=amount,
                description=reason,
                metadata={**(options.get("metadata") or {}), "actor": actor},
                negative_allowed=negative_allowed,
                durability=options.get("durability", Durability.MEMORY),
            )
        )

    def _credit_id(self, user_id: UUID, options: CreditOptions) -> CreditTransactionId:
        idempotency_key = options.get("idempotency_key")
        transaction_id = options.get("transaction_id")
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
        decision = await self._credit_now(credit)
        if decision.verdict is Verdict.UNKNOWN_USER and await self._session.install(credit.user_id):
            decision = await self._credit_now(credit)
        return decision

    async def _credit_now(self, credit: Credit) -> Decision:
        session = self._session
        return await session.ask(
            credit.user_id, lambda: session.ledger.credit(credit), credit.durability
        )


def _check_text(what: str, text: object) -> None:
    if not isinstance(text, str) or not text.strip():
        raise InvalidArgumentError(f"an adjustment needs its {what}, as text")
