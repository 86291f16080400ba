"""The runner of migrations: brings a database to the schema of this version, and proves it.

Each migration is applied in a transaction of its own, under one lock for all runs, and recorded
with its checksum. The settings of a new ledger are given once and never change.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final, LiteralString

import psycopg
from psycopg.rows import class_row

from faregate.adapters.postgres.connection import Bounds, complete
from faregate.adapters.postgres.migration_files import (
    Migration,
    bootstrap_sql,
    export_migrations,
    migrations,
)
from faregate.domain.errors import ArchiveUnavailableError, ConfigurationError, MigrationError

#: The first bound is for the runner's own statements and its wait for another run. The files set
#: bounds of their own, since they must have some wherever they are applied.
BOUNDS: Final = Bounds(statement_ms_max=60_000, lock_ms_max=60_000)
#: Any number will do, as long as all runs use the same one.
_RUN_LOCK_KEY: Final = 7_163_910_450_128

_PREPARE_SQL: Final = """
create schema if not exists faregate;
revoke all on schema faregate from public;
create table if not exists faregate.migrations (
    name text primary key,
    checksum text not null,
    applied_at timestamptz not null default now()
);
"""
_BOOTSTRAPPED_SQL: Final = """
select
    to_regclass('auth.users') is not null
    and to_regprocedure('auth.uid()') is not null
    and to_regclass('public.profiles') is not null
    and to_regrole('anon') is not null
    and to_regrole('authenticated') is not null
    and to_regrole('service_role') is not null
    and to_regrole('supabase_auth_admin') is not null
"""


class MigrationState(StrEnum):
    """How a migration stands in one database."""

    APPLIED = "applied"
    PENDING = "pending"
    #: It was applied, and its file is not the same any more.
    EDITED = "edited"
    #: It was applied by a newer version, which this one does not know.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationStatus:
    """One migration as it stands in one database."""

    name: str
    state: MigrationState
    applied_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """What the database remembers of an applied migration."""

    name: str
    checksum: str
    applied_at: datetime


def _ignore(_name: str) -> None:
    """Report no progress."""


class Migrator:
    """Applies migrations to one database, over a connection of its own for each call.

    Connect directly or through a pooler that keeps sessions: the lock of a run belongs to one.
    """

    def __init__(self, conninfo: str) -> None:
        """Remember where to connect to, as a role that owns, or will own, the schema."""
        self._conninfo = complete(conninfo, "faregate migrate")

    def status(self) -> list[MigrationStatus]:
        """Return how every migration stands, those that only the database knows included.

        Raises:
            ArchiveUnavailableError: Postgres cannot be reached or went away.
            MigrationError: The records of the database cannot be read.
        """
        with self._connection() as connection:
            return _status(connection)

    def apply(
        self,
        *,
        shard_count: int = 16,
        starting_credits: int = 3,
        on_progress: Callable[[str], None] = _ignore,
    ) -> list[str]:
        """Apply what is pending, each migration in one transaction, and return the names.

        Args:
            shard_count: What the ledger is created with; it never changes.
            starting_credits: What the ledger is created with; it never changes.
            on_progress: Called with the name of each migration before it is applied.

        Raises:
            ArchiveUnavailableError: Postgres cannot be reached or went away.
            MigrationError: A migration failed, was edited, or belongs to a newer version. Those
                before it stay applied.
            ConfigurationError: The ledger was created with other numbers.
        """
        with self._run(shard_count, starting_credits) as connection:
            return _apply(connection, on_progress)

    def rehearse(
        self,
        *,
        shard_count: int = 16,
        starting_credits: int = 3,
        on_progress: Callable[[str], None] = _ignore,
    ) -> list[str]:
        """Do what `apply` would, in one transaction that is rolled back, and return the names.

        So it shows that the migrations succeed on this very database, and until it is done it
        holds the locks that they need. Arguments and errors are those of `apply`.
        """
        with (
            self._run(shard_count, starting_credits) as connection,
            # Within it the transactions of the migrations are savepoints.
            connection.transaction(force_rollback=True),
        ):
            return _apply(connection, on_progress)

    @staticmethod
    def export(directory: Path) -> list[Path]:
        """Write the files that `supabase db push` takes; see `export_migrations`."""
        return export_migrations(directory)

    @contextmanager
    def _run(self, shard_count: int, starting_credits: int) -> Iterator[psycopg.Connection]:
        """Hold the lock of a run, and make sure of the ledger's numbers before and after it."""
        with self._connection() as connection:
            connection.execute("select pg_advisory_lock(%s)", [_RUN_LOCK_KEY])
            # The migration that creates the ledger reads these.
            connection.execute(
                "select set_config('faregate.shard_count', %s, false),"
                " set_config('faregate.starting_credits', %s, false)",
                [str(shard_count), str(starting_credits)],
            )
            _check_ledger(connection, shard_count, starting_credits)
            yield connection
            _check_ledger(connection, shard_count, starting_credits)

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection]:
        """Connect, and turn what the driver raises into errors of the domain."""
        try:
            connection = psycopg.connect(self._conninfo, autocommit=True)
        except psycopg.Error as error:
            raise ArchiveUnavailableError(f"cannot connect to migrate: {error}") from error
        with connection:
            try:
                yield connection
            except psycopg.Error as error:
                if connection.closed:
                    raise ArchiveUnavailableError(f"Postgres went away: {error}") from error
                raise MigrationError(_explain(error)) from error


