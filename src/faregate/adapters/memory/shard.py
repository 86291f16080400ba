"""One shard: its time, and its stream of records."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from faregate.domain.errors import LedgerUninitialisedError
from faregate.domain.identity import LedgerIdentity
from faregate.domain.transaction import CreditTransaction, CreditTransactionId
from faregate.domain.windows import BACKLOG_AGE_MS_MAX, RETENTION_MS


@dataclass(frozen=True, slots=True)
class Recorded:
    """A record, and where it lies."""

    record: CreditTransaction
    #: The address: the entry, and the index in it from 1.
    position: str
    #: When its entry was appended, in Unix milliseconds.
    at_ms: int
    #: The number of the record in its shard.
    ordinal: int
    is_hold: bool


class Shard:
    """The epoch, the time and the records of one shard. Each operation begins with `begin`."""

    def __init__(self, clock: Callable[[], int], pending_max: int) -> None:
        self._clock = clock
        self._pending_max = pending_max
        self._epoch: int | None = None
        self._last_ms = 0
        #: Every record at or after this time is still in the stream.
        self.oldest_kept_ms = 0
        self._ordinal = 0
        self._stored = 0
        self._stream: dict[str, Recorded] = {}
        self._by_id: dict[CreditTransactionId, Recorded] = {}
        #: The records that are not known to be rows, by their position, oldest first.
        self.pending: dict[str, CreditTransaction] = {}
        self._now_ms = 0
        self._entry_ms, self._entry_number, self._entry_count = 0, -1, 0

    def attach(self, identity: LedgerIdentity) -> None:
        """Take over the epoch, unless the ledger was installed and is lost."""
        if self._epoch is None and not identity.installed:
            self._epoch = identity.epoch
            # Records of an earlier epoch are not here.
            self.oldest_kept_ms = 0 if identity.epoch == 1 else self._clock()
        if self._epoch != identity.epoch:
            raise LedgerUninitialisedError("the ledger in memory is not the one of Postgres")

    def begin(self) -> None:
        """Begin an operation: all that it records is one entry, of one time."""
        self._now_ms = self.time_ms()
        self._entry_count = 0

    @property
    def now_ms(self) -> int:
        """The time of the operation in Unix milliseconds."""
        return self._now_ms

    @property
    def epoch(self) -> int:
        """The epoch.

        Raises:
            LedgerUninitialisedError: The ledger is empty.
        """
        if self._epoch is None:
            raise LedgerUninitialisedError("the ledger in memory is empty")
        return self._epoch

    def time_ms(self) -> int:
        """Return the time in Unix milliseconds: never before the last record."""
        return max(self._clock(), self._last_ms)

    def append(self, record: CreditTransaction, *, is_hold: bool = False) -> Recorded:
        """Append a record to the entry of the operation."""
        if not self._entry_count:
            is_same_ms = self._entry_ms == self._now_ms
            self._entry_number = self._entry_number + 1 if is_same_ms else 0
            self._entry_ms = self._last_ms = self._now_ms
        self._entry_count += 1
        self._ordinal += 1
        recorded = Recorded(
            record=record,
            position=f"{self._entry_ms}-{self._entry_number}/{self._entry_count}",
            at_ms=self._entry_ms,
            ordinal=self._ordinal,
            is_hold=is_hold,
        )
        self._stream[recorded.position] = self._by_id[record.id] = recorded
        self.pending[recorded.position] = record
        return recorded

    def find(
        self, identity: CreditTransactionId, from_ms: int, to_ms: int | None = None
    ) -> Recorded | None:
        """Return the record of an id that was appended between two times."""
        found = self._by_id.get(identity)
        last_ms = self._now_ms if to_ms is None else to_ms
        return found if found is not None and from_ms <= found.at_ms <= last_ms else None

    def at(self, position: str, identity: CreditTransactionId) -> Recorded | None:
        """Return the record at an address, if it has the id."""
        found = self._stream.get(position)
        return found if found is not None and found.record.id == identity else None

    @property
    def is_full(self) -> bool:
        """Whether as many records are pending as may be."""
        return self._ordinal - self._stored >= self._pending_max

    @property
    def is_backlogged(self) -> bool:
        """Whether a record is pending for longer than its id is remembered."""
        oldest = self._oldest_pending()
        return oldest is not None and oldest.at_ms < self._now_ms - BACKLOG_AGE_MS_MAX

    def note_stored(self, ordinal: int) -> None:
        """Note that the records up to one are rows."""
        self._stored = min(ordinal, self._ordinal)
        self.pending = {
            known.position: known.record
            for known in self._stream.values()
            if known.ordinal > self._stored
        }

    def trim(self) -> int:
        """Forget records that are rows and old, up to the first that is not; return how many."""
        oldest = self._oldest_pending()
        boundary_ms = self.time_ms() - RETENTION_MS
        if oldest is not None:
            boundary_ms = min(boundary_ms, oldest.at_ms)
        gone = [known for known in self._stream.values() if known.at_ms < boundary_ms]
        for known in gone:
            del self._stream[known.position]
            if self._by_id.get(known.record.id) is known:
                del self._by_id[known.record.id]
        self.oldest_kept_ms = max(self.oldest_kept_ms, boundary_ms)
        return len(gone)

    def fill(self) -> None:
        """Let no more records be pending than there are now."""
        self._pending_max = self._ordinal - self._stored

    @property
    def entries(self) -> Mapping[str, Recorded]:
        """All that is in the stream, oldest first."""
        return self._stream

    def _oldest_pending(self) -> Recorded | None:
        position = next(iter(self.pending), None)
        return None if position is None else self._stream[position]


def period_start_ms(record: CreditTransaction) -> int | None:
    """Return when the period of a record began, in Unix milliseconds."""
    start = record.period_start
    return None if start is None else round(start.timestamp() * 1_000)
