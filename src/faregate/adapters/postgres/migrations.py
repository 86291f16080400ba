"""The migration runner: brings a database to the schema of this version, and verifies it.

After a check of the database, all pending migrations are applied in one transaction, under one
lock: all or none. Each is recorded with its checksum. The settings of a new ledger never change.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg

from faregate.adapters.postgres.connection import complete
from faregate.adapters.postgres.migration_files import bootstrap_sql, export_migrations
from faregate.adapters.postgres.migration_records import MigrationStatus, pending, statuses
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
from faregate.adapters.postgres.preflight import adopt_shapes, obstacles, refuse
from faregate.domain.errors import ConfigurationError
from faregate.domain.obstacle import Obstacle


def _ignore(_name: str) -> None:
    """Report no progress."""


class Migrator:
    """Applies migrations to one database, over a connection of its own for each call.

    No server state outlives a transaction, so it works through a pooler.
    """

    def __init__(self, conninfo: str) -> None:
        """Remember where to connect to, as a role that owns, or will own, the schema."""
        self._conninfo = complete(conninfo, "faregate migrate")

    def status(self) -> list[MigrationStatus]:
        """Return the status of every migration, including those that only the database knows.

        Raises:
            ArchiveUnavailableError: Postgres cannot be reached or went away.
            MigrationError: The records of the database cannot be read.
        """
        with connected(self._conninfo) as connection, bounded(connection):
            return statuses(connection)

    def obstacles(self) -> list[Obstacle]:
        """Return all obstacles to migrating this database.

        Raises:
            ArchiveUnavailableError: Postgres cannot be reached or went away.
            MigrationError: The database cannot be inspected.
        """
        with connected(self._conninfo) as connection, bounded(connection):
            return obstacles(connection)

    def apply(
        self,
        *,
        shard_count: int = 16,
        starting_credits: int = 3,
        adopt: bool = False,
        on_progress: Callable[[str], None] = _ignore,
    ) -> list[str]:
        """Apply pending migrations, in one transaction, and return the names.

        Args:
            shard_count: The number of shards; fixed when the ledger is created.
            starting_credits: The credits of a new user; fixed when the ledger is created.
            adopt: Whether to run the adoptions of obstacles.
            on_progress: Called with the name of each adoption and migration before it is applied.

        Raises:
            ArchiveUnavailableError: Postgres cannot be reached or went away.
            UnfitDatabaseError: The database does not fit; the error lists all obstacles.
            MigrationError: A migration failed, was edited, or belongs to a newer version.
            ConfigurationError: The ledger was created with other numbers.

        If it raises an error, nothing was changed.
        """
        with connected(self._conninfo) as connection, bounded(connection):
            return _Run(_Numbers(shard_count, starting_credits), adopt, on_progress).on(connection)

    def dry_run(
        self,
        *,
        shard_count: int = 16,
        starting_credits: int = 3,
        adopt: bool = False,
        on_progress: Callable[[str], None] = _ignore,
    ) -> list[str]:
        """Do what `apply` would, roll it back, and return the names.

        This shows that the migrations succeed on this database. Meanwhile it holds the locks that
        they need. Arguments and errors are those of `apply`.
        """
        with (
            connected(self._conninfo) as connection,
            connection.transaction(force_rollback=True),
            bounded(connection),
        ):
            return _Run(_Numbers(shard_count, starting_credits), adopt, on_progress).on(connection)

    @staticmethod
    def export(directory: Path) -> list[Path]:
        """Write the files that `supabase db push` takes; see `export_migrations`."""
        return export_migrations(directory)


def _prepare(connection: psycopg.Connection) -> None:
    """Create the basics of Supabase and the table of migrations, which migrations need."""
    if not holds(connection, "is_bootstrapped"):
        with transaction(connection, "bootstrap.sql"):
            execute(connection, bootstrap_sql())
    if not holds(connection, "has_records"):
        with transaction(connection, "faregate.migrations"):
            connection.execute(sql("prepare_records"))


def _settle(connection: psycopg.Connection) -> None:
    """Restore policies and rights, as after REASSIGN OWNED or a restore without owners."""
    if holds(connection, "is_unsettled"):
        run_again(connection)


@dataclass(frozen=True, slots=True)
class _Numbers:
    """The settings with which a ledger is created."""

    shard_count: int
    starting_credits: int

    def say(self, connection: psycopg.Connection) -> None:
        """Pass them to the migration that creates the ledger, as settings of the transaction."""
        connection.execute(sql("log_ledger_numbers"), asdict(self))

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


@dataclass(frozen=True, slots=True)
class _Run:
    """One run, within a transaction."""

    numbers: _Numbers
    adopt: bool
    on_progress: Callable[[str], None]

    def on(self, connection: psycopg.Connection) -> list[str]:
        """Apply pending migrations, in order; return the names."""
        # Held until the end of the transaction; then the next run checks again.
        lock_run(connection)
        connection.execute(sql("check_at_once"))
        found = obstacles(connection)
        refuse(found, adopt=self.adopt)
        self.numbers.say(connection)
        self.numbers.check(connection)
        due = pending(connection)
        _prepare(connection)
        adopt_shapes(connection, found, self.on_progress)
        for migration in due:
            self.on_progress(migration.name)
            with transaction(connection, migration.name):
                execute(connection, migration.sql)
                record = {"name": migration.name, "checksum": migration.checksum}
                connection.execute(sql("write_record"), record)
        self.numbers.check(connection)
        if not due:
            _settle(connection)
        return [migration.name for migration in due]
