"""A ledger on the session's Redis, and the tables of a fresh database."""

from collections.abc import AsyncIterator, Iterator

import pytest
from redis import Redis

from clocks import patience
from durable import Database, archive, database
from faregate.adapters.postgres.archive import PostgresArchive
from faregate.adapters.redis.ledger import RedisLedger
from redis_ledger import IDENTITY, make_ledger


@pytest.fixture
async def ledger(ledger_redis: str) -> AsyncIterator[RedisLedger]:
    with patience():
        made = make_ledger(ledger_redis)
        await made.attach(IDENTITY)
        yield made
        await made.aclose()


@pytest.fixture
def client(ledger_redis: str) -> Iterator[Redis]:
    with Redis.from_url(ledger_redis) as made:
        yield made


@pytest.fixture
def tables(database_url: str) -> Iterator[Database]:
    """The database of this test."""
    with database(database_url) as opened:
        yield opened


@pytest.fixture
def store(database_url: str) -> Iterator[PostgresArchive]:
    """What makes rows in it."""
    with archive(database_url) as opened:
        yield opened