def _status(connection: psycopg.Connection) -> list[MigrationStatus]:
    """Compare the files of this version with the records of the database."""
    records = {record.name: record for record in _records(connection)}
    statuses = [
        _compare(migration, records.pop(migration.name, None)) for migration in migrations()
    ]
    statuses += [
        MigrationStatus(
            name=record.name, state=MigrationState.UNKNOWN, applied_at=record.applied_at
        )
        for record in records.values()
    ]
    return sorted(statuses, key=lambda status: status.name)


def _compare(migration: Migration, record: _Record | None) -> MigrationStatus:
    if record is None:
        return MigrationStatus(name=migration.name, state=MigrationState.PENDING, applied_at=None)
    same = record.checksum == migration.checksum
    state = MigrationState.APPLIED if same else MigrationState.EDITED
    return MigrationStatus(name=migration.name, state=state, applied_at=record.applied_at)


def _records(connection: psycopg.Connection) -> list[_Record]:
    if not _holds(connection, "select to_regclass('faregate.migrations') is not null"):
        return []
    with connection.cursor(row_factory=class_row(_Record)) as cursor:
        cursor.execute("select name, checksum, applied_at from faregate.migrations")
        return cursor.fetchall()


def _apply(connection: psycopg.Connection, on_progress: Callable[[str], None]) -> list[str]:
    """Apply what is pending, in order, on a connection that holds the lock of a run."""
    pending = _pending(connection)
    if not _holds(connection, _BOOTSTRAPPED_SQL):
        with _transaction(connection, "bootstrap.sql"):
            _execute(connection, bootstrap_sql())
    if pending:
        with _transaction(connection, "faregate.migrations"):
            connection.execute(_PREPARE_SQL)
    for migration in pending:
        on_progress(migration.name)
        with _transaction(connection, migration.name):
            _execute(connection, migration.sql)
            connection.execute(
                "insert into faregate.migrations (name, checksum) values (%s, %s)",
                [migration.name, migration.checksum],
            )
    return [migration.name for migration in pending]


def _pending(connection: psycopg.Connection) -> list[Migration]:
    """Return what is to be applied, unless the records forbid to apply anything."""
    names = set()
    for status in _status(connection):
        if status.state is MigrationState.EDITED:
            raise MigrationError(
                f"{status.name} was edited after it had been applied at {status.applied_at};"
                " restore it, and write a new migration instead"
            )
        if status.state is MigrationState.UNKNOWN:
            raise MigrationError(f"{status.name} is of a newer version of Faregate: install that")
        if status.state is MigrationState.PENDING:
            names.add(status.name)
    return [migration for migration in migrations() if migration.name in names]


@contextmanager
def _transaction(connection: psycopg.Connection, name: str) -> Iterator[None]:
    """Open a transaction for one file, whose name is part of the error."""
    try:
        with connection.transaction():
            yield
    except psycopg.Error as error:
        if connection.closed:
            raise
        raise MigrationError(f"{name}: {_explain(error)}") from error


def _execute(connection: psycopg.Connection, sql: str) -> None:
    """Run all statements of a file of this package. Bytes, since no driver checks them."""
    connection.execute(sql.encode())


def _check_ledger(connection: psycopg.Connection, shard_count: int, starting_credits: int) -> None:
    """Raise unless the ledger is absent or was created with these numbers."""
    if not _holds(connection, "select to_regclass('faregate.ledger') is not null"):
        return
    row = connection.execute("select shard_count, starting_credits from faregate.ledger").fetchone()
    if row is not None and row != (shard_count, starting_credits):
        raise ConfigurationError(
            f"the ledger was created with {row[0]} shards and {row[1]} starting credits,"
            f" not with {shard_count} and {starting_credits}"
        )


def _holds(connection: psycopg.Connection, question: LiteralString) -> bool:
    row = connection.execute(question).fetchone()
    return row is not None and bool(row[0])


def _explain(error: psycopg.Error) -> str:
    """Return what Postgres said, its hint included."""
    message = error.diag.message_primary or str(error)
    hint = error.diag.message_hint
    return f"{message} ({hint})" if hint else message
