"""Measures the exact drift of live balances from their ledger, under traffic.

The sequence of an account does not identify its records: a Redis that was restored from an older
copy uses the numbers of lost records again. So records are identified by their places in the
stream. The order of reading is:

1. The cursors. 2. The account, with the number of the last record of its shard at that moment. 3. A
snapshot of Postgres. 4. The stream of the shard from step 1 on, each record looked up in that
snapshot.

A record after step 2 is not part of the account, so it is subtracted from the sum if it is a row
already. A record before step 2 that is neither row nor dead letter is pending. All other rows
count, including those of records that Redis lost.

A drift does not depend on traffic, so it is measured until two measurements in a row agree. So a
failover during a measurement is not mistaken for a drift.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from faregate.domain.alignment import LOST_MAX, LiveAccount, LiveDrift, LostTransaction
from faregate.domain.errors import LedgerUninitialisedError
from faregate.ports import (
    Copy,
    Cursor,
    Known,
    LedgerSum,
    LiveAccounts,
    Snapshot,
    Snapshots,
    StreamEntry,
    TransactionStream,
)

#: The most measurements of users whose results do not agree.
MEASUREMENTS_MAX = 5
#: How many records are decoded at a time.
_BATCH_SIZE = 1_000


def measure(
    users: Sequence[UUID],
    accounts: LiveAccounts,
    stream: TransactionStream,
    snapshots: Snapshots,
) -> Mapping[UUID, LiveDrift]:
    """Measure the drift of live balances. Writes nothing.

    Memory grows with users, and not with their records.

    Args:
        users: The users; each of their shards is read from its cursor on.
        accounts: The live accounts.
        stream: The stream of records.
        snapshots: Snapshots of rows and dead letters.

    Returns:
        The drift of each user. Users that Postgres does not know are left out, as are users whose
        measurements never agreed: measure these again later.

    Raises:
        LedgerUninitialisedError: Redis was wiped, or is of another epoch than Postgres.
        LedgerUnavailableError, ArchiveUnavailableError: A server does not answer.
    """
    left = list(dict.fromkeys(users))
    found: dict[UUID, LiveDrift] = {}
    before: dict[UUID, LiveDrift] = {}
    for _ in range(MEASUREMENTS_MAX):
        now = _measure_once(left, accounts, stream, snapshots)
        found |= {user_id: drift for user_id, drift in now.items() if _is_same(drift, before)}
        left = [user_id for user_id in now if user_id not in found]
        if not left:
            break
        before = now
    return found


def _is_same(drift: LiveDrift, before: Mapping[UUID, LiveDrift]) -> bool:
    return drift.user_id in before and _content(before[drift.user_id]) == _content(drift)


def _content(drift: LiveDrift) -> tuple[object, ...]:
    """Return the part of a drift that charges do not change, in which measurements must agree."""
    account = drift.account
    is_missing = account.user is None
    return drift.amount, drift.allowance_amount, drift.epoch, is_missing, account.last_id


def _measure_once(
    users: Sequence[UUID], accounts: LiveAccounts, stream: TransactionStream, snapshots: Snapshots
) -> dict[UUID, LiveDrift]:
    cursors = snapshots.cursors()
    found = accounts.read(users)
    with snapshots.take() as snapshot:
        sums = snapshot.sums(users)
        counts = {
            user_id: _Count(account, sums[user_id])
            for user_id, account in found.items()
            if user_id in sums
        }
        for shard in sorted({count.account.shard for count in counts.values()}):
            _follow(stream, shard, cursors.get(shard), snapshot, counts)
        return {user_id: count.drift(snapshot) for user_id, count in counts.items()}


@dataclass(slots=True)
class _Count:
    """Computes the expected account of one user."""

    account: LiveAccount
    sum: LedgerSum
    #: The ids of rows in the sum that were made after the account was read.
    later: list[UUID] = field(default_factory=list)
    #: The sequences of pending records: the lowest, the highest, and that of the last record.
    pending: range = range(0)
    tail: deque[LostTransaction] = field(default_factory=lambda: deque(maxlen=LOST_MAX))
    #: Pending records whose sequences were used again.
    passed: deque[LostTransaction] = field(default_factory=lambda: deque(maxlen=LOST_MAX))

    def is_later(self, entry: StreamEntry) -> bool:
        """Return whether a record was made after the account was read."""
        made, account = entry.transaction, self.account
        return made is not None and made.epoch == account.epoch and entry.ordinal > account.ordinal

    def add(self, entry: StreamEntry, known: Known | None) -> None:
        """Count a record of the stream."""
        made = entry.transaction
        is_later = self.is_later(entry)
        if made is None or is_later is not (known is Known.COUNTED) or known is Known.DISCARDED:
            return
        sign = -1 if is_later else 1
        self.sum = replace(
            self.sum,
            credits=self.sum.credits + sign * made.amount,
            allowance_left=self.sum.allowance_left + sign * made.allowance_amount,
        )
        if is_later:
            self.later.append(made.id.value)
            return
        pending, number = self.pending, made.sequence
        while self.tail and self.tail[-1].sequence >= number:
            self.passed.append(self.tail.pop())
        self.tail.append(LostTransaction(id=made.id.value, sequence=number, amount=made.amount))
        self.pending = range(min(pending.start or number, number), max(pending.stop, number + 1))
        start_ms = round(made.period_start.timestamp() * 1_000) if made.period_start else 0
        self.sum = replace(
            self.sum,
            sequence_max=max(self.sum.sequence_max, number),
            epoch_max=max(self.sum.epoch_max, made.epoch),
            period_start_ms=max(self.sum.period_start_ms, start_ms),
        )

    def drift(self, snapshot: Snapshot) -> LiveDrift:
        """Return the drift of the account."""
        account, user, due = self.account, self.account.user, self.sum
        if account.epoch != snapshot.epoch:
            raise LedgerUninitialisedError(
                f"Redis is of epoch {account.epoch} where Postgres expects {snapshot.epoch}"
            )
        is_unseen = user is None and not account.is_unreadable
        if is_unseen and due.epoch_max != account.epoch:
            # The user is not installed in this epoch yet; their next request does that.
            return LiveDrift(account=account, amount=0, allowance_amount=0, sequence_min=0)
        drift = LiveDrift(
            account=account,
            amount=due.credits - (user.credits if user else 0),
            allowance_amount=due.allowance_left - (user.allowance_left if user else 0),
            sequence_min=due.sequence_max,
            period_start_ms=due.period_start_ms,
        )
        if drift.is_zero or user is None:
            return drift
        lost = self._lost(snapshot, user.sequence)
        last = max([self.pending.stop - 1, *(one.sequence for one in lost)])
        if last <= user.sequence:
            # The highest sequence is that of the account, or of a later record.
            drift = replace(drift, sequence_min=min(user.sequence, due.sequence_max))
        return drift if drift.is_zero else replace(drift, lost=lost)

    def _lost(self, snapshot: Snapshot, reached: int) -> tuple[LostTransaction, ...]:
        found = [
            *snapshot.lost(self.account, self.pending, self.later),
            *self.passed,
            *(one for one in self.tail if one.sequence > reached),
        ]
        return tuple(sorted(found, key=lambda one: (one.sequence, one.id))[-LOST_MAX:])


def _follow(
    stream: TransactionStream,
    shard: int,
    place: Cursor | None,
    snapshot: Snapshot,
    counts: Mapping[UUID, _Count],
) -> None:
    """Count the records of a shard after a place."""
    first = True
    while batch := stream.read(shard, place, _BATCH_SIZE):
        if batch.is_from_start and not first:
            # History changed during the reading, so this measurement will not agree with another.
            return
        first = False
        entries = [
            entry
            for entry in batch.records()
            if entry.transaction and entry.transaction.user_id in counts
        ]
        known = snapshot.known(list(_copies(entries))) if entries else {}
        for entry in entries:
            if entry.transaction:
                counts[entry.transaction.user_id].add(entry, known.get(entry.stream_id))
        place = batch.end
        if batch.count < _BATCH_SIZE:
            return


def _copies(entries: Sequence[StreamEntry]) -> Iterator[Copy]:
    for entry in entries:
        if made := entry.transaction:
            yield Copy(
                stream_id=entry.stream_id,
                id=made.id.value,
                user_id=made.user_id,
                amount=made.amount,
                type=made.type,
                sequence=made.sequence,
                epoch=made.epoch,
            )
