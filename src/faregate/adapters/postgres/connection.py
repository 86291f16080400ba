"""Connections to Postgres: every wait is bounded, and driver errors become errors of the domain.

A pooler may stand in between and lend a server for one transaction. So all settings are made per
transaction: timeouts, the date format, the role. The startup parameter `options`, which poolers
refuse, is sent only if the URL has it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from faregate.adapters.postgres.queries import statement
from faregate.domain.errors import ArchiveUnavailableError, ConfigurationError, StandbyError

CONNECT_TIMEOUT_S_MAX = 5

#: How long a server may stay silent on a TCP connection before the connection counts as lost.
#: A statement timeout does not help there, since it is the server that keeps it.
_SILENCE_MS_MAX = 20_000
#: The errors of a database without the schema of Faregate.
_NOT_MIGRATED = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.InvalidSchemaName,
)
#: The advice for errors of the server, by the beginning of their SQLSTATE.
_ADVICE = {
    "25006": "the database is read-only: a standby, or default_transaction_read_only is on",
    "42501": "the role lacks a right: run `faregate migrate` as the owner, and let it have the role"
    " faregate_worker or faregate_api",
    "42": "the schema is not that of this version: run `faregate migrate`",
    "53100": "the disk of Postgres is full",
    "53": "Postgres lacks resources: connections, memory or disk",
    "57014": "a statement took longer than it may: it is blocked, or the server is overloaded",
    "58": "the disk or the system of Postgres fails: see its log",
}
_DEFAULTS: dict[str, str | int | None] = {
    "client_encoding": "UTF8",
    "connect_timeout": CONNECT_TIMEOUT_S_MAX,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": _SILENCE_MS_MAX,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The times after which Postgres gives up by itself, in milliseconds."""

    #: The longest time of one statement.
    statement_ms_max: int
    #: The longest wait for one lock.
    lock_ms_max: int
    #: The longest pause in a transaction; it ends the transaction of a client that hangs or died.
    idle_ms_max: int = 30_000

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters of the statement `bound_transaction`."""
        return {
            "statement_ms_max": str(self.statement_ms_max),
            "lock_ms_max": str(self.lock_ms_max),
            "idle_ms_max": str(self.idle_ms_max),
        }


def complete(conninfo: str, application: str) -> str:
    """Add the options that every connection needs, unless the connection string sets them.

    Raises:
        ConfigurationError: It is not a connection string.
    """
    try:
        given = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        # The driver's own message quotes the string, which may hold a password.
        raise ConfigurationError(
            "the URL of Postgres (FAREGATE_POSTGRES_URL) is not a connection string such as"
            " postgresql://user@host/database"
        ) from None
    if "@" in str(given.get("host") or ""):
        # The driver looks for this host, and its message quotes the end of the password.
        raise ConfigurationError(
            "the URL of Postgres has an @ in its host: in a password it is written %40"
        )
    return make_conninfo("", **{"application_name": application, **_DEFAULTS, **given})


@contextmanager
def unavailable(doing: str) -> Iterator[None]:
    """Turn driver errors into `ArchiveUnavailableError`, with advice."""
    try:
        yield
    except (psycopg.Error, TimeoutError) as error:
        said = error.diag.message_primary if isinstance(error, psycopg.Error) else None
        reason = said or str(error).strip() or type(error).__name__
        raise ArchiveUnavailableError(f"cannot {doing}: {reason}{_advice(error)}") from error


def _advice(error: Exception) -> str:
    state = getattr(error, "sqlstate", None) or ""
    advice = (text for code, text in _ADVICE.items() if state.startswith(code))
    return "".join(f" ({text})" for text in list(advice)[:1])


@contextmanager
def migrated() -> Iterator[None]:
    """Turn the errors of a database that was not migrated into `ConfigurationError`."""
    try:
        yield
    except _NOT_MIGRATED as error:
        message = "the database is not ready for Faregate; run `faregate migrate`"
        raise ConfigurationError(message) from error


@contextmanager
def owned(doing: str, hint: str = "") -> Iterator[None]:
    """Turn a missing right of the owner's role into `ConfigurationError`."""
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        message = f"this role may not {doing}; take the one that ran the migrations{hint}"
        raise ConfigurationError(message) from error


def require_utf8(info: psycopg.ConnectionInfo) -> None:
    """Check that a database can store any text.

    Raises:
        ConfigurationError: Its encoding is another one.
    """
    encoding = info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise ConfigurationError(f"the database has encoding {encoding}; Faregate needs UTF8")


def require_primary(connection: psycopg.Connection) -> None:
    """Check that a server is not a standby.

    Raises:
        StandbyError: The server is a standby.
    """
    ((is_standby,),) = connection.execute(statement("is_standby")).fetchall()
    if is_standby:
        raise StandbyError(
            "Postgres is a standby in recovery, and may be behind: use the URL of the primary"
        )


class Connector:
    """One connection for one thread, opened on first use and again after it was lost."""

    def __init__(self, conninfo: str, application: str, bounds: Bounds) -> None:
        self._conninfo = complete(conninfo, application)
        self._bounds = bounds
        self._connection: psycopg.Connection | None = None

    @contextmanager
    def transaction(self, *, is_snapshot: bool = False) -> Iterator[psycopg.Connection]:
        """Open a transaction whose waits are bounded.

        Args:
            is_snapshot: Whether it only reads, and all of it at one moment.

        Raises:
            psycopg.Error: There is no connection to be had.
        """
        connection = self._opened()
        level = psycopg.IsolationLevel
        connection.isolation_level = level.REPEATABLE_READ if is_snapshot else level.READ_COMMITTED
        connection.read_only = is_snapshot or None
        with connection.transaction():
            connection.execute(statement("bound_transaction"), self._bounds.parameters)
            yield connection

    def _opened(self) -> psycopg.Connection:
        if self._connection is None or self._connection.closed:
            # No named prepared statements: they do not work through a pooler.
            self._connection = psycopg.connect(
                self._conninfo, autocommit=True, prepare_threshold=None
            )
        return self._connection

    def close(self) -> None:
        """Let go of the connection; the next use opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
