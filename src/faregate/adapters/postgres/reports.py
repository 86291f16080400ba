"""Rows and dead letters as operators list them, in the role of the auditor. Nothing here writes."""

from collections.abc import Generator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from faregate.adapters.postgres.audit import PostgresAudit
from faregate.adapters.postgres.history import history_row
from faregate.adapters.postgres.queries import statement
from faregate.domain.fork import ForkReport, RecentForks
from faregate.domain.history import HistoryPlace, HistoryRow

#: How many rows of a stream are fetched at once.
_CHUNK_ROWS = 2_000
#: How old a fork is that is told of, and the most of them.
RECENT_AGE = timedelta(days=1)
RECENT_MAX = 1_000


class PostgresReports:
    """Lists rows and dead letters for an audit; raises as `PostgresAudit` does."""

    def __init__(self, audit: PostgresAudit) -> None:
        #: The audit.
        self.audit = audit

    def rows(
        self, user_id: UUID | None, since: datetime | None = None, until: datetime | None = None
    ) -> Generator[dict[str, Any], None, None]:
        """Iterate over the rows of a user or of all users in a span of time.

        They belong to one snapshot, and come in parts from a server-side cursor.
        """
        asked = {"user_id": user_id, "since": since, "until": until}
        with (
            self.audit.snapshot() as connection,
            connection.cursor("rows", row_factory=dict_row) as cursor,
        ):
            cursor.itersize = _CHUNK_ROWS
            yield from map(_plain, cursor.execute(_report("read_rows"), asked))

    def newest(
        self, user_id: UUID, count_max: int, before: HistoryPlace | None
    ) -> Sequence[HistoryRow]:
        """Return a user's newest rows, or those that follow a place, the newest first."""
        asked: dict[str, object] = {"user_id": user_id, "count_max": count_max}
        name: LiteralString = "read_newest"
        if before is not None:
            name = "read_before"
            asked |= {"timestamp": before.timestamp, "id": before.id.value}
        with self.audit.snapshot() as connection:
            return list(map(history_row, _rows(connection, statement(name), asked)))

    def newest_of_all(self, count_max: int) -> Sequence[Mapping[str, Any]]:
        """Return the newest rows of all users, the newest first."""
        with self.audit.snapshot() as connection:
            found = _rows(connection, _report("read_newest_of_all"), {"count_max": count_max})
            return list(map(_plain, found))

    def dead_letters(self, user_id: UUID) -> Sequence[Mapping[str, Any]]:
        """Return the dead letters of a user, including discarded ones."""
        with self.audit.snapshot() as connection:
            found = _rows(connection, _report("read_dead_letters"), {"user_id": user_id})
            return list(map(_plain, found))

    def last_reconciliation(self) -> Mapping[str, Any]:
        """Return the time and the findings of the last reconciliation; empty if there is none."""
        with self.audit.snapshot() as connection:
            found = _rows(connection, _report("read_last_reconciliation"), {})
            return _plain(found[0]) if found else {}

    def forks(self, count_max: int, since: datetime | None = None) -> Sequence[ForkReport]:
        """Return forks, the newest first; since a time also older ones whose users still wait."""
        asked = {"count_max": count_max, "since": since}
        with self.audit.snapshot() as connection:
            rows = _rows(connection, statement("list_forks", "forks.sql"), asked)
        return [ForkReport(**_plain(row)) for row in rows]

    def recent_forks(self) -> RecentForks:
        """Add up the forks of the last day, and those whose users still wait."""
        return RecentForks.of(self.forks(RECENT_MAX, datetime.now(UTC) - RECENT_AGE))

    def close(self) -> None:
        """Close the connection."""
        self.audit.close()


def _report(name: str) -> LiteralString:
    return statement(name, "reports.sql")


def _rows(
    connection: psycopg.Connection, query: LiteralString, asked: Mapping[str, object]
) -> list[dict[str, Any]]:
    return connection.cursor(row_factory=dict_row).execute(query, asked).fetchall()


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with its times in UTC."""
    times = {name: time.astimezone(UTC) for name, time in row.items() if isinstance(time, datetime)}
    return row | times
