"""Durable credits in plain dicts: users and rows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID, uuid4

from faregate.adapters.memory.values import amounts_of, unix_ms, unix_ms_of, utc
from faregate.domain.history import HistoryPlace, HistoryRow
from faregate.domain.identity import LedgerIdentity
from faregate.domain.request import DurableDeduct
from faregate.domain.transaction import CreditTransaction, CreditTransactionId, TransactionType
from faregate.domain.user import User
from faregate.ports import Batch, Cursor, Stored, StreamEntry


class MemoryStore:
    """The ports `Accounts`, `History` and `TransactionArchive`."""

    def __init__(
        self,
        *,
        starting_credits: int = 3,
        shard_count: int = 1,
        now_ms: Callable[[], int] = unix_ms,
    ) -> None:
        self._now_ms = now_ms
        self._identity = LedgerIdentity(
            ledger_id=uuid4(),
            shard_count=shard_count,
            starting_credits=starting_credits,
            epoch=1,
            installed=False,
        )
        #: Users that have signed up.
        self.users: set[UUID] = set()
        self.rows: dict[CreditTransactionId, CreditTransaction] = {}
        self.dead_letters: dict[str, StreamEntry] = {}
        self._cursors: dict[int, Cursor] = {}

    async def identity(self) -> LedgerIdentity:
        """Return the identity of the ledger."""
        return self._identity

    def begin_epoch(self, after: int) -> int:
        """Begin the epoch that follows `after`. No ledger has been given it yet."""
        self._identity = replace(self._identity, epoch=after + 1, installed=False)
        return after + 1

    async def mark_installed(self, epoch: int) -> None:
        """Note that the live ledger has its epoch."""
        self._identity = replace(self._identity, installed=True)

    async def open(self, user_id: UUID, *, provision: bool) -> User | None:
        """Return a user's durable balance, with its starting row."""
        if user_id not in self.users and not provision:
            return None
        self.users.add(user_id)
        starting_id = CreditTransactionId.derive("starting", user_id)
        amount = self._identity.starting_credits
        if amount and starting_id not in self.rows:
            self.rows[starting_id] = CreditTransaction(
                id=starting_id,
                user_id=user_id,
                amount=amount,
                type=TransactionType.ADD,
                description="starting credits",
                timestamp=utc(self._now_ms()),
                sequence=1,
                balance_after=amount,
                epoch=0,
            )
        rows = [row for row in self.rows.values() if row.user_id == user_id]
        last = max(rows, key=lambda row: row.sequence, default=None)
        start = last.period_start if last else None
        return User(
            id=user_id,
            credits=sum(row.amount for row in rows),
            sequence=last.sequence if last else 0,
            epoch=self._identity.epoch,
            allowance_left=last.allowance_after if last else 0,
            period_start_ms=unix_ms_of(start) if start else None,
        )

    async def transaction(self, transaction_id: CreditTransactionId) -> CreditTransaction | None:
        """Return a row."""
        return self.rows.get(transaction_id)

    async def deduct(self, user_id: UUID, deduct_id: CreditTransactionId) -> DurableDeduct | None:
        """Return a deduct and the sum of its refunds."""
        row = self.rows.get(deduct_id)
        if row is None or row.user_id != user_id or row.type is not TransactionType.DEDUCT:
            return None
        refunds = (row.amount for row in self.rows.values() if row.refund_of == deduct_id)
        return amounts_of(row, sum(refunds))

    async def users_after(self, after: UUID | None, count_max: int) -> Sequence[UUID]:
        """Return the next users by id."""
        return sorted(user for user in self.users if after is None or user > after)[:count_max]

    async def read(
        self, user_id: UUID, count_max: int, before: HistoryPlace | None = None
    ) -> Sequence[HistoryRow]:
        """Return a user's newest rows, or those that follow a place; see the port `History`."""
        rows = sorted(
            (row for row in self.rows.values() if row.user_id == user_id),
            key=_place,
            reverse=True,
        )
        if before is not None:
            known = self.rows.get(before.id)
            place = before.timestamp, known.sequence if known else 0
            rows = [row for row in rows if _place(row) < place]
        return [
            HistoryRow(
                id=row.id,
                type=row.type,
                amount=row.amount,
                description=row.description,
                timestamp=row.timestamp,
                balance_after=row.balance_after,
                refund_of=row.refund_of,
            )
            for row in rows[:count_max]
        ]

    async def aclose(self) -> None:
        """There is nothing to let go of."""

    def cursors(self) -> Mapping[int, Cursor]:
        """Return the newest cursor of each shard."""
        return self._cursors

    def places(self, shard: int, before: Cursor) -> Iterator[Cursor]:
        """Return no ends of batches: here nothing goes back."""
        return iter(())

    def lock_holder(self) -> str:
        """Return nothing: there are no locks in memory."""
        return ""

    def check_writes(self) -> None:
        """Do nothing: all may be written here."""

    def store(self, batch: Batch) -> Stored:
        """Store a batch; a known id with other content is a dead letter, as is an unknown user."""
        shard = batch.shard
        if batch.after != self._cursors.get(shard):
            return Stored(cursor=self._cursors.get(shard), is_stale=True)
        inserted = repeated = dead = 0
        for entry in batch.records():
            row = entry.transaction
            known = self.rows.get(row.id) if row else None
            is_other = known is not None and known != row
            if row is None or row.user_id not in self.users or is_other:
                self.dead_letters[f"{shard}/{entry.stream_id}"] = entry
                dead += 1
            elif known is not None:
                repeated += 1
            else:
                self.rows[row.id] = row
                inserted += 1
        self._cursors[shard] = batch.end
        return Stored(inserted=inserted, repeated=repeated, dead_letters=dead, cursor=batch.end)


def _place(row: CreditTransaction) -> tuple[datetime, int]:
    return row.timestamp, row.sequence
