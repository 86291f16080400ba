"""Reads the binary records that the scripts append; `lua/lib/record.lua` writes them."""

import json
import struct
from datetime import UTC, datetime, timedelta
from uuid import UUID

from faregate.domain.errors import FaregateError
from faregate.domain.transaction import CreditTransaction, CreditTransactionId, TransactionType
from faregate.ports import StreamEntry

FIELD = b"r"
VERSION = 2

_HEADER = struct.Struct(">BB16s16siiQIQQIiiQ16s")
_DESCRIPTION_LENGTH = struct.Struct(">H")
_METADATA_LENGTH = struct.Struct(">I")
_TYPES = {
    1: TransactionType.DEDUCT,
    2: TransactionType.ADD,
    3: TransactionType.REFUND,
    4: TransactionType.ADMIN_ADJUSTMENT,
}
_NO_ID = bytes(16)
#: The last one is metadata that nests deeper than this process can follow.
_UNREADABLE = (
    struct.error,
    ValueError,
    KeyError,
    OverflowError,
    FaregateError,
    RecursionError,
)
_UNIX_START = datetime(1970, 1, 1, tzinfo=UTC)


def entry(stream_id: str, payload: bytes | None) -> StreamEntry:
    """Read one entry of a stream; what cannot be read is said in its `problem`."""
    if payload is None:
        return StreamEntry(
            stream_id=stream_id,
            payload=b"",
            transaction=None,
            problem="the record is missing from the stream",
        )
    try:
        transaction = decode(payload)
    except _UNREADABLE as error:
        problem = f"the record cannot be read: {error}"
        return StreamEntry(stream_id=stream_id, payload=payload, transaction=None, problem=problem)
    return StreamEntry(stream_id=stream_id, payload=payload, transaction=transaction)


def decode(payload: bytes) -> CreditTransaction:
    """Read a record.

    Raises:
        ValueError, KeyError, struct.error, FaregateError: It is not a record of a known version.
        RecursionError: Its metadata nests too deep.
    """
    if payload[:1] != bytes([VERSION]):
        raise ValueError(f"version {payload[:1]!r} is not {VERSION}")
    fields = _HEADER.unpack_from(payload)
    _, kind, identity, user, amount, balance, sequence, epoch, time_us, *rest = fields
    _, _, allowance, allowance_left, period_ms, refund_of = rest
    description, offset = _text(payload, _HEADER.size, _DESCRIPTION_LENGTH)
    metadata, offset = _text(payload, offset, _METADATA_LENGTH)
    if offset != len(payload):
        raise ValueError(f"{len(payload)} bytes where {offset} were expected")
    return CreditTransaction(
        id=CreditTransactionId(UUID(bytes=identity)),
        user_id=UUID(bytes=user),
        amount=amount,
        type=_TYPES[kind],
        description=description,
        metadata=_metadata(metadata),
        timestamp=_UNIX_START + timedelta(microseconds=time_us),
        allowance_amount=allowance,
        allowance_after=allowance_left,
        period_start=_UNIX_START + timedelta(milliseconds=period_ms) if period_ms else None,
        sequence=sequence,
        balance_after=balance,
        epoch=epoch,
        refund_of=None if refund_of == _NO_ID else CreditTransactionId(UUID(bytes=refund_of)),
    )


def _text(payload: bytes, offset: int, length_format: struct.Struct) -> tuple[str, int]:
    (length,) = length_format.unpack_from(payload, offset)
    start = offset + length_format.size
    return payload[start : start + length].decode("utf-8"), start + length


def _metadata(text: str) -> dict[str, object] | None:
    if not text:
        return None
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("metadata is a JSON object")  # noqa: TRY004
    return value
