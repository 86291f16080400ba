"""The stream of one shard in plain dicts: what was appended, and what of it is not yet a row."""

from collections.abc import Callable
from datetime import timedelta
from itertools import count
from uuid import UUID

from faregate.adapters.memory.clock import utc
from faregate.domain.transaction import CreditTransaction, CreditTransactionId

#: For how long a record that is a row stays: a retry is known by it.
_RETENTION_MS = 90_000
#: From which age of the oldest record on no refund and no credit is accepted.
_BACKLOG_HOURS_MAX = 23


class MemoryRecords:
    """Records by their position, oldest first."""

    def __init__(self, now_ms: Callable[[], int], length_max: int) -> None:
        self._now_ms = now_ms
        self._length_max = length_max
        self._positions = count(1)
        self._stream: dict[str, CreditTransaction] = {}
        self._by_id: dict[tuple[UUID, CreditTransactionId], CreditTransaction] = {}
        #: Those that are not acknowledged.
        self.pending: dict[str, CreditTransaction] = {}

    def append(self, record: CreditTransaction) -> str:
        """Append a record; return its position."""
        position = f"{next(self._positions)}-0"
        self._stream[position] = self.pending[position] = record
        self._by_id[record.user_id, record.id] = record
        return position

    def find(self, user_id: UUID, identity: CreditTransactionId) -> CreditTransaction | None:
        """Return a user's record, if it is still there."""
        return self._by_id.get((user_id, identity))

    def trim(self) -> int:
        """Forget records that are rows and old, up to the first that is not; return how many."""
        kept_from = utc(self._now_ms() - _RETENTION_MS)
        before = len(self._stream)
        for position, record in list(self._stream.items()):
            if position in self.pending or record.timestamp >= kept_from:
                break
            del self._stream[position]
            if self._by_id[record.user_id, record.id] is record:
                del self._by_id[record.user_id, record.id]
        return before - len(self._stream)

    @property
    def is_full(self) -> bool:
        """Whether there are as many as may be."""
        return len(self._stream) >= self._length_max

    @property
    def is_backlogged(self) -> bool:
        """Whether one has waited for longer than what was asked for is remembered."""
        oldest = next(iter(self._stream.values()), None)
        limit = timedelta(hours=_BACKLOG_HOURS_MAX)
        return oldest is not None and oldest.timestamp < utc(self._now_ms()) - limit
