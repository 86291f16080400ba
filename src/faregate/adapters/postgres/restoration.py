"""Restores a changed schema, in one transaction or not at all."""

from collections.abc import Sequence

import psycopg

from faregate.adapters.postgres.connection import complete
from faregate.adapters.postgres.migration_files import bootstrap_sql
from faregate.adapters.postgres.migration_records import MigrationState
from faregate.adapters.postgres.migration_run import (
    bounded,
    connected,
    execute,
    lock_run,
    run_again,
    transaction,
)
from faregate.adapters.postgres.migrations import Migrator
from faregate.adapters.postgres.schema import SchemaDifference, find_differences, read_facts
from faregate.domain.errors import MigrationError, SchemaDiffersError


class SchemaRestorer:
    """Restores the schema of one database to that of the migrations.

    Rows and balances do not change. Objects of the application stay, except those that affect
    Faregate's tables, such as unknown policies.
    """

    def __init__(self, conninfo: str) -> None:
        """Connects only when used, as the owner of the schema or as a superuser."""
        self._conninfo = complete(conninfo, "faregate repair")

    def differences(self) -> list[SchemaDifference]:
        """Return the differences between the schema and the migrations. Changes nothing.

        Raises:
            ArchiveUnavailableError: Postgres cannot be reached or went away.
            MigrationError: The database has not been migrated to this version.
        """
        self._require_applied()
        with connected(self._conninfo) as connection, bounded(connection):
            return find_differences(connection)

    def restore(self) -> Sequence[SchemaDifference]:
        """Remove all differences, and return them.

        The tables are locked while the migrations run again. Requests wait meanwhile; none is lost.

        Raises:
            ArchiveUnavailableError: Postgres cannot be reached or went away.
            MigrationError: The database has not been migrated to this version, or a statement
                failed. Nothing has been changed.
            SchemaDiffersError: A difference is left. Nothing has been changed.
        """
        self._require_applied()
        with connected(self._conninfo) as connection, bounded(connection):
            lock_run(connection)
            differences = _find(connection)
            if differences:
                _restore(connection, differences)
                left = _find(connection)
                if left:
                    details = "; ".join(f"{one.subject}: {one.detail}" for one in left)
                    raise SchemaDiffersError(f"cannot restore: {details}")
        return differences

    def _require_applied(self) -> None:
        """Check that the migrations of this version are applied, and no others."""
        for status in Migrator(self._conninfo).status():
            if status.state is not MigrationState.APPLIED:
                raise MigrationError(f"{status.name} is {status.state}: run `faregate migrate`")


def _find(connection: psycopg.Connection) -> list[SchemaDifference]:
    """Compare in a savepoint, so that the settings of the transaction stay."""
    with connection.transaction(force_rollback=True):
        return find_differences(connection)


def _restore(connection: psycopg.Connection, differences: Sequence[SchemaDifference]) -> None:
    for difference in differences:
        with transaction(connection, difference.subject):
            for statement in difference.repair_sql:
                execute(connection, statement)
    with connection.transaction(force_rollback=True):
        _, owner = read_facts(connection)
    # The migrations make the owner of their objects part of policies.
    execute(connection, f"set local role {owner}")
    with transaction(connection, "bootstrap.sql"):
        execute(connection, bootstrap_sql())
    run_again(connection)
