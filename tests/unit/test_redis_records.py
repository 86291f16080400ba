"""Entries of the stream, whatever their bytes are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.adapters.redis.layouts import (
    ENTRY,
    HAS_ALLOWANCE,
    HAS_REFERENCE,
    HAS_TEXT,
    IS_HOLD,
    RECORD,
    RECORD_ALLOWANCE,
    TEXT_SIZE,
)
from faregate.adapters.redis.pages import RECORDS_MAX, PageSizes
from faregate.adapters.redis.records import StreamEntryHeader, read_entry
from faregate.domain.transaction import TransactionType

TIME_US = 1_767_000_000_123_456


def entry(*records: bytes, count: int | None = None) -> bytes:
    count = len(records) if count is None else count
    header = ENTRY.pack(1, 7, (41).to_bytes(6), count, TIME_US.to_bytes(7))
    return header + b"".join(records)


def record(kind: int = 1, flags: int = 0, tail: bytes = b"", *, amount: int = -1) -> bytes:
    size = RECORD.size + len(tail)
    return RECORD.pack(size, kind, flags, bytes(15) + b"i", bytes(15) + b"u", amount, 9, 2) + tail


def text(description: bytes, metadata: bytes) -> bytes:
    sizes = [TEXT_SIZE.pack(len(part)) for part in (description, metadata)]
    return sizes[0] + description + sizes[1] + metadata


@given(payload=st.binary(max_size=300))
def test_no_bytes_stop_the_reader(payload: bytes) -> None:
    """What is no entry becomes a record with a problem, never an exception; there is one always."""
    for bytes_ in (payload, entry(payload), entry(record(), payload), entry(payload, count=0)):
        records = read_entry("1-0", bytes_)
        assert records
        for one in records:
            assert (one.transaction is None) == bool(one.problem)
            assert one.stream_id.startswith("1-0/")
        assert len({one.stream_id for one in records}) == len(records)


def test_the_neighbours_of_a_record_that_cannot_be_read_are_read() -> None:
    """It is told by its address, and its bytes are an entry of their own."""
    bad = record(kind=9)
    good, told, last = read_entry("5-3", entry(record(), bad, record()))
    assert [one.stream_id for one in (good, told, last)] == ["5-3/1", "5-3/2", "5-3/3"]
    assert good.transaction is not None
    assert last.transaction is not None
    assert told.transaction is None
    (alone,) = read_entry("5-3", told.payload)
    assert alone.problem == told.problem
    (again,) = read_entry("5-3", last.payload)
    assert again.transaction == last.transaction
    assert StreamEntryHeader.unpack(last.payload) == StreamEntryHeader(7, 43, 1, TIME_US)


def test_a_record_of_an_impossible_size_ends_its_entry() -> None:
    """What follows cannot be told apart, and is kept as it is."""
    broken = b"\0\5" + bytes(100)
    records = read_entry("1-0", entry(record(), broken, record(), count=3))
    assert [one.transaction is None for one in records] == [False, True, True]
    assert records[1].payload.endswith(broken + record())
    assert "2 records where 3" in records[2].problem


def test_metadata_that_nests_beyond_the_stack_is_unreadable() -> None:
    """Such a record would otherwise stop its shard, whenever it is read."""
    depth = 10_000
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    (one,) = read_entry("1-0", entry(record(flags=HAS_TEXT, tail=text(b"d", deep))))
    assert one.transaction is None
    assert "cannot be read" in one.problem


@pytest.mark.parametrize(
    ("kind", "flags", "tail", "told"),
    [
        (1, 0, b"", "request"),
        (1, IS_HOLD, b"", "hold"),
        (2, 0, b"", "allowance"),
        (4, HAS_TEXT, text(b"by hand", b""), "by hand"),
        (1, HAS_TEXT, text(b"", b""), ""),
    ],
)
def test_the_usual_description_is_not_written(
    kind: int, flags: int, tail: bytes, told: str
) -> None:
    """Most records say nothing else than their kind."""
    amount = 1 if kind == 2 else -1
    (one,) = read_entry("1-0", entry(record(kind, flags, tail, amount=amount)))
    assert one.transaction is not None
    assert one.transaction.description == told


def test_rare_fields_of_records_are_in_their_tail() -> None:
    """Allowance, reference and text, in this order."""
    allowance = RECORD_ALLOWANCE.pack(2, 5, (86_400_000).to_bytes(6))
    flags = HAS_ALLOWANCE | HAS_REFERENCE | HAS_TEXT
    tail = allowance + bytes(15) + b"r" + text("für".encode(), b'{"a": 1}')
    (one,) = read_entry("1-0", entry(record(3, flags, tail, amount=4)))
    made = one.transaction
    assert made is not None
    assert (made.type, made.amount, made.epoch) == (TransactionType.REFUND, 4, 7)
    assert (made.allowance_amount, made.allowance_after) == (2, 5)
    assert made.period_start is not None
    assert made.period_start.isoformat() == "1970-01-02T00:00:00+00:00"
    assert made.refund_of is not None
    assert made.refund_of.bytes == bytes(15) + b"r"
    assert (made.description, made.metadata) == ("für", {"a": 1})
    assert made.timestamp.isoformat() == "2025-12-29T09:20:00.123456+00:00"


def test_pages_grow_with_the_known_size_of_entries() -> None:
    """The first is small enough for the largest entries, the next ones fit those that are there."""
    sizes = PageSizes()
    assert sizes.next(0, 500) == 500 // RECORDS_MAX
    assert sizes.next(0, 1) == 1
    asked = []
    for _ in range(4):
        asked.append(sizes.next(0, 500))
        sizes.note(0, largest=1)
    assert asked == [1, 15, 125, 500]
    sizes.note(0, largest=100)
    assert sizes.next(0, 500) == 5
    assert sizes.next(1, 500) == 1
