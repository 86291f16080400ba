"""Facts about a Postgres server, for operators. Any role may read them."""

import time
from typing import Final

from psycopg.rows import dict_row

from faregate.adapters.postgres.connection import Bounds, Connector, require_primary, unavailable
from faregate.adapters.postgres.migration_records import MigrationState
from faregate.adapters.postgres.migration_run import holds
from faregate.adapters.postgres.migrations import Migrator
from faregate.adapters.postgres.queries import statement
from faregate.domain.errors import MigrationError
from faregate.domain.server import DurableServer

_BOUNDS: Final = Bounds(statement_ms_max=10_000, lock_ms_max=5_000)


class PostgresServer:
    """Reads facts about one server. For one thread; connects on first use."""

    def __init__(self, conninfo: str) -> None:
        self._connector = Connector(conninfo, "faregate doctor", _BOUNDS)
        self._migrator = Migrator(conninfo)

    def inspect(self) -> DurableServer:
        """Return the facts.

        Raises:
            ArchiveUnavailableError: It does not answer, or is a standby.
            ConfigurationError: Its encoding is another one than UTF8.
        """
        with (
            unavailable("ask Postgres about itself"),
            self._connector.transaction(is_snapshot=True) as connection,
        ):
            require_primary(connection)
            cursor = connection.cursor(row_factory=dict_row)
            before_ms = time.time() * 1_000
            (said,) = cursor.execute(statement("read_server", "reports.sql")).fetchall()
            now_ms = (before_ms + time.time() * 1_000) / 2
            is_unsettled = holds(connection, "has_records") and holds(connection, "is_unsettled")
        return DurableServer(
            version=said["version"],
            migrations_pending=self._migrations_pending(),
            is_unsettled=is_unsettled,
            clock_ahead_ms=round(float(said["time_ms"]) - now_ms),
        )

    def _migrations_pending(self) -> list[str] | None:
        try:
            statuses = self._migrator.status()
        except MigrationError:
            # The role may not read the records of migrations.
            return None
        return [one.name for one in statuses if one.state is not MigrationState.APPLIED]

    def close(self) -> None:
        """Close the connection."""
        self._connector.close()
