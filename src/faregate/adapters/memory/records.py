"""The records of a ledger in memory, and its time."""

from collections.abc import Callable

from faregate.adapters.memory.clock import utc
from faregate.adapters.memory.values import Expiring
from faregate.domain.errors import LedgerUninitialisedError
from faregate.domain.identity import LedgerIdentity
from faregate.domain.transaction import CreditTransaction, CreditTransactionId
from faregate.domain.windows import BACKLOG_AGE_MS_MAX, RETENTION_MS


class Records:
    """All records, and those that are not yet rows. Each operation begins with `begin`."""

    def __init__(self, clock: Callable[[], int], pending_max: int) -> None:
        self._clock = clock
        self._last_ms = 0
        #: The epoch; None where the ledger is empty.
        self.epoch: int | None = None
        #: How many records may be pending.
        self.pending_max = pending_max
        #: The time of the operation in Unix milliseconds.
        self.now_ms = 0
        #: Every record at or after this time is still known by its id.
        self.oldest_ms = 0
        #: The records that are not acknowledged, by their ids, oldest first.
        self.pending: dict[str, CreditTransaction] = {}
        #: The records that are known by their ids however old they are, for a time.
        self.remembered: Expiring[CreditTransactionId, CreditTransaction] = Expiring(self.time_ms)
        self._by_id: dict[CreditTransactionId, CreditTransaction] = {}

    def attach(self, identity: LedgerIdentity) -> None:
        """Take over the epoch, unless the ledger was installed and is lost."""
        if self.epoch is None and not identity.installed:
            self.epoch = identity.epoch
            # Records of an earlier epoch are not here.
            self.oldest_ms = 0 if identity.epoch == 1 else self._clock()
        if self.epoch != identity.epoch:
            raise LedgerUninitialisedError("the ledger in memory is not the one of Postgres")

    def begin(self) -> int:
        """Begin an operation, which has one time, and return that.

        Raises:
            LedgerUninitialisedError: The ledger is empty.
        """
        if self.epoch is None:
            raise LedgerUninitialisedError("the ledger in memory is empty")
        self.now_ms = self.time_ms()
        return self.now_ms

    def time_ms(self) -> int:
        """Return the time in Unix milliseconds: never before the last record."""
        return max(self._clock(), self._last_ms)

    def append(self, record: CreditTransaction) -> None:
        """Append a record."""
        self._last_ms = self.now_ms
        self._by_id[record.id] = self.pending[str(record.id)] = record

    def find(self, identity: CreditTransactionId) -> CreditTransaction | None:
        """Return the record with an id, as far as it is still here."""
        return self._by_id.get(identity)

    def known(self, identity: CreditTransactionId) -> CreditTransaction | None:
        """Return the record with an id, as long as the id is recognised."""
        return self.remembered.get(identity) or self.find(identity)

    @property
    def is_full(self) -> bool:
        """Whether as many records are pending as may be."""
        return len(self.pending) >= self.pending_max

    @property
    def is_backlogged(self) -> bool:
        """Whether a record is pending for longer than its id is remembered."""
        from_time = utc(self.now_ms - BACKLOG_AGE_MS_MAX)
        return any(record.timestamp < from_time for record in self.pending.values())

    def trim(self) -> int:
        """Forget records that are rows and old, up to the first that is not; return how many."""
        from_ms = self.time_ms() - RETENTION_MS
        for oldest in self.pending.values():
            from_ms = min(from_ms, round(oldest.timestamp.timestamp() * 1000))
        kept = {
            identity: record
            for identity, record in self._by_id.items()
            if record.timestamp >= utc(from_ms)
        }
        count = len(self._by_id) - len(kept)
        self._by_id, self.oldest_ms = kept, max(self.oldest_ms, from_ms)
        return count
