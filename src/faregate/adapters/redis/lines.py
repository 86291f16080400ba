"""Writes records as lines of COPY, directly from the bytes of their entries.

A drain does this for each record, so no object is built. `records.py` reads the same bytes as
objects; it handles records that cannot be plain rows.
"""

import re
import struct
from functools import lru_cache
from time import gmtime, strftime

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
    VERSION,
    whole,
)
from faregate.domain.transaction import CREDITS_MAX

_DEDUCT, _ADD, _REFUND, _ADJUSTMENT = 1, 2, 3, 4
_TYPES = {_DEDUCT: "deduct", _ADD: "add", _REFUND: "refund", _ADJUSTMENT: "admin_adjustment"}
#: Type and default description, without metadata.
_USUAL = {
    (_DEDUCT, 0): "deduct\trequest\t\\N",
    (_DEDUCT, IS_HOLD): "deduct\thold\t\\N",
    (_ADD, 0): "add\tallowance\t\\N",
}
_ALL_FLAGS = HAS_ALLOWANCE | HAS_REFERENCE | HAS_TEXT | IS_HOLD
_NONE = "\\N"
_ESCAPED = re.compile(r"[\\\t\n\r]")
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}

_US_A_SECOND, _MS_A_SECOND = 1_000_000, 1_000


class NotPlainError(Exception):
    """An entry has a record that is no plain row. Read it record by record."""


def write_lines(payload: bytes, place: int, lines: list[str]) -> int:
    """Append a line for each record of an entry, as `ROW_COLUMNS` says; return the next place.

    Raises:
        NotPlainError: A record cannot be read.
    """
    try:
        return _write_lines(payload, place, lines)
    except (struct.error, ValueError, KeyError, OverflowError) as error:
        raise NotPlainError from error


def _write_lines(payload: bytes, place: int, lines: list[str]) -> int:
    version, epoch, _, count, time_us = ENTRY.unpack_from(payload)
    _require(version == VERSION and count > 0)
    seconds, us = divmod(whole(time_us), _US_A_SECOND)
    time = f"{_second(seconds)}.{us:06}+00"
    at, size, unpack, base = ENTRY.size, len(payload), RECORD.unpack_from, RECORD.size
    end = place + count
    while at < size:
        length, kind, flags, id_, user, amount, balance, sequence = unpack(payload, at)
        # Nearly every record is a deduct without further fields.
        is_usual = kind == _DEDUCT and not flags & ~IS_HOLD and length == base
        if is_usual and -CREDITS_MAX <= amount <= 0 and sequence:
            text, reference, allowance = _USUAL[kind, flags], _NONE, "0\t0\t\\N"
        else:
            _check(kind, amount, sequence)
            text, reference, allowance = _tail(payload[at : at + length], length, kind, flags)
        _require(balance >= -CREDITS_MAX)
        lines.append(
            f"{place}\t{id_.hex()}\t{user.hex()}\t{amount}\t{text}\t{time}\t{sequence}\t{balance}"
            f"\t{epoch}\t{reference}\t{allowance}\n"
        )
        place += 1
        at += length
    _require(at == size and place == end)
    return place


def _require(is_right: object) -> None:
    if not is_right:
        raise ValueError("ill-formed record")


def _check(kind: int, amount: int, sequence: int) -> None:
    has_sign = amount <= 0 if kind == _DEDUCT else amount > 0
    _require(has_sign if kind != _ADJUSTMENT else amount != 0)
    _require(amount >= -CREDITS_MAX and sequence > 0)


def _tail(record: bytes, length: int, kind: int, flags: int) -> tuple[str, str, str]:
    """Return type, description and metadata; the reference; and the three fields of allowances."""
    _require(len(record) == length >= RECORD.size and flags <= _ALL_FLAGS)
    _require((kind == _REFUND) == bool(flags & HAS_REFERENCE))
    at = RECORD.size
    reference, allowance = _NONE, "0\t0\t\\N"
    if flags & HAS_ALLOWANCE:
        change, left, start = RECORD_ALLOWANCE.unpack_from(record, at)
        at += RECORD_ALLOWANCE.size
        allowance = f"{change}\t{left}\t{_moment_ms(start)}"
    if flags & HAS_REFERENCE:
        reference = record[at : at + ID_BYTES].hex()
        at += ID_BYTES
    if flags & HAS_TEXT:
        description, at = _text(record, at)
        metadata, at = _text(record, at)
        _require(not metadata or metadata.startswith("{"))
        text = f"{_TYPES[kind]}\t{_escape(description)}\t{_escape(metadata) or _NONE}"
    else:
        text = _USUAL.get((kind, flags & IS_HOLD)) or f"{_TYPES[kind]}\t{_usual(kind, flags)}\t\\N"
    _require(at == length)
    return text, reference, allowance


def _usual(kind: int, flags: int) -> str:
    return "hold" if flags & IS_HOLD else {_DEDUCT: "request", _ADD: "allowance"}.get(kind, "")


def _text(record: bytes, at: int) -> tuple[str, int]:
    (size,) = TEXT_SIZE.unpack_from(record, at)
    at += TEXT_SIZE.size
    _require(at + size <= len(record))
    return record[at : at + size].decode("utf-8"), at + size


def _escape(text: str) -> str:
    return _ESCAPED.sub(lambda found: _ESCAPES[found[0]], text)


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return strftime("%Y-%m-%d %H:%M:%S", gmtime(seconds))


@lru_cache(maxsize=1_024)
def _moment_ms(start: bytes) -> str:
    seconds, ms = divmod(whole(start), _MS_A_SECOND)
    return f"{_second(seconds)}.{ms:03}+00"
