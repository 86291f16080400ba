"""A ledger on the session's Redis, and the tables of a fresh database."""

from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import pytest
from redis import Redis

from charging import Charger
from clocks import patience
from cluster_rig import Cluster, running_cluster
from durable import Database, Sink, archive, as_role, database
from faregate import Settings
from faregate.adapters.postgres.audit import PostgresAudit
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.stream import RedisStream
from faregate.cli.servers import Binaries
from forked import Worker, worker
from operated import Ledger
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
def stream(ledger_redis: str) -> Iterator[RedisStream]:
    with closing(RedisStream.from_url(ledger_redis, 1)) as made:
        yield made


@pytest.fixture
async def charger(ledger: RedisLedger, tables: Database) -> Charger:
    """Ten users of both servers."""
    made = Charger(ledger, tables, 10)
    await made.install()
    return made


@pytest.fixture
def tables(database_url: str) -> Iterator[Database]:
    """The database of this test."""
    with database(database_url) as opened:
        yield opened


@pytest.fixture
def audit(database_url: str, tables: Database) -> Iterator[PostgresAudit]:
    """The audit of a ledger of one shard."""
    tables.run("update faregate.ledger set shard_count = 1, ledger_id = %s", IDENTITY.ledger_id)
    with closing(PostgresAudit(as_role(database_url, "faregate_worker"))) as opened:
        yield opened


@pytest.fixture
def store(database_url: str) -> Iterator[Sink]:
    """What makes rows in it."""
    with archive(database_url) as opened:
        yield opened


@pytest.fixture
def operated(
    ledger_redis: str, database_url: str, tables: Database, monkeypatch: pytest.MonkeyPatch
) -> Ledger:
    """A ledger that the settings of the environment name."""
    monkeypatch.setenv("FAREGATE_REDIS_URL", ledger_redis)
    monkeypatch.setenv("FAREGATE_POSTGRES_URL", database_url)
    return Ledger(Settings(redis_url=ledger_redis, postgres_url=database_url), tables)


@pytest.fixture
def sink(ledger_redis: str, database_url: str, tables: Database) -> Iterator[Worker]:
    """A worker of the ledger that the charger charges."""
    tables.run(
        "update faregate.ledger set ledger_id = %s, shard_count = %s, starting_credits = %s",
        IDENTITY.ledger_id,
        IDENTITY.shard_count,
        IDENTITY.starting_credits,
    )
    with worker(ledger_redis, database_url) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared_cluster(binaries: Binaries) -> Iterator[Cluster]:
    """Three primaries with a replica each."""
    with running_cluster(binaries.redis) as running:
        yield running


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Cluster:
    """The cluster, empty."""
    for node in shared_cluster.primaries():
        node.ask("FLUSHALL")
    return shared_cluster
