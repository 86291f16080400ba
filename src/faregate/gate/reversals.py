"""Reversals: refunds of charges, and voids of attempts that were answered "not charged"."""

from dataclasses import replace
from uuid import UUID

from faregate.domain.attempt import Attempt
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import LedgerUnavailableError, TransactionConflictError
from faregate.domain.journal import JournalChange
from faregate.domain.request import VOID_DESCRIPTION, Refund, Void, VoidOutcome
from faregate.domain.transaction import CreditTransaction, CreditTransactionId, check_whole
from faregate.gate.fallback import Fallback
from faregate.gate.options import Metadata
from faregate.gate.retries import Name
from faregate.gate.session import Session
from faregate.gate.shadows import Shadows


class Reversals:
    """Gives back at most what a charge took, however old it is."""

    def __init__(
        self,
        session: Session,
        fallback: Fallback,
        shadows: Shadows,
    ) -> None:
        self._session = session
        self._fallback = fallback
        self._shadows = shadows

    async def refund(
        self,
        deduct: Decision,
        *,
        amount: int | None = None,
        transaction_id: CreditTransactionId | None = None,
        description: str = "refund",
        metadata: Metadata | None = None,
    ) -> Decision:
        """Refund an allowed charge once: all of it, or `amount`.

        Each partial refund needs a transaction id of its own; see `refund_by_id`. A refund that
        cannot be made at once is made in the background; its verdict is `PENDING`. If all is given
        back, the idempotency key of the charge is forgotten. If another attempt with the key has
        taken over or was served, nothing is given back: `TAKEN_OVER`. A request that was served
        without a decision is cancelled in the journal, which does not store the reason.
        """
        back = -deduct.amount if amount is None else amount
        if deduct.journaled:
            return await self._refund_journaled(deduct, back, amount, transaction_id)
        if deduct.shadow is not None:
            await self._shadows.correct(deduct, check_whole("a refund", back, 0))
            return replace(deduct, amount=back)
        refund = Refund(
            user_id=deduct.user_id,
            deduct_id=deduct.transaction_id,
            transaction_id=transaction_id or _whole_refund_id(deduct.transaction_id),
            amount=amount,
            description=description,
            metadata=metadata,
            attempt_id=deduct.keyed_attempt,
            position=deduct.position,
        )
        return await self._ensure(refund)

    async def refund_by_id(
        self,
        user_id: UUID,
        deduct_id: CreditTransactionId,
        *,
        amount: int | None = None,
        transaction_id: CreditTransactionId | None = None,
        description: str = "refund",
        metadata: Metadata | None = None,
        position: str = "",
    ) -> Decision:
        """Refund a charge or a settled hold by its id; see `refund`.

        Args:
            user_id: The user that was charged.
            deduct_id: The transaction id of the charge.
            amount: The credits to give back; None for all that is left.
            transaction_id: The id of the refund, by which a retry is recognised; None for the id of
                "the refund of this charge". Each partial refund needs one of its own.
            description: The reason, for people.
            metadata: The reason, for programs: a JSON object.
            position: `Decision.position` of the charge, if known.
        """
        refund = Refund(
            user_id=user_id,
            deduct_id=deduct_id,
            transaction_id=transaction_id or _whole_refund_id(deduct_id),
            amount=amount,
            description=description,
            metadata=metadata,
            position=position,
        )
        return await self._ensure(refund)

    async def _ensure(self, refund: Refund) -> Decision:
        name = Name("refund of", refund.deduct_id, refund.user_id)
        decision = await self._session.retries.ensure(name, lambda: self.give_back(refund))
        return decision or Decision(
            verdict=Verdict.PENDING,
            user_id=refund.user_id,
            transaction_id=refund.transaction_id,
            amount=refund.amount or 0,
            credits=0,
        )

    async def give_back(self, refund: Refund) -> Decision:
        """Refund a deduct that the ledger or Postgres knows.

        Raises:
            LedgerUnavailableError, ArchiveUnavailableError: Not made; making it again is safe.
            TransactionConflictError: Its id is that of another transaction.
        """
        self._session.bind()
        if refund.amount is not None or refund.has_own_id:
            # The ledger remembers refunds and other transactions for a day, Postgres for good.
            row = await self._session.accounts.transaction(refund.transaction_id)
            if row is not None:
                return _repeated(refund, row)
        decision = await self._ask(refund)
        if decision.verdict is Verdict.UNKNOWN_USER and await self._session.install(refund.user_id):
            decision = await self._ask(refund)
        if decision.verdict is Verdict.UNKNOWN_DEDUCT:
            durable = await self._session.accounts.deduct(refund.user_id, refund.deduct_id)
            row = await self._session.accounts.transaction(refund.transaction_id)
            if row is not None:
                return _repeated(refund, row)
            if durable is not None:
                return await self._ask(replace(refund, durable=durable))
        return decision

    async def _ask(self, refund: Refund) -> Decision:
        decision = await self._session.ask(
            refund.user_id, lambda: self._session.ledger.refund(refund)
        )
        if decision.verdict is Verdict.BACKLOG:
            raise LedgerUnavailableError("records wait for Postgres since 23 hours: run a worker")
        return decision

    async def _refund_journaled(
        self,
        served: Decision,
        back: int,
        amount: int | None,
        refund_id: CreditTransactionId | None,
    ) -> Decision:
        """Give back a journaled request, all or a part of it: the import charges less."""
        if not 0 < back <= -served.amount:
            return replace(served, verdict=Verdict.REFUND_EXCEEDED, amount=back)
        change = JournalChange(
            attempt_id=served.transaction_id,
            user_id=served.user_id,
            refund_id=refund_id or _whole_refund_id(served.transaction_id),
            amount=amount,
        )
        is_written = await self._fallback.change(change)
        return replace(
            served, verdict=Verdict.ALLOWED if is_written else Verdict.PENDING, amount=back
        )


