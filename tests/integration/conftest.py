"""A ledger on the session's Redis."""

from collections.abc import AsyncIterator, Iterator

import pytest
from redis import Redis

from faregate.adapters.redis.ledger import RedisLedger
from redis_ledger import IDENTITY, make_ledger


@pytest.fixture
async def ledger(ledger_redis: str) -> AsyncIterator[RedisLedger]:
    made = make_ledger(ledger_redis)
    await made.attach(IDENTITY)
    yield made
    await made.aclose()


@pytest.fixture
def client(ledger_redis: str) -> Iterator[Redis]:
    with Redis.from_url(ledger_redis) as made:
        yield made
