"""What only the owner of the ledger may do: it is granted to no role of Faregate."""

from psycopg import errors
from psycopg.rows import dict_row

from faregate.adapters.postgres.connection import Bounds, Connector, unavailable
from faregate.adapters.postgres.queries import statement
from faregate.domain.errors import ConfigurationError
from faregate.domain.identity import LedgerIdentity

_BOUNDS = Bounds(statement_ms_max=10_000, lock_ms_max=5_000)


class PostgresAdmin:
    """The port `LedgerAdmin`. For one thread; connects on first use.

    Every method raises `ArchiveUnavailableError` where Postgres does not answer in time.
    """

    def __init__(self, conninfo: str) -> None:
        self._connector = Connector(conninfo, "faregate admin", _BOUNDS)

    def identity(self) -> LedgerIdentity:
        """Return what the ledger was created with."""
        with unavailable("read identity"), self._connector.transaction() as connection:
            cursor = connection.cursor(row_factory=dict_row)
            row = cursor.execute(statement("read_identity")).fetchone()
        if row is None:
            raise ConfigurationError("the ledger has no identity; run `faregate migrate`")
        return LedgerIdentity(**row)

    def begin_epoch(self, after: int) -> int:
        """Begin the epoch that follows `after`, which nobody has installed yet, and return it.

        Of two callers at once one begins it: the other waits for the lock of the row, and is told
        that `after` does not count any more.

        Raises:
            ConfigurationError: `after` is not the epoch that counts, or the role may not do this.
        """
        with unavailable("begin an epoch"):
            try:
                with self._connector.transaction() as connection:
                    row = connection.execute(statement("begin_epoch"), {"after": after}).fetchone()
            except errors.InsufficientPrivilege as error:
                message = "this role may not begin an epoch; take the one that ran the migrations"
                raise ConfigurationError(message) from error
        if row is None:
            raise ConfigurationError(
                f"the ledger is not of epoch {after} any more: somebody else has begun another"
            )
        return int(row[0])

    def close(self) -> None:
        """Let go of the connection; the next question opens another."""
        self._connector.close()
