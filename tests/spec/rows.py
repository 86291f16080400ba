"""A ledger whose callers ask Postgres for what it has forgotten, as a gate does."""

from dataclasses import replace

from faregate.adapters.memory.store import MemoryStore
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import TransactionConflictError
from faregate.domain.request import Credit, Refund
from faregate.domain.transaction import CreditTransaction
from faregate.ports import Ledger


class WithRows:
    """The requests that are recognised for good: by the ledger for a day, then by their rows."""

    def __init__(self, ledger: Ledger, store: MemoryStore) -> None:
        self._ledger = ledger
        self._store = store

    async def credit(self, credit: Credit) -> Decision:
        row = self._store.rows.get(credit.transaction_id)
        if row is None:
            return await self._ledger.credit(credit)
        known = (row.user_id, row.amount, row.type)
        return _repeat(row, is_same=known == (credit.user_id, credit.amount, credit.type))

    async def refund(self, refund: Refund) -> Decision:
        row = self._store.rows.get(refund.transaction_id)
        if row is not None:
            is_same = row.refund_of == refund.deduct_id and refund.amount in {None, row.amount}
            return _repeat(row, is_same=is_same)
        decision = await self._ledger.refund(refund)
        if decision.verdict is Verdict.UNKNOWN_DEDUCT and refund.durable is None:
            durable = await self._store.deduct(refund.user_id, refund.deduct_id)
            if durable is not None:
                return await self._ledger.refund(replace(refund, durable=durable))
        return decision


def _repeat(row: CreditTransaction, *, is_same: bool) -> Decision:
    if not is_same:
        raise TransactionConflictError(f"transaction {row.id} is known with other content")
    return Decision.repeat(row)
