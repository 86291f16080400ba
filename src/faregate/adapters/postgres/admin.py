"""Actions of the owner of the ledger, which no role of Faregate is granted."""

from collections.abc import Sequence
from uuid import UUID

from psycopg.rows import class_row

from faregate.adapters.postgres.archive import LOCK_NAMESPACE
from faregate.adapters.postgres.connection import Bounds, Connector, migrated, owned, unavailable
from faregate.adapters.postgres.queries import statement
from faregate.domain.errors import ConfigurationError
from faregate.domain.identity import LedgerIdentity
from faregate.domain.user import User

_BOUNDS = Bounds(statement_ms_max=10_000, lock_ms_max=5_000)


class PostgresAdmin:
    """The port `LedgerAdmin`. For one thread; connects on first use.

    Every method raises `ArchiveUnavailableError` where Postgres does not answer in time.
    """

    def __init__(self, conninfo: str) -> None:
        self._connector = Connector(conninfo, "faregate admin", _BOUNDS)

    def identity(self) -> LedgerIdentity:
        """Return the identity of the ledger, fixed when it was created."""
        with (
            unavailable("read identity"),
            owned("read the ledger"),
            migrated(),
            self._connector.transaction() as connection,
        ):
            cursor = connection.cursor(row_factory=class_row(LedgerIdentity))
            row = cursor.execute(statement("read_identity")).fetchone()
        if row is None:
            raise ConfigurationError("the ledger has no identity; run `faregate migrate`")
        return row

    def check_owner(self) -> None:
        """Make sure that the role may begin an epoch. Nothing is changed.

        Raises:
            ConfigurationError: The role lacks a right of the owner.
        """
        # No ledger has this epoch, so the statement changes nothing and checks only its rights.
        nothing = {"after": -1, "shard_count": 1}
        with (
            unavailable("begin an epoch"),
            owned("begin an epoch"),
            self._connector.transaction() as connection,
        ):
            connection.execute(statement("begin_epoch"), nothing)

    def begin_epoch(self, after: int, shard_count: int) -> LedgerIdentity:
        """Begin the epoch that follows `after`, with this number of shards; return the ledger.

        It waits for batches that are being stored. All later ones must be of the new epoch.

        If two callers do it at once, one begins the epoch. The other waits for the lock of the row,
        and gets an error, since `after` is no longer the current epoch.

        Raises:
            ConfigurationError: `after` is not the current epoch, or the role lacks the right.
        """
        asked = {"after": after, "shard_count": shard_count}
        with (
            unavailable("begin an epoch"),
            owned("begin an epoch"),
            self._connector.transaction() as connection,
        ):
            connection.execute(statement("lock_shards"), {"namespace": LOCK_NAMESPACE})
            cursor = connection.cursor(row_factory=class_row(LedgerIdentity))
            begun = cursor.execute(statement("begin_epoch"), asked).fetchone()
        if begun is None:
            raise ConfigurationError(
                f"the ledger is not of epoch {after} any more: somebody else has begun another"
            )
        return begun

    def open(self, user_ids: Sequence[UUID]) -> list[User]:
        """Return the durable balances of users; see the port."""
        asked = {"user_ids": list(user_ids), "provision": False}
        with unavailable("open users"), self._connector.transaction() as connection:
            cursor = connection.cursor(row_factory=class_row(User))
            return cursor.execute(statement("open_users"), asked).fetchall()

    def close(self) -> None:
        """Close the connection; the next query opens another."""
        self._connector.close()
