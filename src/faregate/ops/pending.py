"""Pending records, read once: at first all that follow the cursors, then what has come since.

A record is kept in some hundred bytes until its user has been compared. So memory grows with the
records that are pending, and not with users.
"""

import struct
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from faregate.domain.transaction import CreditTransaction, TransactionType
from faregate.ports import Copy, Cursor, TransactionStream

#: How many records are decoded at a time.
_BATCH_SIZE = 1_000
#: How many records may be kept beyond twice those of the first reading. If there are more, most of
#: them have become rows meanwhile, so all streams are read anew.
COUNT_MAX = 100_000

#: User, id, amount, type, sequence, epoch; the address follows. The user is first: it is searched.
_PACKED = struct.Struct(">16s16siBQQ")
_TYPES = tuple(TransactionType)


class PendingRecords:
    """The records of all shards that are not known to be rows. For one pass over users by id."""

    def __init__(self, stream: TransactionStream) -> None:
        self._stream = stream
        #: By shard: how far it was read, and what is kept.
        self._places: dict[int, Cursor] = {}
        self._packed: dict[int, list[bytes]] = {}
        self._count_max = 0
        #: When the oldest record was made that was read.
        self.oldest: datetime | None = None

    def read(self, cursors: Mapping[int, Cursor]) -> None:
        """Read each stream to its end, from the place where the last reading ended.

        Args:
            cursors: Where to begin if nothing was read yet. They must be older than the streams.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        count = sum(map(len, self._packed.values()))
        if count > self._count_max:
            self._places, self._packed, count = {}, {}, 0
        for shard in range(self._stream.shard_count):
            self._follow(shard, self._places.get(shard) or cursors.get(shard))
        if not count:
            self._count_max = COUNT_MAX + 2 * sum(map(len, self._packed.values()))

    def take(self, last: UUID) -> list[Copy]:
        """Return the records of all users whose ids are `last` at most, and drop them here."""
        selected = []
        for shard, packed in self._packed.items():
            selected += [record for record in packed if record[:16] <= last.bytes]
            self._packed[shard] = [record for record in packed if record[:16] > last.bytes]
        return list(map(_unpack, selected))

    def _follow(self, shard: int, place: Cursor | None) -> None:
        packed = self._packed.setdefault(shard, [])
        while batch := self._stream.read(shard, place, _BATCH_SIZE):
            if batch.is_from_start:
                # History has changed, or the entry at the place is gone. The batch begins the
                # stream, so nothing that was read before counts.
                packed.clear()
            for record in batch.records():
                if made := record.transaction:
                    packed.append(_pack(record.stream_id, made))
                    self.oldest = min(self.oldest or made.timestamp, made.timestamp)
            self._places[shard] = place = batch.end
            if batch.count < _BATCH_SIZE:
                break


def _pack(stream_id: str, made: CreditTransaction) -> bytes:
    kind = _TYPES.index(made.type)
    fixed = made.user_id.bytes, made.id.bytes, made.amount, kind, made.sequence, made.epoch
    return _PACKED.pack(*fixed) + stream_id.encode()


def _unpack(record: bytes) -> Copy:
    user, identity, amount, kind, sequence, epoch = _PACKED.unpack_from(record)
    return Copy(
        stream_id=record[_PACKED.size :].decode(),
        id=UUID(bytes=identity),
        user_id=UUID(bytes=user),
        amount=amount,
        type=_TYPES[kind],
        sequence=sequence,
        epoch=epoch,
    )
