"""Reads the entries that the scripts append; `lua/lib/records.lua` writes them.

One entry holds all records that one call made in a shard: a header, then records, each with its
size first.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Self
from uuid import UUID

from faregate.adapters.redis.layouts import (
    ENTRY,
    HAS_ALLOWANCE,
    HAS_REFERENCE,
    HAS_TEXT,
    ID_BYTES,
    IS_HOLD,
    RECORD,
    RECORD_ALLOWANCE,
    TEXT_SIZE,
    TIME_MS_BYTES,
    TIME_US_BYTES,
    VERSION,
    whole,
)
from faregate.adapters.redis.values import ShardState
from faregate.domain.errors import FaregateError
from faregate.domain.transaction import CreditTransaction, CreditTransactionId, TransactionType
from faregate.ports import StreamEntry

FIELD = b"r"

_TYPES = {
    1: TransactionType.DEDUCT,
    2: TransactionType.ADD,
    3: TransactionType.REFUND,
    4: TransactionType.ADMIN_ADJUSTMENT,
}
_DESCRIPTIONS = {TransactionType.DEDUCT: "request", TransactionType.ADD: "allowance"}
_UNREADABLE = (
    struct.error,
    ValueError,
    KeyError,
    OverflowError,
    FaregateError,
    # RecursionError: the metadata nest deeper than this process can follow.
    RecursionError,
)
_UNIX_START = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class StreamEntryHeader:
    """The header of an entry."""

    epoch: int
    #: The ordinal of its first record.
    first: int
    count: int
    time_us: int

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Read the header of an entry.

        Raises:
            ValueError, struct.error: It is not an entry of a known version.
        """
        if payload[:1] != bytes((VERSION,)):
            raise ValueError(f"version {payload[:1]!r} is not {VERSION}: use a newer faregate")
        _, epoch, first, count, time_us = ENTRY.unpack_from(payload)
        return cls(epoch, whole(first), count, whole(time_us))

    @property
    def last(self) -> int:
        """The ordinal of its last record."""
        return self.first + self.count - 1

    def is_of(self, state: ShardState) -> bool:
        """Return whether the record's ordinals are valid in the epoch of a shard."""
        return self.epoch == state.epoch and 1 <= self.first <= self.last <= state.ordinal

    def pack_alone(self, index: int) -> bytes:
        """Return the header of an entry with only one of its records, at an index from 1."""
        first, time_us = self.first + index - 1, self.time_us
        return ENTRY.pack(
            VERSION,
            self.epoch,
            first.to_bytes(TIME_MS_BYTES),
            1,
            time_us.to_bytes(TIME_US_BYTES),
        )


def read_entry(position: str, payload: bytes | None) -> list[StreamEntry]:
    """Read an entry record by record. An unreadable entry counts as one record.

    An unreadable record has its error in `problem`. The payload of each record is an entry of its
    own, so a dead letter can be read without its neighbours.

    Args:
        position: The position of the entry in the stream.
        payload: Its bytes; None if they are missing.
    """
    if payload is None:
        return [_unreadable(position, 1, b"", "the entry is missing from the stream")]
    try:
        header = StreamEntryHeader.unpack(payload)
    except (ValueError, struct.error) as error:
        return [_unreadable(position, 1, payload, f"the entry cannot be read: {error}")]
    entries = [
        _read_record(f"{position}/{index}", header, index, header.pack_alone(index) + record)
        for index, record in enumerate(_split(payload), start=1)
    ]
    if len(entries) != header.count or not entries:
        problem = f"the entry holds {len(entries)} records where {header.count} were expected"
        entries.append(_unreadable(position, len(entries) + 1, payload, problem))
    return entries


def read_alone(address: str, payload: bytes) -> StreamEntry:
    """Read a record from a payload that `read_entry` returned."""
    first, *more = read_entry(address, payload)
    newest = more[-1] if more else first
    return replace(newest, stream_id=address, payload=payload)


