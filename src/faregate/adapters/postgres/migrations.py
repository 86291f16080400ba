"""The runner of migrations: brings a database to the schema of this version, and proves it.

Each migration is applied in a transaction of its own, under one lock, and recorded with its
checksum. The settings of a new ledger are given once and never change.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import psycopg
from psycopg.rows import class_row

from faregate.adapters.postgres.connection import complete, require_utf8
from faregate.adapters.postgres.migration_files import (
    Migration,
    bootstrap_sql,
    export_migrations,
    migrations,
)
from faregate.adapters.postgres.migration_run import (
    bounded,
    connected,
    execute,
    holds,
    lock_run,
    run_again,
    sql,
    transaction,
)
from faregate.domain.errors import ConfigurationError, MigrationError


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

    Nothing outlives a transaction on the server, so a pooler may stand in between.
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
        with connected(self._conninfo) as connection, bounded(connection):
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
        with connected(self._conninfo) as connection:
            return _apply(connection, _Numbers(shard_count, starting_credits), on_progress)

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
            connected(self._conninfo) as connection,
            # Within it the transactions of the migrations are savepoints.
            connection.transaction(force_rollback=True),
        ):
            return _apply(connection, _Numbers(shard_count, starting_credits), on_progress)

    @staticmethod
    def export(directory: Path) -> list[Path]:
        """Write the files that `supabase db push` takes; see `export_migrations`."""
        return export_migrations(directory)


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
    if not holds(connection, "has_records"):
        return []
    with connection.cursor(row_factory=class_row(_Record)) as cursor:
        return cursor.execute(sql("read_records")).fetchall()


def _apply(
    connection: psycopg.Connection, numbers: "_Numbers", on_progress: Callable[[str], None]
) -> list[str]:
    """Apply what is pending, in order, each in a transaction; return the names."""
    applied: list[str] = []
    while True:
        with bounded(connection):
            # Held until the end of the transaction; then the next one looks anew.
            lock_run(connection)
            require_utf8(connection.info)
            numbers.say(connection)
            numbers.check(connection)
            migration = next(iter(_pending(connection)), None)
            _prepare(connection)
            if migration is None:
                _settle(connection)
                return applied
            on_progress(migration.name)
            with transaction(connection, migration.name):
                execute(connection, migration.sql)
                record = {"name": migration.name, "checksum": migration.checksum}
                connection.execute(sql("write_record"), record)
            numbers.check(connection)
        applied.append(migration.name)


def _prepare(connection: psycopg.Connection) -> None:
    """Make what migrations stand on: the little of Supabase, and the table of their records."""
    if not holds(connection, "is_bootstrapped"):
        with transaction(connection, "bootstrap.sql"):
            execute(connection, bootstrap_sql())
    if not holds(connection, "has_records"):
        with transaction(connection, "faregate.migrations"):
            connection.execute(sql("prepare_records"))


def _settle(connection: psycopg.Connection) -> None:
    """Put policies and rights right, as after REASSIGN OWNED or a restore without owners."""
    if holds(connection, "is_unsettled"):
        run_again(connection)


@dataclass(frozen=True, slots=True)
class _Numbers:
    """What a ledger is created with."""

    shard_count: int
    starting_credits: int

    def say(self, connection: psycopg.Connection) -> None:
        """Tell them to the migration that creates the ledger, which reads settings."""
        connection.execute(sql("tell_numbers"), asdict(self))

    def check(self, connection: psycopg.Connection) -> None:
        """Raise unless the ledger is absent or was created with them."""
        if not holds(connection, "has_ledger"):
            return
        row = connection.execute(sql("read_numbers")).fetchone()
        if row is not None and row != (self.shard_count, self.starting_credits):
            raise ConfigurationError(
                f"the ledger was created with {row[0]} shards and {row[1]} starting credits,"
                f" not with {self.shard_count} and {self.starting_credits}"
            )


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
