"""A ledger on the session's Redis, and the tables of a fresh database."""

from collections.abc import AsyncIterator, Iterator

import pytest
from redis import Redis

from durable import Database, archive, database
from faregate.adapters.postgres.archive import PostgresArchive
from faregate.adapters.redis import ledger as redis_ledger_module
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.runner import Patience
from redis_ledger import IDENTITY, make_ledger
from waiting import WAIT_S_MAX


@pytest.fixture
async def ledger(ledger_redis: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RedisLedger]:
    # A machine that is busy with other things is no reason to give up.
    monkeypatch.setattr(redis_ledger_module, "_SLOW", Patience(WAIT_S_MAX))
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
