"""The stream on a real Redis: what is read after a cursor, noted, told and trimmed."""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from faregate.adapters.redis.batches import RedisBatch
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.stream import RedisStream
from faregate.ports import Cursor, StreamEntry
from redis_ledger import KEYS, SHARD, entries, install, spend, state

pytestmark = pytest.mark.redis

HOUR_MS = 3_600_000


async def charge(ledger: RedisLedger, count: int, calls: int = 1) -> None:
    """Make records of one user: so many in each of so many calls."""
    user_id = await install(ledger, credits_=10_000)
    for _ in range(calls):
        await asyncio.gather(*(spend(ledger, user_id) for _ in range(count)))


def batch_after(stream: RedisStream, cursor: Cursor | None, count_max: int = 1_000) -> RedisBatch:
    batch = stream.read(SHARD, cursor, count_max)
    assert batch is not None
    return batch


def batches(stream: RedisStream, count_max: int) -> Iterator[RedisBatch]:
    """Read all there is, each batch after the one before."""
    cursor = None
    while batch := stream.read(SHARD, cursor, count_max):
        yield batch
        cursor = batch.end


def sequences(records: Iterable[StreamEntry]) -> list[int]:
    return [record.transaction.sequence for record in records if record.transaction]


async def test_each_record_of_an_entry_has_an_address(
    ledger: RedisLedger, client: Redis, stream: RedisStream
) -> None:
    """It is that which its decision was told."""
    user_id = await install(ledger)
    decisions = await asyncio.gather(*(spend(ledger, user_id) for _ in range(3)))
    assert len(entries(client)) == 1
    batch = batch_after(stream, None)
    records = batch.records()
    assert [record.stream_id for record in records] == [one.position for one in decisions]
    assert (batch.count, sequences(records)) == (3, [2, 3, 4])
    made = [record.transaction for record in records if record.transaction]
    assert [one.id for one in made] == [decision.transaction_id for decision in decisions]
    assert {(one.description, one.epoch, one.metadata) for one in made} == {("request", 1, None)}


async def test_all_fields_of_a_record_are_read(ledger: RedisLedger, stream: RedisStream) -> None:
    """Those that few records have, too."""
    user_id = await install(ledger)
    await spend(ledger, user_id, description="Grüße", metadata={"a": [1, None]})
    (record,) = batch_after(stream, None).records()
    transaction = record.transaction
    assert transaction is not None
    assert (transaction.description, transaction.metadata) == ("Grüße", {"a": [1, None]})
    assert (transaction.amount, transaction.balance_after) == (-1, 9)
    assert transaction.timestamp.timestamp() * 1000 == pytest.approx(ledger.now_ms(), abs=60_000)


