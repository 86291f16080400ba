"""The roles of Postgres that Faregate runs as, and the one list of their rights.

A right names its object as the catalogs do. So the list can be printed as SQL, and a database can
be asked in one statement which of it a role lacks. The migrations grant the same to the API and
the worker.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from faregate.adapters.postgres.connection import Bounds, Connector, require_utf8, unavailable
from faregate.adapters.postgres.queries import statement
from faregate.domain.errors import ConfigurationError, FaregateError

FILE: Final = "access.sql"
_SETTING: Final = "FAREGATE_POSTGRES_URL"
_BOUNDS: Final = Bounds(statement_ms_max=4_000, lock_ms_max=2_000)


@dataclass(frozen=True, slots=True)
class Right:
    """One right."""

    verb: str
    #: database, schema, table, function; or rows: all rows of a table, by a policy.
    kind: str
    #: Empty for the database itself.
    object: str = ""
    #: The column, if the right is to one column of a table.
    column: str = ""

    def __str__(self) -> str:
        verb = f"{self.verb} ({self.column})" if self.column else self.verb
        return f"{verb} on {self.kind} {self.object}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseRole:
    """A role, and the rights that it needs."""

    name: str
    #: The programs that run in this role.
    purpose: str
    rights: tuple[Right, ...]


_BALANCES, _ROWS = "faregate.balances", "public.credit_transactions"
_LEDGER, _DEAD_LETTERS, _KEYS = "faregate.ledger", "faregate.dead_letters", "faregate.api_keys"
_BATCHES, _RECONCILIATIONS = "faregate.batches", "faregate.reconciliations"
_ACKNOWLEDGEMENTS, _REPAIRS = "faregate.acknowledgements", "faregate.repairs"
_FORKS, _LOST = "faregate.forks", "faregate.lost_records"
_SCHEMAS = Right("usage", "schema", "public"), Right("usage", "schema", "faregate")
_COUNT_ORDERS = Right("execute", "function", "faregate.count_orders()")
#: Rights of all roles.
_READING = (
    Right("select", "table", _BALANCES),
    Right("select", "table", _ROWS),
    Right("select", "rows", _ROWS),
    Right("select", "table", _LEDGER),
    Right("select", "table", _DEAD_LETTERS),
)
#: More rights for verification.
_AUDITING = (
    Right("select", "table", _BATCHES),
    Right("select", "table", _ACKNOWLEDGEMENTS),
    Right("select", "table", _REPAIRS),
    Right("select", "table", _FORKS),
    Right("select", "table", _LOST),
)
#: Rights to align live balances after a fork. A repair's leaves would vouch for rows, so a worker
#: may not write them.
_ALIGNING = (
    *(Right(verb, "table", table) for table in (_FORKS, _LOST) for verb in ("insert", "update")),
    *(
        Right("insert", "table", _REPAIRS, column)
        for column in (
            *("event_id", "finding_id", "kind", "user_id", "action", "amount"),
            *("detail", "actor", "reason", "deadline_at", "request"),
        )
    ),
    *(
        Right("update", "table", _REPAIRS, column)
        for column in ("sequence", "balance_before", "balance_after", "ended_at")
    ),
)

#: Rights of a gate, which also looks up API keys for the middleware.
GATE_RIGHTS: Final = (
    *_SCHEMAS,
    *_READING,
    Right("execute", "function", "faregate.open_user(uuid, boolean)"),
    Right("execute", "function", "faregate.mark_installed(bigint)"),
)
API: Final = DatabaseRole(
    name="faregate_api",
    purpose="an API with a gate; faregate renew, faregate journal import",
    rights=(
        *GATE_RIGHTS,
        Right("select", "table", _KEYS),
        Right("select", "rows", _KEYS),
        Right("update", "table", _KEYS, "last_used_at"),
        Right("update", "rows", _KEYS),
        Right(
            "execute", "function", "faregate.add_credits(uuid, integer, text, text, text, jsonb)"
        ),
        Right("execute", "function", "faregate.balance(uuid)"),
    ),
)
#: Saved reconciliations, which name the users of findings.
_RUNS = Right("select", "table", _RECONCILIATIONS), Right("insert", "table", _RECONCILIATIONS)
WORKER: Final = DatabaseRole(
    name="faregate_worker",
    purpose="faregate worker",
    rights=(
        *_SCHEMAS,
        *_READING,
        Right("temporary", "database"),
        *_AUDITING,
        Right("insert", "table", _ROWS),
        Right("insert", "rows", _ROWS),
        Right("update", "table", _BALANCES, "credits"),
        Right("update", "table", _BALANCES, "credits_sequence"),
        Right("insert", "table", _DEAD_LETTERS),
        Right("insert", "table", _BATCHES),
        Right("update", "table", _BATCHES),
        *_ALIGNING,
        Right("execute", "function", "faregate.user_exists(uuid)"),
        Right("execute", "function", "faregate.users_existing(uuid[])"),
        Right("execute", "function", "faregate.lock_holder()"),
        Right("execute", "function", "faregate.scrub_dead_letters(uuid[])"),
        Right("execute", "function", "faregate.users_to_erase(integer)"),
        Right("execute", "function", "faregate.note_erased(uuid[])"),
        Right("execute", "function", "faregate.take_orders(integer)"),
        Right(
            "execute",
            "function",
            "faregate.refuse_orders(uuid[], timestamp with time zone[], text[])",
        ),
        _COUNT_ORDERS,
        Right("execute", "function", "faregate.open_user(uuid, boolean)"),
        *_RUNS,
    ),
)
#: Rights to reconcile and to verify.
AUDIT_RIGHTS: Final = (*_SCHEMAS, *_READING, *_AUDITING)
AUDITOR: Final = DatabaseRole(
    name="faregate_auditor",
    purpose="faregate reconcile, faregate verify, and queries about anybody's rows",
    rights=(*AUDIT_RIGHTS, *_RUNS, _COUNT_ORDERS),
)
ROLES: Final = (API, WORKER, AUDITOR)


def question(rights: Sequence[Right]) -> Mapping[str, Sequence[str]]:
    """Return the parameters of the statement `find_missing_rights` for some rights."""
    return {
        "verbs": [right.verb for right in rights],
        "kinds": [right.kind for right in rights],
        "objects": [right.object for right in rights],
        "columns": [right.column for right in rights],
    }


def check_answer(
    rows: Sequence[Mapping[str, Any]],
    rights: Sequence[Right],
    role: DatabaseRole,
    lacking: type[FaregateError] = ConfigurationError,
) -> None:
    """Check the answer of `find_missing_rights`.

    Raises:
        ConfigurationError: The database has not been migrated.
        FaregateError: A right is missing; it is of the given type. One line says which right, and
            how to get it.
    """
    if any(row["is_absent"] for row in rows):
        raise ConfigurationError("the database is not ready for Faregate; run `faregate migrate`")
    if rows:
        missing = ", ".join(str(rights[row["place"] - 1]) for row in rows)
        raise lacking(
            f"the role {rows[0]['role_name']} in {_SETTING} lacks: {missing}; let it log in as a"
            f" member of {role.name}, which `faregate access --part sql` prints"
        )


def check(
    connection: psycopg.Connection,
    role: DatabaseRole,
    rights: Sequence[Right] = (),
    lacking: type[FaregateError] = ConfigurationError,
) -> None:
    """Make sure that a connection may do what a role needs, or some of it.

    Raises as `check_answer` does.
    """
    require_utf8(connection.info)
    asked = rights or role.rights
    cursor = connection.cursor(row_factory=dict_row)
    found = cursor.execute(statement("find_missing_rights", FILE), question(asked))
    check_answer(found.fetchall(), asked, role, lacking)


def check_worker(conninfo: str) -> None:
    """Make sure that a worker has its rights, on a connection of its own; raises as `check` does.

    Raises:
        ArchiveUnavailableError: Postgres does not answer in time.
    """
    with (
        unavailable("read the rights of the worker"),
        closing(Connector(conninfo, "faregate", _BOUNDS)) as connector,
        connector.transaction() as connection,
    ):
        check(connection, WORKER)
