"""The use cases: what an API, and those who run it, do with credits."""

import asyncio
from dataclasses import replace
from typing import Unpack
from uuid import UUID

from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import (
    ArchiveUnavailableError,
    LedgerError,
    OutcomeUnknownError,
    TransactionConflictError,
)
from faregate.domain.idempotency import Completion, KeyState
from faregate.domain.request import Charge, Refund, VoidOutcome
from faregate.domain.transaction import CreditTransaction, CreditTransactionId, check_whole
from faregate.gate.credits import Credits
from faregate.gate.terms import Call, Metadata, Terms

#: How old a charge may be that a void finds in the ledger for certain. In milliseconds.
_VOID_AGE_MS_MAX = 60_000


class Gate(Credits):
    """Charges users, and gives back. Safe to share among all tasks of one event loop."""

    async def charge(
        self, user_id: UUID, *, cost: int | None = None, **terms: Unpack[Terms]
    ) -> Decision:
        """Take credits from a user, once for a transaction id, and once for an idempotency key.

        Args:
            user_id: Who is charged.
            cost: In credits; None for what the policy asks for a request. 0 is a peek: it is
                decided, and nothing is written.
            **terms: See `Terms`.

        Raises:
            LedgerUnavailableError: Not decided in time. It is not charged, or is being voided.
            InvalidArgumentError: An argument is ill-formed; nothing was written.
        """
        policy = await self.policy_of(user_id, terms.get("tier"))
        terms.setdefault("description", "request")
        cost = policy.request_cost if cost is None else cost
        call = Call(amount_name="cost", user_id=user_id, cost=cost, **terms)
        if policy.is_shadow:
            return await self._observe(policy, self._charge(call, policy))
        await self.start()
        decision = await self._decide(self._charge(call, policy))
        return replace(decision, policy=policy.name, limit=policy.quota)

    async def complete(self, decision: Decision, response: bytes = b"") -> bool:
        """Note that the request of an idempotency key has been served, for good.

        Until then, retries are told that it is in flight; after `GateOptions.key_lease_ms` one of
        them takes over. One that cannot be noted at once is tried in the background.

        Args:
            decision: The one that the request was served by.
            response: What `kept_response` is to tell retries, at most a MiB; empty for nothing.

        Returns:
            Whether the key is still remembered.
        """
        if decision.key_state not in {KeyState.NEW, KeyState.TAKEN_OVER}:
            return False
        completion = Completion(
            user_id=decision.user_id,
            transaction_id=decision.transaction_id,
            response=response,
            keep_ms=self._options.key_lifetime_ms,
        )

        async def complete_again() -> bool:
            await self._ledger.complete(completion)
            return True

        try:
            return await self._ledger.complete(completion)
        except (LedgerError, asyncio.CancelledError):
            name = f"completion of {decision.transaction_id} of user {decision.user_id}"
            self.retries.submit(name, complete_again)
            raise

    async def kept_response(self, decision: Decision) -> bytes | None:
        """Return what the request with this decision's idempotency key was completed with."""
        return await self._ledger.response(decision.user_id, decision.transaction_id)

    async def _decide(self, charge: Charge) -> Decision:
        """Charge, twice where the first answer can be helped; void what nobody will be told of."""
        try:
            decision = await self._ledger.charge(charge)
            if await self._helps(decision):
                deadline_ms = self._ledger.now_ms() + self._options.decision_timeout_ms
                charge = replace(charge, deadline_ms=deadline_ms)
                decision = await self._ledger.charge(charge)
        except (OutcomeUnknownError, asyncio.CancelledError):
            self._void_later(charge)
            raise
        return decision

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
        Where all is given back, the idempotency key of the charge is forgotten.
        """
        if deduct.shadow is not None:
            back = -deduct.amount if amount is None else amount
            await self._correct(deduct, check_whole("a refund", back, 0))
            return replace(deduct, amount=back)
        return await self.refund_by_id(
            deduct.user_id,
            deduct.transaction_id,
            amount=amount,
            transaction_id=transaction_id,
            description=description,
            metadata=metadata,
            position=deduct.position,
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
        """Give a charge back by its id, however old it is.

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
        await self.start()
        refund = Refund(
            user_id=user_id,
            deduct_id=deduct_id,
            transaction_id=transaction_id or CreditTransactionId.derive("refund", deduct_id.value),
            amount=amount,
            description=description,
            metadata=metadata,
            position=position,
        )
        name = f"refund of {deduct_id} of user {user_id}"
        try:
            decision = await self._refund(refund)
        except (LedgerError, ArchiveUnavailableError, asyncio.CancelledError):
            self.retries.submit(name, lambda: self._refund_again(refund))
            raise
        if decision.verdict is Verdict.BACKLOG:
            self.retries.submit(name, lambda: self._refund_again(refund))
        return decision

    async def _refund(self, refund: Refund) -> Decision:
        if refund.amount is not None:
            # The ledger remembers partial refunds for a day; Postgres for good.
            row = await self._accounts.transaction(refund.transaction_id)
            if row is not None:
                return _repeated_refund(refund, row)
        decision = await self._ledger.refund(refund)
        if decision.verdict is Verdict.UNKNOWN_USER and await self.install(refund.user_id):
            decision = await self._ledger.refund(refund)
        if decision.verdict is Verdict.UNKNOWN_DEDUCT:
            durable = await self._accounts.deduct(refund.user_id, refund.deduct_id)
            row = await self._accounts.transaction(refund.transaction_id)
            if row is not None:
                return _repeated_refund(refund, row)
            if durable is not None:
                return await self._ledger.refund(replace(refund, durable=durable))
        return decision

    async def _refund_again(self, refund: Refund) -> bool:
        return (await self._refund(refund)).verdict is not Verdict.BACKLOG

    def _void_later(self, charge: Charge) -> None:
        name = f"void of {charge.transaction_id} of user {charge.user_id}"
        self.retries.submit(name, lambda: self._void(charge))

    async def _void(self, charge: Charge) -> bool:
        outcome = await self._ledger.void(charge)
        if outcome is VoidOutcome.TOO_EARLY:
            return False
        age_ms = self._ledger.now_ms() - (charge.transaction_id.time_ms or 0)
        if outcome is VoidOutcome.REFUSED and age_ms > _VOID_AGE_MS_MAX:
            # So late that the record may be a row by now, and no longer in the stream. One that is
            # older than this call was answered to an earlier one.
            row = await self._accounts.transaction(charge.transaction_id)
            is_ours = row and row.timestamp.timestamp() * 1000 >= charge.asked_at_ms
            return not is_ours or await self._refund_again(charge.void())
        return True


def _repeated_refund(refund: Refund, row: CreditTransaction) -> Decision:
    """Answer the retry of a refund that is a row already."""
    if row.refund_of != refund.deduct_id or refund.amount not in {None, row.amount}:
        raise TransactionConflictError(f"transaction {row.id} is known with other content")
    return Decision.repeat(row)
