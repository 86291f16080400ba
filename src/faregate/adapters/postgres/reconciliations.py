"""Results of reconciliations, saved for metrics and for the next reconciliation."""

from collections import Counter
from datetime import datetime
from typing import Final

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from faregate.adapters.postgres.access import AUDITOR, check
from faregate.adapters.postgres.connection import Bounds, Connector, migrated, unavailable
from faregate.adapters.postgres.queries import statement
from faregate.domain.errors import HiddenRowsError
from faregate.domain.finding import Reconciliation
from faregate.domain.schedule import LastRun

#: How many findings of one reconciliation are saved.
FINDINGS_MAX: Final = 100

_BOUNDS: Final = Bounds(statement_ms_max=10_000, lock_ms_max=5_000)


class PostgresReconciliations:
    """The table of them. For one thread; connects on first use.

    Every method raises `ArchiveUnavailableError` where Postgres does not answer in time.
    """

    def __init__(self, conninfo: str) -> None:
        self._connector = Connector(conninfo, "faregate reconcile", _BOUNDS)

    def next_since(self) -> datetime | None:
        """Return the time from which the next one compares rows; None to compare all users.

        Raises:
            ConfigurationError: The database is not migrated.
            HiddenRowsError: The role lacks a right.
        """
        with (
            unavailable("read the last reconciliation"),
            migrated(),
            self._connector.transaction() as connection,
        ):
            check(connection, AUDITOR, lacking=HiddenRowsError)
            row = connection.execute(statement("read_next_since")).fetchone()
        return row[0] if row else None

    def last(self) -> LastRun | None:
        """Return the last one, or None; raises as `next_since` does."""
        with (
            unavailable("read the last reconciliation"),
            migrated(),
            self._connector.transaction() as connection,
        ):
            cursor = connection.cursor(row_factory=class_row(LastRun))
            return cursor.execute(statement("read_last_run")).fetchone()

    def save(self, result: Reconciliation) -> None:
        """Save a result, with at most `FINDINGS_MAX` of its findings."""
        parameters = {
            "began_at": result.began_at,
            "ended_at": result.ended_at,
            "since": result.since,
            "next_since": result.next_since,
            "user_count": result.users_count,
            "drift_user_count": result.drift_users_count,
            "pending_count": result.pending_count,
            "dead_letter_count": result.dead_letter_count,
            "finding_counts": Jsonb(Counter(finding.kind for finding in result.findings)),
            "findings": Jsonb([finding.as_dict() for finding in result.findings[:FINDINGS_MAX]]),
        }
        with unavailable("keep a reconciliation"), self._connector.transaction() as connection:
            connection.execute(statement("save_reconciliation"), parameters)

    def close(self) -> None:
        """Close the connection; the next query opens another."""
        self._connector.close()
