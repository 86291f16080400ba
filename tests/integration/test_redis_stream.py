"""The stream on a real Redis: what is read, acknowledged, told and trimmed."""

from redis import Redis

from faregate.adapters.redis import keys
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.stream import RedisStream
from redis_ledger import SHARD, charge_of, install


async def test_only_acknowledged_and_old_records_are_trimmed(
    ledger: RedisLedger, client: Redis
) -> None:
    """Unread, pending and recent records stay, whatever the trim is told."""
    user_id = await install(ledger, credits_=2_000)
    for _ in range(900):
        await ledger.charge(charge_of(ledger, user_id))
    keep = RedisStream(client_of(client), 1, retention_ms=60_000)
    all_at_once = RedisStream(client_of(client), 1, retention_ms=0)
    assert all_at_once.trim(SHARD) == 0, "nothing has been read"
    delivered = all_at_once.read(SHARD, 800)
    assert all_at_once.trim(SHARD) == 0, "nothing has been acknowledged"
    all_at_once.acknowledge(SHARD, [entry.stream_id for entry in delivered[100:]])
    assert all_at_once.trim(SHARD) == 0, "the oldest is pending"
    assert keep.pending_count() == 200
    all_at_once.acknowledge(SHARD, [entry.stream_id for entry in delivered])
    assert keep.trim(SHARD) == 0, "all are recent"
    trimmed = all_at_once.trim(SHARD)
    assert trimmed == 800, "not one acknowledged record is left to be taken for a backlog"
    assert client.xlen(keys.stream(SHARD)) == 900 - trimmed
    assert keep.pending_count() == 100
    assert [e.transaction.sequence for e in keep.read(SHARD, 500) if e.transaction] == list(
        range(802, 902)
    )


def client_of(client: Redis) -> Redis:
    """Connect as the stream does."""
    return Redis.from_pool(client.connection_pool)


async def test_what_was_delivered_and_not_acknowledged_comes_again(
    ledger: RedisLedger, ledger_redis: str
) -> None:
    """A drain that died after reading loses nothing."""
    user_id = await install(ledger)
    for _ in range(3):
        await ledger.charge(charge_of(ledger, user_id))
    first, second = (RedisStream.from_url(ledger_redis, 1) for _ in range(2))
    taken = first.read(SHARD, 2)
    again = second.read(SHARD, 10)
    assert [entry.stream_id for entry in again] == [entry.stream_id for entry in taken]
    assert second.shards_pending() == [SHARD]
    assert len(list(second.unacknowledged(SHARD))) == second.pending_count() == 3
    second.acknowledge(SHARD, [entry.stream_id for entry in again])
    assert [entry.transaction.sequence for entry in second.read(SHARD, 10) if entry.transaction]
    assert second.pending_count() == 1
    first.close()
    second.close()


async def test_a_record_that_is_gone_or_cannot_be_read_is_told(
    ledger: RedisLedger, client: Redis, ledger_redis: str
) -> None:
    """Neither stops the drain: each comes as an entry with its problem."""
    user_id = await install(ledger)
    await ledger.charge(charge_of(ledger, user_id))
    client.xadd(keys.stream(SHARD), {"r": b"\x63garbage"})
    stream = RedisStream.from_url(ledger_redis, 1)
    entries = stream.read(SHARD, 10)
    assert [entry.transaction is None for entry in entries] == [False, True]
    assert "version" in entries[1].problem
    client.xdel(keys.stream(SHARD), entries[0].stream_id)
    again = stream.read(SHARD, 10)
    assert "missing" in again[0].problem
    stream.close()


async def test_the_group_is_made_anew_after_it_was_lost(
    ledger: RedisLedger, client: Redis, ledger_redis: str
) -> None:
    """It starts from the first record: reading twice is harmless, skipping is not."""
    user_id = await install(ledger)
    await ledger.charge(charge_of(ledger, user_id))
    stream = RedisStream.from_url(ledger_redis, 1)
    assert len(stream.read(SHARD, 10)) == 1
    client.xgroup_destroy(keys.stream(SHARD), keys.GROUP)
    assert len(stream.read(SHARD, 10)) == 1
    stream.close()
