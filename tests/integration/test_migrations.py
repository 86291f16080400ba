"""The runner: what is pending, once, in order, exactly as shipped."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import psycopg
import pytest

from faregate.adapters.postgres.migration_files import Migration, migrations
from faregate.adapters.postgres.migration_records import MigrationState
from faregate.adapters.postgres.migrations import Migrator
from faregate.cli.servers import EmbeddedServers
from faregate.domain.errors import ArchiveUnavailableError, ConfigurationError, MigrationError

pytestmark = pytest.mark.postgres

NAMES = [migration.name for migration in migrations()]


@pytest.fixture
def connection(empty_database_url: str) -> Iterator[psycopg.Connection]:
    """A superuser's connection to an empty database."""
    with psycopg.connect(empty_database_url, autocommit=True) as opened:
        yield opened


def states(url: str) -> set[MigrationState]:
    """The states that occur."""
    return {status.state for status in Migrator(url).status()}


def relations(connection: psycopg.Connection) -> int:
    """How many tables, views and indexes there are beside those of Postgres itself."""
    row = connection.execute(
        "select count(*) from pg_class"
        " where relnamespace::regnamespace::text !~ '^(pg_|information_schema)'"
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_every_migration_explains_itself_and_proves_itself() -> None:
    """A sentence first, a verification that raises last; bounded waits between."""
    assert NAMES[0] == "20250211000000_add_credit_system.sql"
    for migration in migrations():
        assert re.match(r"-- [A-Z][^\n]+\.\n", migration.sql), migration.name
        verification = migration.sql.partition("-- Verification.\n")[2]
        assert verification.count("raise exception") >= 1, migration.name
        assert "set local lock_timeout" in migration.sql
        assert "set local statement_timeout" in migration.sql


def test_an_empty_database_is_migrated_once(empty_database_url: str) -> None:
    """All in order, each reported; a second run finds nothing to do."""
    migrator = Migrator(empty_database_url)
    assert states(empty_database_url) == {MigrationState.PENDING}
    reported: list[str] = []
    assert migrator.apply(on_progress=reported.append) == NAMES
    assert reported == NAMES
    assert [status.name for status in migrator.status()] == NAMES
    assert all(status.applied_at for status in migrator.status())
    assert states(empty_database_url) == {MigrationState.APPLIED}
    assert migrator.apply(on_progress=reported.append) == []
    assert reported == NAMES


def test_a_rehearsal_changes_nothing(
    empty_database_url: str, connection: psycopg.Connection
) -> None:
    """It runs every statement, and leaves the database as empty as it was."""
    assert Migrator(empty_database_url).dry_run() == NAMES
    assert relations(connection) == 0
    assert states(empty_database_url) == {MigrationState.PENDING}


def test_a_rehearsal_fails_where_the_migration_would(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is what it is for; the error names the file."""
    broken = Migration(name="20990101000000_broken.sql", sql="select 1 / 0;")
    target = "faregate.adapters.postgres.migration_records.migrations"
    monkeypatch.setattr(target, lambda: [*migrations(), broken])
    with pytest.raises(MigrationError, match=r"broken\.sql: division by zero"):
        Migrator(empty_database_url).dry_run()


def test_the_ledger_is_created_with_the_requested_values(
    empty_database_url: str, connection: psycopg.Connection
) -> None:
    """Shards and starting credits, epoch 1, not installed; other numbers are refused later."""
    migrator = Migrator(empty_database_url)
    migrator.apply(shard_count=4, starting_credits=10)
    ledger = connection.execute(
        "select shard_count, starting_credits, epoch, installed_at from faregate.ledger"
    ).fetchall()
    assert ledger == [(4, 10, 1, None)]
    for shard_count, starting_credits in ((16, 10), (4, 3)):
        with pytest.raises(ConfigurationError, match="created with 4 shards and 10 starting"):
            migrator.apply(shard_count=shard_count, starting_credits=starting_credits)
    assert migrator.apply(shard_count=4, starting_credits=10) == []


def test_an_edited_migration_is_refused(
    empty_database_url: str, connection: psycopg.Connection
) -> None:
    """What was applied is what it was; the status says so, and nothing is applied."""
    migrator = Migrator(empty_database_url)
    migrator.apply()
    connection.execute("update faregate.migrations set checksum = 'x' where name = %s", [NAMES[2]])
    connection.execute("delete from faregate.migrations where name = %s", [NAMES[3]])
    assert [status.state for status in migrator.status()][2:4] == [
        MigrationState.EDITED,
        MigrationState.PENDING,
    ]
    with pytest.raises(MigrationError, match=f"{NAMES[2]} was edited"):
        migrator.apply()
    assert migrator.status()[3].state is MigrationState.PENDING


def test_a_database_of_a_newer_version_is_refused(
    empty_database_url: str, connection: psycopg.Connection
) -> None:
    """An old version cannot know what the newer one needs."""
    migrator = Migrator(empty_database_url)
    migrator.apply()
    connection.execute("insert into faregate.migrations values ('29990101000000_x.sql', 'x')")
    assert migrator.status()[-1].state is MigrationState.UNKNOWN
    with pytest.raises(MigrationError, match="newer version"):
        migrator.apply()


def test_a_migration_that_fails_leaves_nothing(
    empty_database_url: str, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that is pending is one transaction; the next run begins at the beginning."""
    broken = Migration(name=NAMES[3], sql="create table public.half (); select 1 / 0;")
    shipped = migrations()
    target = "faregate.adapters.postgres.migration_records.migrations"
    monkeypatch.setattr(target, lambda: [*shipped[:3], broken, *shipped[4:]])
    with pytest.raises(MigrationError, match=f"{NAMES[3]}: division by zero"):
        Migrator(empty_database_url).apply()
    assert relations(connection) == 0
    monkeypatch.undo()
    assert Migrator(empty_database_url).apply() == NAMES


def test_two_runs_at_once_apply_each_migration_once(empty_database_url: str) -> None:
    """Each waits for the other, and finds what is left."""
    with ThreadPoolExecutor(2) as runs:
        applied = list(runs.map(lambda _: Migrator(empty_database_url).apply(), range(2)))
    assert sorted(chain(*applied)) == NAMES


def test_a_server_that_is_away_is_unavailable(own_servers: EmbeddedServers) -> None:
    """That is no failure of a migration."""
    url = own_servers.postgres_url
    own_servers.stop()
    with pytest.raises(ArchiveUnavailableError, match="cannot connect"):
        Migrator(url).status()


def test_a_connection_that_is_lost_is_unavailable(
    empty_database_url: str, connection: psycopg.Connection
) -> None:
    """Nor is this; all that was under way is rolled back."""

    def cut(name: str) -> None:
        if name == NAMES[2]:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'faregate migrate' and datname = current_database()"
            )

    with pytest.raises(ArchiveUnavailableError, match="went away"):
        Migrator(empty_database_url).apply(on_progress=cut)
    assert Migrator(empty_database_url).apply() == NAMES


def test_supabase_accepts_exported_files(tmp_path: Path) -> None:
    """The migrations, byte by byte, under names that `supabase db push` does not skip; twice."""
    migrator = Migrator("")
    first = migrator.export(tmp_path / "supabase" / "migrations")
    paths = migrator.export(tmp_path / "supabase" / "migrations")
    assert paths == first
    assert [path.name for path in paths] == NAMES
    assert all(re.fullmatch(r"([0-9]+)_(.*)\.sql", path.name) for path in paths)
    assert [path.read_text("utf-8") for path in paths] == [one.sql for one in migrations()]


def test_an_export_overwrites_nothing(tmp_path: Path) -> None:
    """Somebody else's file of the same name stays, and no other is written."""
    (tmp_path / NAMES[1]).write_text("mine", encoding="utf-8")
    with pytest.raises(MigrationError, match="other content"):
        Migrator("").export(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [NAMES[1]]
    with pytest.raises(MigrationError, match="cannot export"):
        Migrator("").export(tmp_path / NAMES[1] / "below")
