"""What goes back: refunds of charges, and voids of attempts that nobody was told of."""

import asyncio
from dataclasses import replace
from uuid import UUID

from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import (
    ArchiveUnavailableError,
    LedgerError,
    TransactionConflictError,
)
from faregate.domain.request import Charge, Refund, VoidOutcome
from faregate.domain.transaction import CreditTransaction, CreditTransactionId, check_whole
from faregate.gate.credits import Credits
from faregate.gate.terms import Metadata

#: How old a charge may be that a void finds in the ledger for certain. In milliseconds.
_VOID_AGE_MS_MAX = 60_000


class Refunds(Credits):
    """Gives back, each charge as much as it took at most, however old it is."""

    async def refund(
        self,
        deduct: Decision,
        *,
        amount: int | None = None,
        transaction_id: CreditTransactionId | None = None,
        description: str = "refund",
        metadata: Metadata | None = None,
    ) -> Decision:
        """Give back a charge that was allowed, once and wholly unless `amount` says how much.

        Partial refunds each need a transaction id of their own, see `refund_by_id`. A refund that
        cannot be made at once is tried in the background, and the error is raised.
        Where all is given back, the idempotency key of the charge is forgotten. If another attempt
        with the key has taken over, or was served, nothing is: `TAKEN_OVER`. A request that was
        served without a decision is struck out of the journal, which does not keep why.
        """
        if deduct.journaled:
            return self._strike_out(deduct, amount, transaction_id)
        if deduct.shadow is not None:
            back = -deduct.amount if amount is None else amount
            await self._correct(deduct, check_whole("a refund", back, 0))
            return replace(deduct, amount=back)
        return await self._refund_now(
            Refund(
                user_id=deduct.user_id,
                deduct_id=deduct.transaction_id,
                transaction_id=transaction_id or _whole_refund_id(deduct.transaction_id),
                amount=amount,
                description=description,
                metadata=metadata,
                attempt_id=deduct.keyed_attempt,
                position=deduct.position,
            )
        )

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
        """Give a charge back by its id, however old it is, and whoever was served for it.

        Args:
            user_id: Who was charged.
            deduct_id: The id of the charge.
            amount: In credits; None for all that is left of it.
            transaction_id: By which a retry is known; None for the one that stands for "the refund
                of this charge". Partial refunds each need one of their own.
            description: Why, for people.
            metadata: Why, for programs: a JSON object.
            position: `Decision.position` of the charge, where it is known.
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
        return await self._refund_now(refund)

    async def _refund_now(self, refund: Refund) -> Decision:
        name = f"refund of {refund.deduct_id} of user {refund.user_id}"
        try:
            await self._ready()
            decision = await self._refund(refund, in_time=True)
        except (LedgerError, ArchiveUnavailableError, asyncio.CancelledError):
            self.retries.submit(name, lambda: self._refund_again(refund))
            raise
        if decision.verdict is Verdict.BACKLOG:
            self.retries.submit(name, lambda: self._refund_again(refund))
        return decision

    async def _refund(self, refund: Refund, *, in_time: bool = False) -> Decision:
        """Refund; `in_time` if somebody waits for it, and it can be tried again."""
        if refund.amount is not None or refund.has_own_id:
            # The ledger remembers refunds and other transactions for a day; Postgres for good.
            row = await self._accounts.transaction(refund.transaction_id)
            if row is not None:
                return _repeated_refund(refund, row)
        decision = await self._ask_refund(refund, in_time=in_time)
        if decision.verdict is Verdict.UNKNOWN_USER and await self.install(refund.user_id):
            decision = await self._ask_refund(refund, in_time=in_time)
        if decision.verdict is Verdict.UNKNOWN_DEDUCT:
            durable = await self._accounts.deduct(refund.user_id, refund.deduct_id)
            row = await self._accounts.transaction(refund.transaction_id)
            if row is not None:
                return _repeated_refund(refund, row)
            if durable is not None:
                return await self._ask_refund(replace(refund, durable=durable), in_time=in_time)
        return decision

    async def _ask_refund(self, refund: Refund, *, in_time: bool) -> Decision:
        if in_time:
            return await self._in_time(lambda: self._ledger.refund(refund))
        return await self._ledger.refund(refund)

    async def _refund_again(self, refund: Refund) -> bool:
        return (await self._refund(refund)).verdict is not Verdict.BACKLOG

    def _void_later(self, charge: Charge) -> None:
        name = f"void of {charge.transaction_id} of user {charge.user_id}"

        async def void() -> bool:
            return await self._void(charge) is not VoidOutcome.TOO_EARLY

        self.retries.submit(name, void, lambda: self._keep_void(charge))

    async def _void(self, charge: Charge) -> VoidOutcome:
        """Void an attempt, however old it is; `TOO_EARLY` asks for another try later."""
        outcome = await self._ledger.void(charge)
        age_ms = self._ledger.now_ms() - (charge.transaction_id.time_ms or 0)
        if outcome is not VoidOutcome.REFUSED or age_ms <= _VOID_AGE_MS_MAX:
            return outcome
        # So late that the record may be a row by now, and no longer in the stream. One that is
        # older than this call was answered to an earlier one.
        row = await self._accounts.transaction(charge.transaction_id)
        if row is None:
            return outcome
        if row.timestamp.timestamp() * 1000 < charge.asked_at_ms:
            return VoidOutcome.KEPT
        is_back = await self._refund_again(charge.void())
        return VoidOutcome.REFUNDED if is_back else VoidOutcome.TOO_EARLY


def _whole_refund_id(deduct_id: CreditTransactionId) -> CreditTransactionId:
    """Return the id that stands for "the refund of this charge"."""
    return CreditTransactionId.derive("refund", deduct_id.value)


def _repeated_refund(refund: Refund, row: CreditTransaction) -> Decision:
    """Answer the retry of a refund that is a row already."""
    if row.refund_of != refund.deduct_id or refund.amount not in {None, row.amount}:
        raise TransactionConflictError(f"transaction {row.id} is known with other content")
    return Decision.repeat(row)
