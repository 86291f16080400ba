"""Checks a database before a migration changes anything, and names every obstacle.

A database that holds a ledger passed these checks before. There only the server and the right to
read the catalogs are checked; the migrations verify the rest.
"""

from collections.abc import Callable
from typing import Final, LiteralString

import psycopg
from psycopg.rows import dict_row

from faregate.adapters.postgres.migration_run import execute, transaction
from faregate.adapters.postgres.queries import statements
from faregate.domain.errors import UnfitDatabaseError
from faregate.domain.obstacle import Obstacle, ObstacleKind

#: The oldest Postgres that is supported, as it numbers itself.
VERSION_MIN: Final = 150_000
#: As in the migrations: tables may be large, and a wait for a lock is short.
_BOUNDS: Final = "set local lock_timeout = '10s';\nset local statement_timeout = '30min';\n"
_FILES: Final = ("preflight.sql", "preflight_profiles.sql", "preflight_credits.sql")
_SERVER: Final = ("check_server", "check_closed_schemas")
#: Each statement, and the conditions that must all be true before it can run.
_SHAPES: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("check_rights", ()),
    ("check_names", ()),
    ("check_users", ()),
    ("check_profiles", ()),
    ("check_lost_profiles", ("can_compare_profiles",)),
    ("check_nobodys_profiles", ("can_compare_profiles", "has_optional_users")),
    ("check_required_columns", ("lacks_handler",)),
    (
        "check_required_columns",
        ("has_handler", "can_compare_profiles", "has_users_without_profile"),
    ),
    ("check_columns", ()),
    ("check_values", ("has_credits",)),
    ("check_differences", ("can_compare_profiles", "has_old_transactions")),
)


def obstacles(connection: psycopg.Connection) -> list[Obstacle]:
    """Return all obstacles to a migration. Changes nothing."""
    execute(connection, _BOUNDS)
    found = [one for name in _SERVER for one in _ask(connection, name)]
    if any(one.kind is ObstacleKind.MISSING_RIGHT for one in found) or _is(
        connection, "is_migrated"
    ):
        return found
    for name, questions in _SHAPES:
        if all(_is(connection, question) for question in questions):
            found += _ask(connection, name)
    return found


def refuse(found: list[Obstacle], *, adopt: bool = False) -> None:
    """Raise an error if an obstacle has no adoption.

    Raises:
        UnfitDatabaseError: An obstacle has none; the error lists all.
    """
    if any(one.adoption is None or not adopt for one in found):
        raise UnfitDatabaseError(found)


def adopt_shapes(
    connection: psycopg.Connection, found: list[Obstacle], on_progress: Callable[[str], None]
) -> None:
    """Make the database fit, report each change before it is made, and check again.

    Raises:
        MigrationError: Postgres refused a change.
        UnfitDatabaseError: It still does not fit.
    """
    for one in found:
        if one.adoption is not None:
            name = f"adoption of {one.kind}"
            on_progress(name)
            with transaction(connection, name):
                execute(connection, _BOUNDS + one.adoption)
    if found:
        refuse(obstacles(connection))


def _ask(connection: psycopg.Connection, name: str) -> list[Obstacle]:
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(_sql(name), {"version_min": VERSION_MIN}).fetchall()
    return [Obstacle(**{**row, "kind": ObstacleKind(row["kind"])}) for row in rows]


def _is(connection: psycopg.Connection, name: str) -> bool:
    ((answer,),) = connection.execute(_sql(name), {}).fetchall()
    return bool(answer)


def _sql(name: str) -> LiteralString:
    return next(found[name] for found in map(statements, _FILES) if name in found)
