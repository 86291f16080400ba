"""How Postgres is connected to: every wait has an end, and errors become those of the domain."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from faregate.domain.errors import ArchiveUnavailableError, ConfigurationError

CONNECT_TIMEOUT_S_MAX = 5

#: How long a server may stay silent on a TCP connection before the connection counts as lost.
#: A statement timeout does not help there, since it is the server that keeps it.
_SILENCE_MS_MAX = 20_000
#: What a database answers that lacks the schema of Faregate.
_NOT_MIGRATED = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.InvalidSchemaName,
)
_DEFAULTS: dict[str, str | int | None] = {
    "connect_timeout": CONNECT_TIMEOUT_S_MAX,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": _SILENCE_MS_MAX,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How long Postgres may take, in milliseconds, before it gives up by itself."""

    #: For one statement.
    statement_ms_max: int
    #: For one lock.
    lock_ms_max: int
    #: Between two statements of a transaction; ends that of a client that hangs or is gone.
    idle_ms_max: int = 30_000


def bounded(conninfo: str, application: str, bounds: Bounds) -> str:
    """Add bounds to a connection string; what it says itself has precedence.

    Raises:
        ConfigurationError: It is not a connection string.
    """
    try:
        given = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        # The driver's own message quotes the string, which may hold a password.
        raise ConfigurationError("the URL of Postgres is not a connection string") from None
    if "@" in str(given.get("host") or ""):
        # The driver looks for this host, and its message quotes the end of the password.
        raise ConfigurationError(
            "the URL of Postgres has an @ in its host: in a password it is written %40"
        )
    options = (
        f"-c statement_timeout={bounds.statement_ms_max} -c lock_timeout={bounds.lock_ms_max}"
        f" -c idle_in_transaction_session_timeout={bounds.idle_ms_max} {given.get('options') or ''}"
    )
    # A value that was given stays; of two settings in the options, the later one counts.
    merged = {"application_name": application, **_DEFAULTS, **given, "options": options.rstrip()}
    return make_conninfo("", **merged)


@contextmanager
def unavailable(doing: str) -> Iterator[None]:
    """Turn what the driver raises into `ArchiveUnavailableError`."""
    try:
        yield
    except (psycopg.Error, TimeoutError) as error:
        reason = str(error).strip() or type(error).__name__
        raise ArchiveUnavailableError(f"cannot {doing}: {reason}") from error


@contextmanager
def migrated() -> Iterator[None]:
    """Turn what a database that was not migrated answers into `ConfigurationError`."""
    try:
        yield
    except _NOT_MIGRATED as error:
        message = "the database is not ready for Faregate; run `faregate migrate`"
        raise ConfigurationError(message) from error


class Connector:
    """One connection for one thread, opened on first use and again after it was lost."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._connection: psycopg.Connection | None = None

    def connection(self) -> psycopg.Connection:
        """Return the connection, in autocommit: transactions are opened where they are needed.

        Raises:
            psycopg.Error: There is no connection to be had.
        """
        if self._connection is None or self._connection.closed:
            # Statements are not prepared by name, which a pooler between us would not survive.
            self._connection = psycopg.connect(
                self._conninfo, autocommit=True, prepare_threshold=None
            )
        return self._connection

    def close(self) -> None:
        """Let go of the connection; the next use opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
