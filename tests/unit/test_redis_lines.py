"""Records as lines of text say what the same records say as objects."""

import json
from datetime import datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.adapters.redis.layouts import (
    ENTRY,
    HAS_ALLOWANCE,
    HAS_REFERENCE,
    HAS_TEXT,
    RECORD,
    RECORD_ALLOWANCE,
    TEXT_SIZE,
)
from faregate.adapters.redis.lines import NotPlainError, write_lines
from faregate.adapters.redis.records import read_entry
from faregate.domain.transaction import CreditTransaction
from faregate.ports import ROW_COLUMNS

TIME_US = 1_767_000_000_123_456
NUMBERS = st.integers(-(2**31), 2**31 - 1)
ESCAPES = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r"}


def entry(records: list[bytes], count: int) -> bytes:
    return ENTRY.pack(1, 7, (41).to_bytes(6), count, TIME_US.to_bytes(7)) + b"".join(records)


def text(description: str, metadata: str) -> bytes:
    parts = [part.encode() for part in (description, metadata)]
    return b"".join(TEXT_SIZE.pack(len(part)) + part for part in parts)


@st.composite
def records(draw: st.DrawFn) -> bytes:
    """A record as the scripts write it, or one with a number or a flag that they never write."""
    flags, tail = draw(st.integers(0, 16)), b""
    if flags & HAS_ALLOWANCE:
        numbers = draw(st.tuples(NUMBERS, NUMBERS))
        tail += RECORD_ALLOWANCE.pack(*numbers, draw(st.integers(0, 2**42)).to_bytes(6))
    if flags & HAS_REFERENCE:
        tail += draw(st.binary(min_size=16, max_size=16))
    if flags & HAS_TEXT:
        metadata = draw(st.none() | st.dictionaries(st.text(max_size=5), st.text(max_size=5)))
        tail += text(draw(st.text(max_size=20)), "" if metadata is None else json.dumps(metadata))
    ids = draw(st.binary(min_size=32, max_size=32))
    sequence = draw(st.integers(0, 5))
    kind, amount = draw(st.integers(1, 4)), draw(st.integers(-3, 3) | NUMBERS)
    size = RECORD.size + len(tail) + draw(st.sampled_from([0] * 20 + [1]))
    return RECORD.pack(size, kind, flags, ids[:16], ids[16:], amount, draw(NUMBERS), sequence) + (
        tail
    )


def unescaped(field: str) -> str | None:
    if field == "\\N":
        return None
    out, at = "", 0
    while at < len(field):
        pair = field[at : at + 2]
        out += ESCAPES.get(pair, field[at])
        at += 2 if pair in ESCAPES else 1
    return out


def said_by(line: str) -> tuple[object, ...]:
    assert line.endswith("\n")
    fields = dict(zip(ROW_COLUMNS, map(unescaped, line[:-1].split("\t")), strict=True))
    metadata, refund_of, start = (fields[n] for n in ("metadata", "refund_of", "period_start"))
    names = ("amount", "sequence", "balance_after", "epoch", "allowance_amount", "allowance_after")
    return (
        UUID(fields["id"]),
        UUID(fields["user_id"]),
        fields["type"],
        fields["description"],
        None if metadata is None else json.loads(metadata),
        datetime.fromisoformat(str(fields["timestamp"])),
        None if refund_of is None else UUID(refund_of),
        None if start is None else datetime.fromisoformat(start),
        *(int(str(fields[name])) for name in names),
    )


def said(made: CreditTransaction) -> tuple[object, ...]:
    return (
        made.id.value,
        made.user_id,
        made.type.value,
        made.description,
        made.metadata,
        made.timestamp,
        None if made.refund_of is None else made.refund_of.value,
        made.period_start,
        made.amount,
        made.sequence,
        made.balance_after,
        made.epoch,
        made.allowance_amount,
        made.allowance_after,
    )


@given(made=st.lists(records(), min_size=1, max_size=4))
def test_lines_and_objects_agree(made: list[bytes]) -> None:
    """What is written as lines is what is read as objects; what one cannot read, neither can."""
    payload = entry(made, len(made))
    read = [record.transaction for record in read_entry("1-0", payload)]
    lines: list[str] = []
    try:
        assert write_lines(payload, 5, lines) == 5 + len(made)
    except NotPlainError:
        assert None in read
        return
    assert [said_by(line) for line in lines] == [said(one) if one else None for one in read]
    assert [line.partition("\t")[0] for line in lines] == [str(5 + n) for n in range(len(made))]


@given(payload=st.binary(max_size=200))
def test_no_bytes_stop_the_writer(payload: bytes) -> None:
    """What is no entry is left to the reader of objects."""
    for bytes_ in (payload, entry([payload], 1)):
        with pytest.raises(NotPlainError):
            write_lines(bytes_, 0, [])
