"""The servers of the tests: one Redis and one Postgres per session, and private pairs.

By default they come from the wheels of `faregate[embedded]`. FAREGATE_TEST_SERVERS=debian takes
Debian's redis-server and its newest PostgreSQL instead, through the same code.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from redis import Redis

from faregate.cli.servers import Binaries, EmbeddedServers

DEBIAN_REDIS = Path("/usr/bin/redis-server")
DEBIAN_POSTGRES = Path("/usr/lib/postgresql")


def _debian_binaries() -> Binaries:
    versions = [path.parent for path in DEBIAN_POSTGRES.glob("*/bin/postgres")]
    missing = [] if DEBIAN_REDIS.exists() else ["redis-server"]
    missing += [] if versions else ["postgresql"]
    if missing:
        pytest.fail(
            f"FAREGATE_TEST_SERVERS=debian, but this machine lacks: {', '.join(missing)}; "
            f"apt-get install {' '.join(missing)}",
            pytrace=False,
        )
    newest = max(versions, key=lambda path: int(path.parent.name))
    return Binaries(redis=DEBIAN_REDIS, postgres=newest)


@pytest.fixture(scope="session")
def binaries() -> Binaries:
    """The programs that FAREGATE_TEST_SERVERS asks for; fails, never skips, without them."""
    chosen = os.environ.get("FAREGATE_TEST_SERVERS", "embedded")
    if chosen == "debian":
        return _debian_binaries()
    if chosen != "embedded":
        pytest.fail(f"FAREGATE_TEST_SERVERS={chosen}: neither embedded nor debian", pytrace=False)
    return Binaries.from_wheels()


@pytest.fixture(scope="session")
def servers(binaries: Binaries) -> Iterator[EmbeddedServers]:
    """The session's servers. Shared: a test that kills or pauses one takes `own_servers`."""
    with EmbeddedServers(durable=False, binaries=binaries) as running:
        yield running


@pytest.fixture
def own_servers(binaries: Binaries) -> Iterator[EmbeddedServers]:
    """A private pair of empty servers with full durability, to be killed and paused at will."""
    with EmbeddedServers(binaries=binaries) as running:
        yield running


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A short directory that other users may pass, which pytest's own temporary ones are not."""
    with tempfile.TemporaryDirectory(prefix="faregate-test-", dir="/tmp") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture(scope="session")
def redis_url(servers: EmbeddedServers) -> str:
    """The URL of the session's Redis, with whatever other tests left in it."""
    return servers.redis_url


@pytest.fixture(scope="session")
def postgres_admin_url(servers: EmbeddedServers) -> str:
    """The URL of database `postgres` of the session's Postgres, as superuser."""
    return servers.postgres_url


@pytest.fixture
def ledger_redis(redis_url: str) -> str:
    """The URL of the session's Redis, which is empty when the test starts."""
    with Redis.from_url(redis_url) as client:
        client.flushall()
    return redis_url


@pytest.fixture(scope="session")
def template_database(servers: EmbeddedServers) -> str:
    """The name of a migrated database that nobody connects to, to be cloned."""
    # Imported here so that tests which need no database do not depend on the migrations.
    from faregate.adapters.postgres.migrations import Migrator  # noqa: PLC0415

    name = "faregate_template"
    _administer(servers, "CREATE DATABASE {}", name)
    Migrator(servers.postgres.database_url(name)).apply()
    return name


@pytest.fixture
def database_url(servers: EmbeddedServers, template_database: str) -> Iterator[str]:
    """The URL, as superuser, of a fresh migrated database that is dropped afterwards."""
    name = f"test_{uuid4().hex}"
    _administer(servers, "CREATE DATABASE {} TEMPLATE {}", name, template_database)
    yield servers.postgres.database_url(name)
    _administer(servers, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture
def empty_database_url(servers: EmbeddedServers) -> Iterator[str]:
    """The URL, as superuser, of a fresh database without any migration, dropped afterwards."""
    name = f"test_{uuid4().hex}"
    _administer(servers, "CREATE DATABASE {} TEMPLATE template0", name)
    yield servers.postgres.database_url(name)
    _administer(servers, "DROP DATABASE {} WITH (FORCE)", name)


def _administer(servers: EmbeddedServers, statement: str, *names: str) -> None:
    with psycopg.connect(servers.postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
