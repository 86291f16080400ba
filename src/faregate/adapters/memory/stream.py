"""The stream of a `MemoryLedger`, as a worker reads it."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from faregate.adapters.memory.ledger import MemoryLedger
from faregate.ports import StreamEntry


class MemoryStream:
    """The port `TransactionStream` over the records of a `MemoryLedger`."""

    shard_count = 1

    def __init__(self, ledger: MemoryLedger) -> None:
        self._records = ledger.records
        self._delivered: set[str] = set()

    def shards_pending(self) -> Sequence[int]:
        """Return the only shard if it holds records that are not acknowledged."""
        return [0] if self._records.pending else []

    def read(self, shard: int, count_max: int) -> Sequence[StreamEntry]:
        """Return records: those delivered before and not acknowledged, then new ones."""
        waiting = list(self.unacknowledged(shard))
        again = [entry for entry in waiting if entry.stream_id in self._delivered]
        entries = (again or waiting)[:count_max]
        self._delivered.update(entry.stream_id for entry in entries)
        return entries

    def acknowledge(self, shard: int, stream_ids: Sequence[str]) -> None:
        """Note that records are rows."""
        for stream_id in stream_ids:
            self._records.pending.pop(stream_id, None)

    def trim(self, shard: int) -> int:
        """Forget records that are rows and older than the window of retries."""
        return self._records.trim()

    def unacknowledged(self, shard: int) -> Iterable[StreamEntry]:
        """Iterate over all records that are not acknowledged, oldest first."""
        for stream_id, record in list(self._records.pending.items()):
            yield StreamEntry(stream_id=stream_id, payload=b"", transaction=record)

    def pending_count(self) -> int:
        """Return how many records are not acknowledged."""
        return len(self._records.pending)

    def marks(self) -> dict[str, str]:
        """Return nothing: no identity is kept in memory."""
        return {}

    def forget(self, user_ids: Iterable[UUID]) -> None:
        """Leave live balances alone: they are the ledger's."""
