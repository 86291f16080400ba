"""Erases users for an operator, in the role of the owner."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow, dict_row

from faregate.adapters.postgres.connection import Bounds, Connector, migrated, owned, unavailable
from faregate.adapters.postgres.queries import statement
from faregate.domain.operator import Operator

_FILE = "erasures.sql"
_BOUNDS = Bounds(statement_ms_max=120_000, lock_ms_max=5_000)


class PostgresErasures:
    """Deletes users, and counts their remains. For one thread; connects on first use.

    Every method raises `ArchiveUnavailableError` where Postgres does not answer in time, and
    `ConfigurationError` where it has not been migrated or the role may not do this.
    """

    def __init__(self, conninfo: str) -> None:
        self._connector = Connector(conninfo, "faregate erase", _BOUNDS)

    def delete(self, user_id: UUID, who: Operator) -> bool:
        """Delete a user with all that refers to it, and return whether there was one."""
        noted = {"user_id": user_id, "actor": who.actor, "actor_reason": who.reason}
        return bool(self._rows(("delete_user", "note_eraser"), noted)[0])

    def is_erasing(self, user_id: UUID) -> bool | None:
        """Return whether Redis may hold keys of a deleted user; None if it was not deleted."""
        ((*found,),) = self._rows(("read_deletion",), {"user_id": user_id})
        return bool(found[0]["has_keys"]) if found else None

    def traces(self, user_id: UUID) -> Mapping[str, int]:
        """Return how many rows of a user there are, by table."""
        ((found,),) = self._rows(("count_traces",), {"user_id": user_id})
        return found

    def _rows(self, names: tuple[str, ...], asked: Mapping[str, object]) -> list[list[DictRow]]:
        """Run some statements in one transaction; return the rows of each."""
        answers: list[list[Any]] = []
        with (
            unavailable("erase a user"),
            migrated(),
            owned("delete users", ", or delete the user through Supabase Auth"),
            self._connector.transaction() as connection,
        ):
            cursor = connection.cursor(row_factory=dict_row)
            for name in names:
                cursor.execute(statement(name, _FILE), asked)
                answers.append(cursor.fetchall() if cursor.description else [])
        return answers

    def close(self) -> None:
        """Close the connection; the next query opens another."""
        self._connector.close()
