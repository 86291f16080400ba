"""What is dumped as the role for backups is a ledger again, exact, with the same digest."""

import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from durable import as_role
from faregate.adapters.postgres.archive import PostgresArchive
from faregate.adapters.postgres.audit import PostgresAudit
from faregate.adapters.postgres.migrations import Migrator
from faregate.adapters.postgres.roles import roles_sql
from faregate.cli.servers import Binaries, EmbeddedServers
from faregate.domain.errors import ConfigurationError, HiddenRowsError
from worker_process import ROWS, System

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

SCHEMAS = ("-n", "auth", "-n", "faregate", "-n", "public")
DATA = ("--data-only", "--disable-triggers", "-T", "faregate.migrations")


@pytest.fixture(scope="module")
def own(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    """Servers with a ledger in use, and all roles."""
    with EmbeddedServers(durable=False, binaries=binaries) as servers:
        url = servers.postgres_url
        Migrator(url).apply()
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(roles_sql().encode())
            admin.execute("create role app_backup login in role faregate_backup")
            admin.execute("create role next_owner login createrole")
        system = System(
            redis_url=servers.redis_url, database_url=url, log=tmp_path_factory.mktemp("b") / "log"
        )
        system.charge()
        system.drain()
        yield servers


def database(own: EmbeddedServers, name: str, owner: str = "postgres") -> str:
    """Make an empty database; return its URL, as superuser."""
    with psycopg.connect(own.postgres_url, autocommit=True) as admin:
        admin.execute(f"create database {name} owner {owner}".encode())
    return own.postgres.database_url(name)


def dump(own: EmbeddedServers, binaries: Binaries, file: Path, *options: str) -> None:
    """Dump the ledger in the role for backups."""
    source = own.postgres.database_url("postgres", user="app_backup")
    command = [str(binaries.postgres / "pg_dump"), "--role=faregate_backup", *SCHEMAS, *options]
    subprocess.run([*command, "-f", str(file), source], check=True)


def restore(binaries: Binaries, url: str, *options: object) -> None:
    program = str(binaries.postgres / "psql")
    command = [program, "-q", "-1", "-v", "ON_ERROR_STOP=1", *map(str, options), url]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def state(url: str) -> tuple[int, str]:
    """How many rows an exact ledger has, and its digest."""
    with closing(PostgresAudit(url)) as audit:
        assert audit.verify() == []
        digest = audit.digest()
    with psycopg.connect(url) as connection:
        count = connection.execute("select count(*) from public.credit_transactions").fetchone()
    assert count is not None
    return count[0], digest


def test_everything_is_restored_into_an_empty_database(
    own: EmbeddedServers, binaries: Binaries, tmp_path: Path
) -> None:
    """By a superuser, as it was dumped; nothing is left to migrate."""
    dump(own, binaries, tmp_path / "all.sql")
    url = database(own, "everything")
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("drop schema public")
    restore(binaries, url, "-f", tmp_path / "all.sql")
    assert state(url) == state(own.postgres_url)
    assert state(url)[0] == ROWS
    assert Migrator(url).apply() == []


def test_data_alone_is_restored_into_a_migrated_database(
    own: EmbeddedServers, binaries: Binaries, tmp_path: Path
) -> None:
    """Neither guards nor starting credits get in the way, and afterwards both are there."""
    dump(own, binaries, tmp_path / "data.sql", *DATA)
    url = database(own, "data_alone")
    Migrator(url).apply()
    restore(binaries, url, "-c", "delete from faregate.ledger", "-f", tmp_path / "data.sql")
    assert state(url) == state(own.postgres_url)
    with (
        psycopg.connect(url) as connection,
        pytest.raises(psycopg.errors.RestrictViolation, match="immutable"),
    ):
        connection.execute("delete from public.credit_transactions")


def test_a_restore_without_owners_and_rights_is_put_right_by_a_migration(
    own: EmbeddedServers, binaries: Binaries, tmp_path: Path
) -> None:
    """Until then it is told what is missing; and afterwards the worker stores."""
    dump(own, binaries, tmp_path / "all.dump", "-F", "custom", "--no-sync")
    url = database(own, "another", "next_owner")
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("drop schema public")
    program = binaries.postgres / "pg_restore"
    options = ["--no-owner", "--no-acl", "--role=next_owner", "--exit-on-error"]
    subprocess.run([program, *options, "-d", url, tmp_path / "all.dump"], check=True)
    owner = make_conninfo(url, user="next_owner")
    worker = as_role(url, "faregate_worker")
    with closing(PostgresAudit(owner)) as audit, pytest.raises(HiddenRowsError, match="lacks"):
        audit.verify()
    with closing(PostgresArchive(owner)) as rows, pytest.raises(ConfigurationError, match="lacks"):
        rows.check_writes()
    assert Migrator(owner).apply() == []
    assert state(owner) == state(own.postgres_url)
    with closing(PostgresArchive(worker)) as rows:
        rows.check_writes()
