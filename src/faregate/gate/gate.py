"""The use cases: what an API, and those who run it, do with credits."""

import asyncio
from dataclasses import replace
from uuid import UUID

from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import (
    ArchiveUnavailableError,
    LedgerError,
    OutcomeUnknownError,
    TransactionConflictError,
)
from faregate.domain.request import Charge, Credit, Refund, VoidOutcome
from faregate.domain.transaction import (
    CreditTransaction,
    CreditTransactionId,
    TransactionType,
    check_whole,
)
from faregate.gate.holds import Holds, Metadata

#: How old a charge may be that a void finds in the ledger for certain. In milliseconds.
_VOID_AGE_MS_MAX = 60_000


class Gate(Holds):
    """Charges users, and gives back. Safe to share among all tasks of one event loop."""

    async def charge(
        self,
        user_id: UUID,
        *,
        cost: int | None = None,
        tier: str | None = None,
        limit_key: str = "",
        transaction_id: CreditTransactionId | None = None,
        description: str = "request",
        metadata: Metadata | None = None,
    ) -> Decision:
        """Take credits from a user, once for a transaction id.

        Args:
            user_id: Who is charged.
            cost: In credits; None for what the policy asks for a request. 0 is a peek: it is
                decided, and nothing is written.
            tier: Whose policy holds, where the caller knows it; None to ask `tier_of`.
            limit_key: Whose requests the policy's limits by key count, such as an API key. They are
                counted for each shard of users apart.
            transaction_id: A UUIDv7 not older than a minute, where the caller may retry. None for
                a new one.
            description: What for, for people.
            metadata: What for, for programs: a JSON object.

        Raises:
            LedgerUnavailableError: Not decided in time. It is not charged, or is being voided.
            InvalidArgumentError: An argument is ill-formed; nothing was written.
        """
        await self.start()
        policy = await self.policy_of(user_id, tier)
        cost = policy.request_cost if cost is None else check_whole("a cost", cost, 0)
        if policy.is_unlimited:
            metadata, cost = {**(metadata or {}), "cost": cost}, 0
        charge = self._charge(user_id, transaction_id, description, metadata)
        charge = replace(
            charge,
            cost=cost,
            allowance=policy.allowance,
            limits=policy.limits,
            limit_key=limit_key,
            records_zero=policy.is_unlimited,
        )
        decision = await self._decide(charge)
        return replace(decision, policy=policy.name, limit=policy.quota)

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
        description: str = "refund",
        metadata: Metadata | None = None,
    ) -> Decision:
        """Give back a charge that was allowed, once and wholly unless `amount` says how much.

        A refund that cannot be made at once is tried in the background, and the error is raised.
        """
        return await self.refund_by_id(
            deduct.user_id,
            deduct.transaction_id,
            amount=amount,
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

    async def grant(
        self,
        user_id: UUID,
        amount: int,
        *,
        transaction_id: CreditTransactionId | None = None,
        description: str = "grant",
        metadata: Metadata | None = None,
    ) -> Decision:
        """Give new credits, such as those of a purchase, once for a transaction id."""
        return await self._credit(
            Credit(
                user_id=user_id,
                transaction_id=await self._id_or_new(transaction_id),
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
        negative_allowed: bool = False,
        transaction_id: CreditTransactionId | None = None,
        description: str = "adjustment",
        metadata: Metadata | None = None,
    ) -> Decision:
        """Correct a balance by hand. Only `negative_allowed` lets it go below zero."""
        return await self._credit(
            Credit(
                user_id=user_id,
                transaction_id=await self._id_or_new(transaction_id),
                type=TransactionType.ADMIN_ADJUSTMENT,
                amount=amount,
                description=description,
                metadata=metadata,
                negative_allowed=negative_allowed,
            )
        )

    async def _id_or_new(self, transaction_id: CreditTransactionId | None) -> CreditTransactionId:
        await self.start()
        return transaction_id or CreditTransactionId.mint(self._ledger.now_ms())

    async def _credit(self, credit: Credit) -> Decision:
        """Ask Postgres for the id first: the ledger remembers it for a day only."""
        row = await self._accounts.transaction(credit.transaction_id)
        if row is not None:
            if (row.user_id, row.amount, row.type) != (credit.user_id, credit.amount, credit.type):
                raise TransactionConflictError(f"transaction {row.id} is known with other content")
            return Decision.repeat(row)
        decision = await self._ledger.credit(credit)
        if decision.verdict is Verdict.UNKNOWN_USER and await self.install(credit.user_id):
            decision = await self._ledger.credit(credit)
        return decision

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