@pytest.mark.parametrize("size", [1, 16, 100])
async def test_about_as_many_records_are_read_as_are_asked_for(
    ledger: RedisLedger, stream: RedisStream, size: int
) -> None:
    """However many one entry holds; whole entries, none twice, none left out, all numbered."""
    await charge(ledger, size, calls=400 // size)
    total = 400 // size * size
    found: list[StreamEntry] = []
    ordinal = 0
    for batch in batches(stream, 50):
        assert batch.first_ordinal == ordinal + 1
        found += batch.records()
        assert 50 <= batch.count < 50 + size or len(found) == total
        ordinal = batch.end.ordinal
    assert sequences(found) == list(range(2, 2 + total))
    assert ordinal == total


async def test_a_batch_says_after_which_one_it_was_read(
    ledger: RedisLedger, stream: RedisStream
) -> None:
    """Batches are numbered, and end with a whole entry."""
    await charge(ledger, 2, calls=3)
    first = batch_after(stream, None, 1)
    second = batch_after(stream, first.end, 1)
    assert (first.end.number, second.end.number) == (1, 2)
    assert (first.is_from_start, second.is_from_start) == (True, False)
    assert (second.after, second.end.ordinal) == (first.end, 4)
    assert batch_after(stream, first.end, 100).head(1).end == second.end
    assert stream.read(SHARD, batch_after(stream, second.end).end, 10) is None


async def test_the_noted_ordinal_is_stored(
    ledger: RedisLedger, client: Any, stream: RedisStream
) -> None:
    """A higher value that comes late, or a lower one, is corrected by the next call."""
    await charge(ledger, 1, calls=3)
    first, second, third = (batch.end for batch in batches(stream, 1))
    assert (stream.pending_count(), stream.shards_pending()) == (3, [SHARD])
    for cursor, pending in ((second, 1), (first, 2), (third, 0)):
        stream.note_stored(SHARD, cursor)
        assert stream.pending_count() == pending
        assert state(client).stored == cursor.ordinal
    assert stream.shards_pending() == []


async def test_a_cursor_of_another_history_is_not_noted(
    ledger: RedisLedger, client: Any, stream: RedisStream
) -> None:
    """Of another epoch, or of an entry that is not there: nothing may be taken for stored."""
    await charge(ledger, 1, calls=2)
    cursor = batch_after(stream, None).end
    for other in (replace(cursor, epoch=2), replace(cursor, position="1-1"), None):
        assert stream.note_stored(SHARD, other) == 0
        assert (state(client).stored, stream.pending_count()) == (0, 2)


async def test_only_stored_and_old_records_are_trimmed(
    ledger: RedisLedger, client: Any, ledger_redis: str
) -> None:
    """What is not stored stays, what is recent, and the entry at the cursor if another follows."""
    await charge(ledger, 3, calls=300)
    keep = RedisStream(client, 1, stored_ms=HOUR_MS)
    at_once = RedisStream(client, 1, stored_ms=0)
    middle, end = batch_after(keep, None, 600).end, batch_after(keep, None).end
    assert keep.note_stored(SHARD, middle) == 0, "all are recent"
    positions = [position for position, _ in entries(client)]
    older = positions.index(middle.position)
    assert at_once.note_stored(SHARD, middle) <= older
    left = [position for position, _ in entries(client)]
    assert left[0] <= middle.position
    assert keep.pending_count() == 900 - middle.ordinal
    assert state(client).oldest_ms <= int(left[left.index(middle.position) + 1].split("-")[0])
    at_once.note_stored(SHARD, end)
    assert entries(client) == []
    assert keep.read(SHARD, end, 10) is None
    await charge(ledger, 1)
    batch = batch_after(keep, end)
    assert (batch.first_ordinal, batch.is_from_start) == (end.ordinal + 1, True)


async def test_stored_records_are_bounded_in_number(ledger: RedisLedger, client: Any) -> None:
    """Where there are many they stay only as long as a retry may need them."""
    await charge(ledger, 1, calls=20)
    few = RedisStream(client, 1, stored_ms=HOUR_MS, stored_count_max=5)
    many = RedisStream(client, 1, stored_ms=HOUR_MS, stored_count_max=20)
    few._retention = (HOUR_MS, 0, 5)
    many._retention = (HOUR_MS, 0, 20)
    end = batch_after(few, None).end
    assert many.note_stored(SHARD, end) == 0
    assert few.note_stored(SHARD, end) == 20
    assert client.xlen(KEYS.stream) == 0


@pytest.mark.parametrize("change", ["gone", "other bytes", "another epoch"])
async def test_a_history_that_has_changed_is_read_from_its_beginning(
    ledger: RedisLedger, client: Any, stream: RedisStream, change: str
) -> None:
    """The entry at the cursor is compared with each read, to the byte."""
    await charge(ledger, 1, calls=3)
    cursor = batch_after(stream, None, 2).end
    if change == "gone":
        client.xdel(KEYS.stream, cursor.position)
    elif change == "other bytes":
        cursor = replace(cursor, digest=bytes(32))
    else:
        cursor = replace(cursor, epoch=9)
    batch = batch_after(stream, cursor)
    assert batch.is_from_start
    assert batch.after == cursor
    assert sequences(batch.records())[0] == 2
    assert batch.end.number == cursor.number + 1
    assert stream.read(SHARD, batch.end, 10) is None


@pytest.mark.parametrize("garbage", [b"", b"\1", b"\1" + b"\xff" * 40, b"c" * 40])
async def test_an_unreadable_record_has_a_place_and_no_number(
    ledger: RedisLedger, client: Any, stream: RedisStream, garbage: bytes
) -> None:
    """Nothing is taken for stored that may not be, and the shard goes on."""
    await charge(ledger, 1)
    client.xadd(KEYS.stream, {"r": garbage})
    client.xadd(KEYS.stream, {"other": b"field"})
    batch = batch_after(stream, None)
    assert batch.lines is None
    good, *bad = batch.records()
    assert good.transaction is not None
    assert [record.transaction for record in bad] == [None] * len(bad)
    assert len({record.stream_id.partition("/")[0] for record in bad}) == 2
    assert batch.end.ordinal == 1
    await charge(ledger, 1)
    after = batch_after(stream, batch.end)
    assert (after.first_ordinal, after.end.ordinal) == (2, 2)
    stream.note_stored(SHARD, after.end)
    assert stream.pending_count() == 0


async def test_balances_are_read_and_forgotten(ledger: RedisLedger, stream: RedisStream) -> None:
    """Of the users that the ledger knows."""
    users = [await install(ledger, number) for number in range(3)]
    stream.forget(users[:1])
    found = stream.read_many(users)
    assert {user_id: user.credits for user_id, user in found.items()} == {users[1]: 1, users[2]: 2}
    assert stream.read_many([]) == {}
    assert await ledger.read(users[0]) is None


async def test_a_ledger_that_was_wiped_is_of_no_epoch(
    ledger: RedisLedger, client: Any, stream: RedisStream
) -> None:
    """Nothing is pending of it, and it has no marks."""
    await charge(ledger, 1)
    cursor = batch_after(stream, None).end
    assert (stream.epochs(), stream.identity_fields()["epoch"]) == ([1], "1")
    client.flushall()
    assert (stream.epochs(), stream.identity_fields()) == ([None], {})
    assert (stream.shards_pending(), stream.pending_count()) == ([], 0)
    assert stream.read(SHARD, cursor, 10) is None
    assert stream.note_stored(SHARD, cursor) == 0
