"""Transactions of the migration runner, with their names and errors."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, LiteralString

import psycopg

from faregate.adapters.postgres.connection import Bounds
from faregate.adapters.postgres.migration_files import migrations
from faregate.adapters.postgres.queries import statement
from faregate.domain.errors import ArchiveUnavailableError, MigrationError

#: The timeout of the runner's own statements and of its wait for another run. The files set
#: timeouts of their own, since other tools apply them, too.
BOUNDS: Final = Bounds(statement_ms_max=60_000, lock_ms_max=60_000)

#: An arbitrary number that all runs share.
_RUN_LOCK_KEY: Final = 7_163_910_450_128
_logger = logging.getLogger(__name__)


def _warn(notice: psycopg.errors.Diagnostic) -> None:
    """Log a warning of a migration, which has a hint; notices of Postgres itself have none."""
    if notice.severity_nonlocalized == "WARNING" and notice.message_hint:
        _logger.warning("migration notice: %s; %s", notice.message_primary, notice.message_hint)


@contextmanager
def connected(conninfo: str) -> Iterator[psycopg.Connection]:
    """Connect, and turn errors of the driver into errors of the domain."""
    try:
        # Statements are not prepared by name, which a pooler between us would not survive.
        connection = psycopg.connect(conninfo, autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        raise ArchiveUnavailableError(
            f"cannot connect to Postgres for migrations: {error}"
        ) from error
    connection.add_notice_handler(_warn)
    with connection:
        try:
            yield connection
        except psycopg.Error as error:
            if connection.closed:
                raise ArchiveUnavailableError(f"Postgres went away: {error}") from error
            raise MigrationError(explain(error)) from error


@contextmanager
def bounded(connection: psycopg.Connection) -> Iterator[None]:
    """Open a transaction whose waits are bounded."""
    with connection.transaction():
        connection.execute(statement("bound_transaction"), BOUNDS.parameters)
        yield


@contextmanager
def transaction(connection: psycopg.Connection, name: str) -> Iterator[None]:
    """Open a transaction for one file, whose name is part of the error."""
    try:
        with connection.transaction():
            yield
    except psycopg.Error as error:
        if connection.closed:
            raise
        raise MigrationError(f"{name}: {explain(error)}") from error


def lock_run(connection: psycopg.Connection) -> None:
    """Wait for every other run, and keep them out until the end of the transaction."""
    connection.execute(sql("lock_run"), {"key": _RUN_LOCK_KEY})


def run_again(connection: psycopg.Connection) -> None:
    """Run all migrations, which are idempotent."""
    for migration in migrations():
        with transaction(connection, migration.name):
            execute(connection, migration.sql)


def execute(connection: psycopg.Connection, sql: str) -> None:
    """Run all statements of a file of this package.

    Bytes, since the driver accepts only literals as text.
    """
    connection.execute(sql.encode())


def sql(name: str) -> LiteralString:
    """Return a statement of the runner."""
    return statement(name, "migrate.sql")


def holds(connection: psycopg.Connection, name: str) -> bool:
    """Run a query that returns true or false."""
    row = connection.execute(sql(name), {}).fetchone()
    return row is not None and bool(row[0])


def explain(error: psycopg.Error) -> str:
    """Return the message of Postgres with its hint."""
    message = error.diag.message_primary or str(error)
    hint = error.diag.message_hint
    return f"{message} ({hint})" if hint else message
