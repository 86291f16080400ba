"""The stream of a `MemoryLedger`, as a worker reads it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from faregate.adapters.memory.ledger import MemoryLedger
from faregate.adapters.memory.shard import Recorded
from faregate.ports import Cursor, StreamEntry


@dataclass(frozen=True, slots=True)
class MemoryBatch:
    """The port `Batch` over the records of a `MemoryLedger`."""

    shard: int
    after: Cursor | None
    epoch: int
    recorded: Sequence[Recorded]
    is_from_start: bool = False
    lines: bytes | None = None

    @property
    def first_position(self) -> str:
        """The position of its first record."""
        return self.recorded[0].position

    @property
    def first_ordinal(self) -> int:
        """The number of its first record."""
        return self.recorded[0].ordinal

    @property
    def count(self) -> int:
        """How many records it holds."""
        return len(self.recorded)

    @property
    def end(self) -> Cursor:
        """The cursor once this is stored."""
        last = self.recorded[-1]
        number = 1 if self.after is None else self.after.number + 1
        return Cursor(
            number=number,
            epoch=self.epoch,
            position=last.position,
            digest=last.record.id.bytes,
            ordinal=last.ordinal,
        )

    def records(self) -> Sequence[StreamEntry]:
        """Return all records."""
        return [_entry(recorded) for recorded in self.recorded]

    def head(self, count_max: int) -> "MemoryBatch":
        """Return a batch of its first records."""
        return MemoryBatch(self.shard, self.after, self.epoch, self.recorded[: max(1, count_max)])


class MemoryStream:
    """The port `TransactionStream` over the records of a `MemoryLedger`."""

    shard_count = 1

    def __init__(self, ledger: MemoryLedger) -> None:
        self._shard = ledger.shard

    def shards_pending(self) -> Sequence[int]:
        """Return the only shard if it holds records that are not known to be rows."""
        return [0] if self._shard.pending else []

    def read(self, shard: int, cursor: Cursor | None, count_max: int) -> MemoryBatch | None:
        """Return the records that follow the cursor."""
        recorded = self._after(cursor)[:count_max]
        return MemoryBatch(shard, cursor, self._shard.epoch, recorded) if recorded else None

    def wait(self, cursors: Mapping[int, Cursor | None], seconds_max: float) -> Sequence[int]:
        """Return the shards that have something behind their cursors. Nothing is waited for."""
        return [shard for shard, cursor in cursors.items() if self._after(cursor)]

    def note_stored(self, shard: int, cursor: Cursor | None) -> int:
        """Note how far records are rows, and forget those older than the window of retries."""
        if cursor is None or cursor.epoch != self._shard.epoch:
            return 0
        self._shard.note_stored(cursor.ordinal)
        return self._shard.trim()

    def pending(self, shard: int, cursor: Cursor | None) -> Iterable[StreamEntry]:
        """Iterate over all records that follow the cursor, oldest first."""
        return map(_entry, self._after(cursor))

    def pending_count(self) -> int:
        """Return how many records are not known to be rows."""
        return len(self._shard.pending)

    def marks(self) -> dict[str, str]:
        """Return nothing: no identity is kept in memory."""
        return {}

    def forget(self, user_ids: Iterable[UUID]) -> None:
        """Leave live balances alone: they are the ledger's."""

    def _after(self, cursor: Cursor | None) -> list[Recorded]:
        entries = list(self._shard.entries.values())
        if not entries or cursor is None or cursor.epoch != self._shard.epoch:
            return entries
        return [one for one in entries if one.ordinal > cursor.ordinal]


def _entry(recorded: Recorded) -> StreamEntry:
    return StreamEntry(stream_id=recorded.position, payload=b"", transaction=recorded.record)
