"""Charges journaled requests when Redis is back."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import (
    InvalidArgumentError,
    LedgerUnavailableError,
    TransactionConflictError,
)
from faregate.domain.journal import Collected, Collection, JournalChange, JournalEntry
from faregate.domain.request import Refund, VoidOutcome
from faregate.domain.transaction import CreditTransactionId
from faregate.gate.reversals import Reversals, Voids
from faregate.gate.session import Session

#: The tries of a void that is too early, and the pause between two, in seconds.
_VOID_TRIES_MAX = 250
_VOID_PAUSE_S = 0.05


class Collecting:
    """Collects journal entries, each once, even if it is called again."""

    def __init__(
        self,
        session: Session,
        reversals: Reversals,
        voids: Voids,
    ) -> None:
        self._session = session
        self._reversals = reversals
        self._voids = voids

    async def collect(
        self, entry: JournalEntry, changes: Sequence[JournalChange] = ()
    ) -> Collected:
        """Charge a journaled request as far as the credits go, never below zero.

        Args:
            entry: The request.
            changes: Its later changes. If more was collected before the changes were known, the
                rest goes back.

        Raises:
            LedgerUnavailableError, ArchiveUnavailableError: A server does not answer, or records
                have been pending for too long. Collecting it again is safe.
        """
        await self._session.start()
        final = entry.changed(changes)
        if final.is_open(self._session.ledger.now_ms()):
            return Collected(outcome=Collection.OPEN)
        try:
            if entry.may_be_charged and await self._void_attempt(entry) is VoidOutcome.KEPT:
                # With a caller's id, the charge of an earlier call stands.
                return Collected(outcome=Collection.KNOWN)
            if not entry.is_served:
                return Collected(outcome=Collection.VOIDED)
            return await self._collect(final)
        except (InvalidArgumentError, TransactionConflictError) as error:
            return Collected(outcome=Collection.REFUSED, reason=str(error))

    async def follow(self, change: JournalChange) -> Collected:
        """Apply a change to an entry that was collected before, whose journal is retired.

        Returns:
            `CANCELLED`, even if there was nothing to give back, or `REFUSED`.

        Raises:
            LedgerUnavailableError, ArchiveUnavailableError: As for `collect`.
        """
        self._session.bind()
        # With cost 0, so that nothing is charged if nothing was.
        entry = JournalEntry(
            attempt_id=change.attempt_id,
            user_id=change.user_id,
            cost=0,
            description="",
            asked_at_ms=0,
            deadline_ms=0,
            served_at_ms=0,
        )
        try:
            if change.refund_id is not None:
                await self._give_back(entry, change.refund_id, change.amount)
            elif change.cost is not None:
                await self._give_back_beyond(entry, await self._collect_once(entry), change.cost)
        except (InvalidArgumentError, TransactionConflictError) as error:
            return Collected(outcome=Collection.REFUSED, reason=str(error))
        return Collected(outcome=Collection.CANCELLED)

    async def _collect(self, entry: JournalEntry) -> Collected:
        decision = await self._collect_once(entry)
        await self._give_back_beyond(entry, decision, entry.owed)
        if not entry.is_recorded:
            return Collected(outcome=Collection.CANCELLED)
        if decision.verdict is Verdict.UNKNOWN_USER:
            return Collected(outcome=Collection.UNKNOWN_USER)
        if decision.repeated:
            return Collected(outcome=Collection.KNOWN)
        charged = -decision.amount
        return Collected(
            outcome=Collection.COLLECTED, charged=charged, shortfall=entry.owed - charged
        )

    async def _collect_once(self, entry: JournalEntry) -> Decision:
        """Look the id up in Postgres first, since the ledger remembers it only for a day.

        Returns:
            The decision on the deduct. For a known deduct, the amount is what is left of it.
        """
        durable = await self._session.accounts.deduct(entry.user_id, entry.deduct_id)
        asked = entry if durable is None else replace(entry, cost=0, is_unlimited=False, key=None)
        decision = await self._collect_now(asked)
        if decision.verdict is Verdict.UNKNOWN_USER and await self._session.install(entry.user_id):
            decision = await self._collect_now(asked)
        if durable is not None and not decision.repeated:
            left = durable.amount - durable.refunded
            return replace(decision, amount=-left, repeated=True)
        if decision.verdict is Verdict.BACKLOG:
            raise LedgerUnavailableError("records wait for Postgres since 23 hours: run a worker")
        return decision

    async def _collect_now(self, entry: JournalEntry) -> Decision:
        session = self._session
        return await session.ask(entry.user_id, lambda: session.ledger.collect(entry))

    async def _give_back_beyond(self, entry: JournalEntry, known: Decision, cost: int) -> None:
        """Give back the part of an earlier collection that exceeds the final cost."""
        beyond = -known.amount - cost
        if known.repeated and beyond > 0:
            refund_id = CreditTransactionId.derive(f"cost {cost}", entry.deduct_id.value)
            await self._give_back(entry, refund_id, beyond)

    async def _give_back(
        self, entry: JournalEntry, refund_id: CreditTransactionId, amount: int | None
    ) -> None:
        """Give back a part of a collected deduct, at most what is left of it."""
        refund = Refund(
            user_id=entry.user_id,
            deduct_id=entry.deduct_id,
            transaction_id=refund_id,
            amount=amount,
            description="refund: the journaled request was given back",
        )
        await self._reversals.give_back(refund)

    async def _void_attempt(self, entry: JournalEntry) -> VoidOutcome:
        for _ in range(_VOID_TRIES_MAX):
            outcome = await self._voids.make(entry.void())
            if outcome is not VoidOutcome.TOO_EARLY:
                return outcome
            await asyncio.sleep(_VOID_PAUSE_S)
        raise LedgerUnavailableError(f"attempt {entry.attempt_id} cannot be voided yet")
