"""The stream of a `MemoryLedger`, as a worker reads it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from faregate.adapters.memory.ledger import MemoryLedger
from faregate.domain.transaction import CreditTransaction
from faregate.ports import Cursor, Fork, StreamEntry


@dataclass(frozen=True, slots=True)
class MemoryBatch:
    """The port `Batch` over the records of a `MemoryLedger`, each with its number."""

    shard: int
    after: Cursor | None
    epoch: int
    numbered: Sequence[tuple[int, CreditTransaction]]
    is_from_start: bool = False
    lines: bytes | None = None

    @property
    def first_position(self) -> str:
        """The position of its first record: the number."""
        return str(self.first_ordinal)

    @property
    def first_ordinal(self) -> int:
        """The number of its first record."""
        return self.numbered[0][0]

    @property
    def count(self) -> int:
        """How many records it holds."""
        return len(self.numbered)

    @property
    def end(self) -> Cursor:
        """The cursor once this is stored."""
        ordinal, last = self.numbered[-1]
        return Cursor(
            number=1 if self.after is None else self.after.number + 1,
            epoch=self.epoch,
            position=str(ordinal),
            digest=last.id.bytes,
            ordinal=ordinal,
        )

    def records(self) -> Sequence[StreamEntry]:
        """Return all records."""
        return [_entry(ordinal, record) for ordinal, record in self.numbered]

    def head(self, count_max: int) -> "MemoryBatch":
        """Return a batch of its first records."""
        return replace(self, numbered=self.numbered[: max(1, count_max)])


class MemoryStream:
    """The port `TransactionStream` over the records of a `MemoryLedger`."""

    shard_count = 1

    def __init__(self, ledger: MemoryLedger) -> None:
        self._records = ledger.records

    def shards_pending(self) -> Sequence[int]:
        """Return the only shard, if it has pending records."""
        return [0] if self.pending_count() else []

    def read(self, shard: int, cursor: Cursor | None, count_max: int) -> MemoryBatch | None:
        """Return the records that follow the cursor."""
        numbered = self._after(cursor)[:count_max]
        return MemoryBatch(shard, cursor, self._records.epoch or 0, numbered) if numbered else None

    def fork(self, shard: int, cursor: Cursor, places: object) -> Fork | None:
        """Return None, since memory loses no record of an epoch."""
        return None

    def lacking(self, cursors: object) -> Sequence[int]:
        """Return no shards, since memory loses no record of an epoch."""
        return []

    def wait(self, cursors: Mapping[int, Cursor | None], seconds_max: float) -> Sequence[int]:
        """Return the shards with records after their cursors, without waiting."""
        return [shard for shard, cursor in cursors.items() if self._after(cursor)]

    def note_stored(self, shard: int, cursor: Cursor | None) -> int:
        """Note how far records are rows, and delete those older than the window of retries."""
        if cursor is None or cursor.epoch != self._records.epoch:
            return 0
        return self._records.note_stored(cursor.ordinal)

    def pending_count(self) -> int:
        """Return the number of pending records."""
        return self._records.ordinal - self._records.stored

    def identity_fields(self) -> dict[str, str]:
        """Return nothing: no identity is kept in memory."""
        return {}

    def forget(self, user_ids: Iterable[UUID]) -> None:
        """Do nothing: the ledger owns the live balances."""

    def _after(self, cursor: Cursor | None) -> Sequence[tuple[int, CreditTransaction]]:
        is_of_epoch = cursor is not None and cursor.epoch == self._records.epoch
        return self._records.after(cursor.ordinal if cursor and is_of_epoch else 0)


def _entry(ordinal: int, record: CreditTransaction) -> StreamEntry:
    return StreamEntry(stream_id=str(ordinal), payload=b"", transaction=record, ordinal=ordinal)
