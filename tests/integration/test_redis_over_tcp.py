"""Redis at a host and port, as it is reached in production; the other tests use a socket file."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from clocks import patience
from faregate.adapters.redis.stream import RedisStream
from faregate.adapters.redis.sweeper import RedisSweeper
from faregate.cli.servers import Binaries
from faregate.domain.spend import HoldOptions
from faregate_worker.runtime import open_queue
from own_redis import own_redis
from redis_ledger import IDENTITY, SHARD, install, make_ledger, spend
from wire_client import free_port

pytestmark = pytest.mark.redis

HOLD = HoldOptions(ttl_ms=60_000)


@pytest.fixture
def url(binaries: Binaries) -> Iterator[str]:
    port = free_port()
    with own_redis(binaries.redis, "--port", str(port), "--bind", "127.0.0.1"):
        yield f"redis://127.0.0.1:{port}/0?health_check_interval=30&socket_timeout=9"


async def test_everything_that_talks_to_redis_does_so_over_tcp(url: str) -> None:
    """The ledger, the stream, the sweeper and the queue; options of the URL change no reply."""
    with patience():
        ledger = make_ledger(url)
        await ledger.attach(IDENTITY)
        user_id = await install(ledger)
        hold = await spend(ledger, user_id, 4, hold=HOLD)
        assert hold.credits == 6
        await ledger.aclose()
    with closing(RedisStream.from_url(url, 1)) as stream:
        batch = stream.read(SHARD, None, 100)
        assert batch is not None
        records = batch.records()
        assert [record.transaction.amount for record in records if record.transaction] == [-4]
        stream.note_stored(SHARD, batch.end)
        assert stream.pending_count() == 0
    with closing(RedisSweeper.from_url(url, 1)) as sweeper:
        assert sweeper.open_holds() == {hold.transaction_id}
        assert sweeper.shards_due() == []
    queue = open_queue(url, socket_timeout_s=9.0)
    assert queue.job_ids == []
    queue.connection.close()
