"""Pending records, each read once: first all after the cursors, then new ones.

A record takes about a hundred bytes until its user has been compared. So memory grows with pending
records, and not with users.
"""

import struct
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from faregate.domain.transaction import CreditTransaction, TransactionType
from faregate.ports import Copy, Cursor, TransactionStream

#: How many records are decoded at a time.
_BATCH_SIZE = 1_000
#: The most records in memory beyond twice those of the first reading. If there are more, most of
#: them have become rows meanwhile, so all streams are read again.
COUNT_MAX = 100_000

#: User, id, amount, type, sequence, epoch; the address follows. The user is first, to be searched.
_PACKED = struct.Struct(">16s16siBQQ")
_TYPES = tuple(TransactionType)


class PendingRecords:
    """The pending records of all shards, for one pass over users by id."""

    def __init__(self, stream: TransactionStream) -> None:
        self._stream = stream
        #: By shard: the place up to which it was read, and its records.
        self._places: dict[int, Cursor] = {}
        self._packed: dict[int, list[bytes]] = {}
        self._count_max = 0
        #: The time of the oldest record.
        self.oldest: datetime | None = None

    def read(self, cursors: Mapping[int, Cursor]) -> None:
        """Read each stream to its end, from the end of the last reading.

        Args:
            cursors: The start of the first reading. They must be read before the streams.

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
        """Return and remove the records of all users with ids up to `last`."""
        selected = []
        for shard, packed in self._packed.items():
            selected += [record for record in packed if record[:16] <= last.bytes]
            self._packed[shard] = [record for record in packed if record[:16] > last.bytes]
        return list(map(_unpack, selected))

    def _follow(self, shard: int, place: Cursor | None) -> None:
        packed = self._packed.setdefault(shard, [])
        while batch := self._stream.read(shard, place, _BATCH_SIZE):
            if batch.is_from_start:
                # History has changed, or the entry at the place is missing. The batch begins the
                # stream, so earlier records do not count.
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
