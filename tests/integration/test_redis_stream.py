"""The stream on a real Redis: what is read, acknowledged, told and trimmed."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from redis import Redis

from faregate.adapters.redis import keys
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.stream import RedisStream
from faregate.ports import StreamEntry
from redis_ledger import KEYS, SHARD, entries, install, spend, state

pytestmark = pytest.mark.redis


@pytest.fixture
def stream(ledger_redis: str) -> Iterator[RedisStream]:
    with closing(RedisStream.from_url(ledger_redis, 1)) as made:
        yield made


async def charge(ledger: RedisLedger, count: int, calls: int = 1) -> None:
    """Make records of one user: so many in each of so many calls."""
    user_id = await install(ledger, credits_=10_000)
    for _ in range(calls):
        await asyncio.gather(*(spend(ledger, user_id) for _ in range(count)))


def addresses(records: Any) -> list[str]:
    return [record.stream_id for record in records]


def sequences(records: Any) -> list[int]:
    return [record.transaction.sequence for record in records if record.transaction]


async def test_each_record_of_an_entry_has_an_address(
    ledger: RedisLedger, client: Redis, stream: RedisStream
) -> None:
    """It is that which its decision was told."""
    user_id = await install(ledger)
    decisions = await asyncio.gather(*(spend(ledger, user_id) for _ in range(3)))
    assert len(entries(client)) == 1
    records = stream.read(SHARD, 10)
    assert addresses(records) == [decision.position for decision in decisions]
    assert sequences(records) == [2, 3, 4]
    made = [record.transaction for record in records if record.transaction]
    assert [one.id for one in made] == [decision.transaction_id for decision in decisions]
    assert {(one.description, one.epoch, one.metadata) for one in made} == {("request", 1, None)}


async def test_all_fields_of_a_record_are_read(ledger: RedisLedger, stream: RedisStream) -> None:
    """Those that few records have, too."""
    user_id = await install(ledger)
    await spend(ledger, user_id, description="Grüße", metadata={"a": [1, None]})
    (record,) = stream.read(SHARD, 10)
    transaction = record.transaction
    assert transaction is not None
    assert (transaction.description, transaction.metadata) == ("Grüße", {"a": [1, None]})
    assert (transaction.amount, transaction.balance_after) == (-1, 9)
    assert transaction.timestamp.timestamp() * 1000 == pytest.approx(ledger.now_ms(), abs=60_000)


@pytest.mark.parametrize("size", [1, 16, 100])
async def test_about_as_many_records_are_read_as_are_asked_for(
    ledger: RedisLedger, stream: RedisStream, size: int
) -> None:
    """However many one entry holds; whole entries, none twice, none left out."""
    await charge(ledger, size, calls=400 // size)
    found: list[StreamEntry] = []
    while records := stream.read(SHARD, 50):
        assert 50 <= len(records) < 50 + size or len(found) + len(records) == 400 // size * size
        found += records
        stream.acknowledge(SHARD, addresses(records))
    assert sequences(found) == list(range(2, 2 + 400 // size * size))
    assert stream.pending_count() == 0


async def test_an_entry_is_acknowledged_once_all_its_records_are(
    ledger: RedisLedger, client: Redis, stream: RedisStream
) -> None:
    """Until then it is read again, as a whole."""
    await charge(ledger, 5)
    records = stream.read(SHARD, 10)
    assert len(entries(client)) == 1
    stream.acknowledge(SHARD, addresses(records[:2]))
    assert stream.pending_count() == 5
    assert addresses(stream.read(SHARD, 10)) == addresses(records)
    stream.acknowledge(SHARD, addresses(records[:4]))
    stream.acknowledge(SHARD, addresses(records[4:]))
    assert (stream.pending_count(), stream.shards_pending()) == (0, [])
    assert stream.read(SHARD, 10) == []


async def test_another_reader_may_acknowledge(
    ledger: RedisLedger, ledger_redis: str, stream: RedisStream
) -> None:
    """It never read the entry, and looks how many records it holds."""
    await charge(ledger, 3)
    records = stream.read(SHARD, 10)
    with closing(RedisStream.from_url(ledger_redis, 1)) as other:
        other.acknowledge(SHARD, addresses(records[:2]))
        assert stream.pending_count() == 3
        other.acknowledge(SHARD, addresses(records[2:]))
        assert stream.pending_count() == 0


async def test_what_was_delivered_and_not_acknowledged_comes_again(
    ledger: RedisLedger, ledger_redis: str, stream: RedisStream
) -> None:
    """A drain that died after reading loses nothing."""
    await charge(ledger, 1, calls=3)
    taken = stream.read(SHARD, 2)
    with closing(RedisStream.from_url(ledger_redis, 1)) as second:
        again = second.read(SHARD, 10)
        assert addresses(again) == addresses(taken)
        assert second.shards_pending() == [SHARD]
        assert len(list(second.unacknowledged(SHARD))) == second.pending_count() == 3
        second.acknowledge(SHARD, addresses(again))
        assert second.pending_count() == 1
        assert len(second.read(SHARD, 10)) == 1


async def test_only_acknowledged_and_old_records_are_trimmed(
    ledger: RedisLedger, client: Any, ledger_redis: str
) -> None:
    """Unread, pending and recent records stay, whatever the trim is told."""
    await charge(ledger, 3, calls=300)
    keep = RedisStream(client, 1, retention_ms=3_600_000)
    all_at_once = RedisStream(client, 1, retention_ms=0)
    assert all_at_once.trim(SHARD) == 0, "nothing has been read"
    delivered = all_at_once.read(SHARD, 600)
    assert all_at_once.trim(SHARD) == 0, "nothing has been acknowledged"
    all_at_once.acknowledge(SHARD, addresses(delivered[150:]))
    assert all_at_once.trim(SHARD) == 0, "the oldest is pending"
    assert keep.pending_count() == 900, "what lies after it may be a row, and counts all the same"
    all_at_once.acknowledge(SHARD, addresses(delivered))
    assert keep.pending_count() == 300
    assert keep.trim(SHARD) == 0, "all are recent"
    # Entries of one millisecond stay together.
    times = [int(position.partition("-")[0]) for position, _ in entries(client)]
    older = sum(time_ms < times[200] for time_ms in times)
    assert all_at_once.trim(SHARD) == older > 150
    assert client.xlen(KEYS.stream) == 300 - older
    assert state(client).oldest_ms > 0
    assert sequences(keep.read(SHARD, 500)) == list(range(602, 902))


async def test_pending_is_told_right_once_there_is_nothing_to_do(
    ledger: RedisLedger, client: Any, stream: RedisStream
) -> None:
    """A drain that dies between its acknowledgement and its note makes a shard look pending."""
    await charge(ledger, 3)
    records = stream.read(SHARD, 10)
    client.xack(KEYS.stream, keys.GROUP, records[0].stream_id.partition("/")[0])
    assert (stream.pending_count(), stream.shards_pending()) == (3, [SHARD])
    assert list(stream.unacknowledged(SHARD)) == []
    assert stream.read(SHARD, 10) == []
    assert (stream.pending_count(), stream.shards_pending()) == (0, [])
    assert state(client).stored == 3


async def test_a_record_that_is_gone_or_cannot_be_read_is_told(
    ledger: RedisLedger, client: Any, stream: RedisStream
) -> None:
    """Neither stops the drain: each comes as a record with its problem."""
    await charge(ledger, 1)
    client.xadd(KEYS.stream, {"r": b"\x63garbage"})
    client.xadd(KEYS.stream, {"other": b"field"})
    records = stream.read(SHARD, 10)
    assert [record.transaction is None for record in records] == [False, True, True]
    assert "version" in records[1].problem
    client.xdel(KEYS.stream, records[0].stream_id.partition("/")[0])
    again = stream.read(SHARD, 10)
    assert addresses(again) == addresses(records)
    assert "missing" in again[0].problem
    stream.acknowledge(SHARD, addresses(again))
    assert stream.pending_count() == 0


@pytest.mark.parametrize("garbage", [b"", b"\1", b"\1" + b"\xff" * 40, b"c" * 40])
async def test_what_lies_before_a_record_that_cannot_be_read_is_acknowledged(
    ledger: RedisLedger, client: Any, stream: RedisStream, garbage: bytes
) -> None:
    """Nothing is taken for stored that may not be, and the shard goes on."""
    await charge(ledger, 1)
    client.xadd(KEYS.stream, {"r": garbage})
    stream.acknowledge(SHARD, addresses(stream.read(SHARD, 1)))
    assert stream.trim(SHARD) == 0
    assert state(client).stored <= 1
    await charge(ledger, 1)
    stream.acknowledge(SHARD, addresses(stream.read(SHARD, 10)))
    assert (stream.pending_count(), state(client).stored) == (0, 2)


async def test_the_group_is_made_anew_after_it_was_lost(
    ledger: RedisLedger, client: Any, stream: RedisStream
) -> None:
    """It starts from the first record: reading twice is harmless, skipping is not."""
    await charge(ledger, 1)
    assert len(stream.read(SHARD, 10)) == 1
    client.xgroup_destroy(KEYS.stream, keys.GROUP)
    assert len(list(stream.unacknowledged(SHARD))) == 1
    assert len(stream.read(SHARD, 10)) == 1


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
    assert (stream.epochs(), stream.marks()["epoch"]) == ([1], "1")
    client.flushall()
    assert (stream.epochs(), stream.marks()) == ([None], {})
    assert (stream.shards_pending(), stream.pending_count()) == ([], 0)
    assert list(stream.unacknowledged(SHARD)) == []
