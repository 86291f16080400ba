"""How the runner of migrations talks to a database: transactions, their names, their errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, LiteralString

import psycopg

from faregate.adapters.postgres.connection import Bounds
from faregate.adapters.postgres.queries import statement
from faregate.domain.errors import MigrationError

#: The first bound is for the runner's own statements and its wait for another run. The files set
#: bounds of their own, since they must have some wherever they are applied.
BOUNDS: Final = Bounds(statement_ms_max=60_000, lock_ms_max=60_000)


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


def execute(connection: psycopg.Connection, sql: str) -> None:
    """Run all statements of a file of this package. Bytes, since no driver checks them."""
    connection.execute(sql.encode())


def sql(name: str) -> LiteralString:
    """Return a statement of the runner."""
    return statement(name, "migrate.sql")


def holds(connection: psycopg.Connection, name: str) -> bool:
    """Ask a question whose answer is yes or no."""
    row = connection.execute(sql(name), {}).fetchone()
    return row is not None and bool(row[0])


def explain(error: psycopg.Error) -> str:
    """Return what Postgres said, its hint included."""
    message = error.diag.message_primary or str(error)
    hint = error.diag.message_hint
    return f"{message} ({hint})" if hint else message