class Voids:
    """Undoes attempts with an unknown outcome."""

    def __init__(
        self,
        session: Session,
        fallback: Fallback,
        reversals: Reversals,
    ) -> None:
        self._session = session
        self._fallback = fallback
        self._reversals = reversals
        #: The number of voids that were queued.
        self.count = 0

    def make_later(self, attempt: Attempt) -> None:
        """Make a void in the background, once its deadline has passed."""
        if attempt.spend.policy.is_shadow:
            return
        self.count += 1
        void = attempt.void()

        async def try_once() -> bool:
            return await self.make(void) is not VoidOutcome.TOO_EARLY

        self._session.retries.submit(
            Name("void of", void.transaction_id, void.user_id),
            try_once,
            lambda: self._fallback.journal_void(void),
            after_s=max(0, void.deadline_ms - self._session.ledger.now_ms()) / 1000,
        )

    async def make(self, void: Void) -> VoidOutcome:
        """Void an attempt of any age; after `TOO_EARLY` try again later."""
        outcome = await self._session.ask(void.user_id, lambda: self._session.ledger.void(void))
        if outcome is not VoidOutcome.FORGOTTEN:
            return outcome
        row = await self._session.accounts.transaction(void.transaction_id)
        if row is None:
            return VoidOutcome.REFUSED
        # A charge before this call or after its deadline belongs to another call.
        if not void.asked_at_ms <= row.timestamp.timestamp() * 1000 < void.deadline_ms + 1:
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


def _whole_refund_id(deduct_id: CreditTransactionId) -> CreditTransactionId:
    """Return the id of "the refund of this charge"."""
    return CreditTransactionId.derive("refund", deduct_id.value)


def _repeated(refund: Refund, row: CreditTransaction) -> Decision:
    """Return the decision for a retry of a refund that is a row already."""
    if row.refund_of != refund.deduct_id or refund.amount not in {None, row.amount}:
        raise TransactionConflictError(f"transaction {row.id} is known with other content")
    return Decision.repeat(row)