def _split(payload: bytes) -> Iterator[bytes]:
    """Split an entry into records. A record with an impossible size extends to the end."""
    start = ENTRY.size
    while start < len(payload):
        size = whole(payload[start : start + 2])
        end = start + size if size >= RECORD.size else len(payload)
        yield payload[start:end]
        start = end


def _read_record(
    address: str, header: StreamEntryHeader, index: int, payload: bytes
) -> StreamEntry:
    try:
        transaction = _decode(header, payload[ENTRY.size :])
    except _UNREADABLE as error:
        problem = f"the record cannot be read: {error}"
        return StreamEntry(stream_id=address, payload=payload, transaction=None, problem=problem)
    ordinal = header.first + index - 1
    return StreamEntry(stream_id=address, payload=payload, transaction=transaction, ordinal=ordinal)


def _unreadable(position: str, index: int, payload: bytes, problem: str) -> StreamEntry:
    address = f"{position}/{index}"
    return StreamEntry(stream_id=address, payload=payload, transaction=None, problem=problem)


def _decode(header: StreamEntryHeader, record: bytes) -> CreditTransaction:
    size, kind, flags, identity, user, amount, balance, sequence = RECORD.unpack_from(record)
    if size != len(record) or flags > HAS_ALLOWANCE | HAS_REFERENCE | HAS_TEXT | IS_HOLD:
        raise ValueError(f"{len(record)} bytes where {size} were expected, with flags {flags}")
    tail = _Tail(record)
    change, left, period = tail.take(RECORD_ALLOWANCE) if flags & HAS_ALLOWANCE else (0, 0, b"")
    refund_of = tail.cut(ID_BYTES) if flags & HAS_REFERENCE else None
    description, metadata = (tail.text(), tail.text()) if flags & HAS_TEXT else ("", "")
    tail.end()
    transaction_type = _TYPES[kind]
    usual = "hold" if flags & IS_HOLD else _DESCRIPTIONS.get(transaction_type, "")
    return CreditTransaction(
        id=CreditTransactionId(UUID(bytes=identity)),
        user_id=UUID(bytes=user),
        amount=amount,
        type=transaction_type,
        description=description if flags & HAS_TEXT else usual,
        metadata=_metadata(metadata),
        timestamp=_UNIX_START + timedelta(microseconds=header.time_us),
        sequence=sequence,
        balance_after=balance,
        epoch=header.epoch,
        refund_of=None if refund_of is None else CreditTransactionId(UUID(bytes=refund_of)),
        allowance_amount=change,
        allowance_after=left,
        period_start=_UNIX_START + timedelta(milliseconds=whole(period)) if period else None,
    )


class _Tail:
    """The part of a record that follows its fixed fields, read from front to back."""

    def __init__(self, record: bytes) -> None:
        self._record = record
        self._at = RECORD.size

    def cut(self, size: int) -> bytes:
        """Return the next bytes.

        Raises:
            ValueError: There are fewer.
        """
        part = self._record[self._at : self._at + size]
        if len(part) < size:
            raise ValueError(f"it ends after {len(self._record)} bytes, in the middle of a field")
        self._at += size
        return part

    def take(self, layout: struct.Struct) -> tuple[int, int, bytes]:
        """Return the next fields."""
        first, second, third = layout.unpack(self.cut(layout.size))
        return first, second, third

    def text(self) -> str:
        """Return the next text, which its size precedes."""
        (size,) = TEXT_SIZE.unpack(self.cut(TEXT_SIZE.size))
        return self.cut(size).decode("utf-8")

    def end(self) -> None:
        """Check that no bytes are left.

        Raises:
            ValueError: Bytes are left.
        """
        if self._at != len(self._record):
            raise ValueError(f"{len(self._record)} bytes where {self._at} were expected")


def _metadata(text: str) -> dict[str, object] | None:
    if not text:
        return None
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("metadata must be a JSON object")  # noqa: TRY004
    return value
