"""What each role may do with each table and function, by each route, tried on a database.

What is expected is written down here, and nowhere else. The tables and functions come from the
catalogue, so that a new one must be added here.
"""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Final
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors

from faregate.adapters.postgres.access import ROLES, DatabaseRole
from faregate.adapters.postgres.migrations import Migrator
from faregate.adapters.postgres.roles import roles_sql
from integration.pg_helpers import (
    PROJECT_OWNER,
    acting_as,
    as_project_owner,
    cloned_database,
    sign_up,
    supabase_database,
)
from integration.rights_routes import CHANGES, NEW_ROWS, REFUSALS, ROUTES, TABLES

pytestmark = pytest.mark.postgres

#: Reads all rows (r) or its own (o), adds rows for others (a), writes (w), deletes (d), truncates
#: (t), adds triggers (x). Of profiles and balances "writes" is about credits.
EXPECTED = """
role                rows balances ledger letters batches runs   keys   migrations deletions profiles users repairs  accepted orders forks  lost
anon                -    -        -      -       -       -      -      -          -         -        -     -        -        -      -      -
authenticated       o    -        -      -       -       -      -      -          -         o        -     -        -        -      -      -
service_role        ra   -        -      -       -       -      -      -          -         rad      -     -        -        r      -      -
supabase_auth_admin -    -        -      -       -       -      -      -          -         -        rawd  -        -        -      -      -
faregate_reader     o    -        -      -       -       -      -      -          -         -        -     -        -        -      -      -
faregate_api        r    r        r      r       -       -      rw     -          -         -        -     -        -        -      -      -
faregate_worker     ra   rw       r      ra      raw     ra     -      -          -         -        -     raw      r        -      raw    raw
faregate_auditor    r    r        r      r       r       ra     -      -          -         -        -     r        r        -      r      r
faregate_backup     r    r        r      r       r       r      r      r          r         r        r     r        r        r      r      r
"""  # noqa: E501 - a table
#: In a Supabase project profiles are shown to all, and what owns the tables is no superuser.
ON_SUPABASE = """
role                rows balances ledger letters batches runs   keys   migrations deletions profiles users repairs  accepted orders forks  lost
anon                -    -        -      -       -       -      -      -          -         r        -     -        -        -      -      -
authenticated       o    -        -      -       -       -      -      -          -         r        -     -        -        -      -      -
supabase_auth_admin -    -        -      -       -       -      -      -          -         -        rawdx -        -        -      -      -
project_owner       rax  rawd     rawdtx rawdtx  rawdtx  rawdtx rawdtx rawdtx     rawdtx    rawdtx   rawdx rawdtx   rawdtx   rawdtx rawdtx rawdtx
"""  # noqa: E501 - a table
#: Who may call which function. Nobody but their owner calls the others, or those of triggers.
CALLERS: Final = {
    "faregate.open_user(uuid,boolean)": {"faregate_api", "faregate_worker"},
    "faregate.mark_installed(bigint)": {"faregate_api"},
    "faregate.user_exists(uuid)": {"faregate_worker"},
    "faregate.users_existing(uuid[])": {"faregate_worker"},
    "faregate.lock_holder()": {"faregate_worker"},
    "faregate.scrub_dead_letters(uuid[])": {"faregate_worker"},
    "faregate.users_to_erase(integer)": {"faregate_worker"},
    "faregate.note_erased(uuid[])": {"faregate_worker"},
    "faregate.add_credits(uuid,integer,text,text,text,jsonb)": {"service_role", "faregate_api"},
    "faregate.balance(uuid)": {"service_role", "faregate_api"},
    "faregate.take_orders(integer)": {"faregate_worker"},
    "faregate.refuse_orders(uuid[],timestamp with time zone[],text[])": {"faregate_worker"},
    "faregate.count_orders()": {"faregate_worker", "faregate_auditor"},
}
#: COPY into a table is refused to a role that is subject to its row level security.
NO_COPY: Final = {("faregate_worker", "rows")}
#: TRUNCATE alone is refused where another table refers to this one.
NO_TRUNCATE: Final = {"forks"}


def table_of(text: str) -> dict[str, dict[str, str]]:
    """Read a table: what a role may do with what."""
    head, *lines = [line.split() for line in text.strip().splitlines()]
    return {role: dict(zip(head[1:], cells, strict=True)) for role, *cells in lines}


LAYOUTS: Final = {
    "plain": table_of(EXPECTED),
    "supabase": table_of(EXPECTED) | table_of(ON_SUPABASE),
}


class Tried:
    """A database of one layout with two users, whose rows are in each table."""

    def __init__(self, connection: psycopg.Connection, layout: str) -> None:
        self.connection = connection
        self.expected = LAYOUTS[layout]
        self.user, self.other = sign_up(connection), sign_up(connection)
        for name in (
            "letters",
            "batches",
            "runs",
            "keys",
            "deletions",
            "repairs",
            "accepted",
            "orders",
            "forks",
            "lost",
        ):
            connection.execute(self.statement("insert", name).encode())
        connection.execute("delete from public.profiles where id = %s", [self.other])
        connection.execute("insert into auth.users (id) values (%s)", [uuid4()])

    def statement(self, route: str, table: str) -> str:
        columns, values = NEW_ROWS[table]
        return ROUTES[route][1].format(
            table=TABLES[table],
            columns=columns,
            values=values.format(user=self.user, other=self.other),
            change=CHANGES[table],
        )

    def rows_seen(self, role: str | None, statement: str) -> int | None:
        """Run a statement as a role; how many rows it has seen or changed, None where refused."""
        try:
            with self.connection.transaction(force_rollback=True):
                if role is None:
                    return self._run(statement)
                with acting_as(self.connection, role, self.user):
                    return self._run(statement)
        except REFUSALS:
            return None
        except errors.IntegrityError:
            # Nothing but the row itself was in the way.
            return 1

    def _run(self, statement: str) -> int:
        cursor = self.connection.cursor()
        if statement.startswith("copy"):
            with cursor.copy(statement.encode()) as copy:
                return sum(1 for _ in copy) if "to stdout" in statement else 1
        cursor.execute(statement.encode())
        # Of what is no change of rows there is no count.
        return cursor.rowcount if cursor.rowcount >= 0 else 1

    def letter(self, route: str, role: str, table: str) -> str:
        """What a role achieves by a route."""
        letter, _ = ROUTES[route]
        statement = self.statement(route, table)
        count = self.rows_seen(role, statement)
        if letter == "r" and count and count < (self.rows_seen(None, statement) or 0):
            return "o"
        return letter if count else "-"


@pytest.fixture(scope="module")
def tried(
    request: pytest.FixtureRequest, postgres_admin_url: str, template_database: str
) -> Iterator[Tried]:
    if request.param == "plain":
        with (
            cloned_database(postgres_admin_url, template_database) as url,
            psycopg.connect(url, autocommit=True) as connection,
        ):
            connection.execute(roles_sql().encode())
            yield Tried(connection, request.param)
        return
    with supabase_database(postgres_admin_url) as url:
        Migrator(as_project_owner(url)).apply()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(roles_sql().encode())
            yield Tried(connection, request.param)


def routes(connection: psycopg.Connection, table: str) -> Iterator[str]:
    """The routes that this Postgres has to a table."""
    for route in ROUTES:
        # COPY fills no view, and before 17 neither did MERGE.
        is_old = connection.info.server_version < 170000
        if table != "balances" or (route != "copy from" and not (is_old and "merge" in route)):
            yield route


@pytest.mark.parametrize(
    ("tried", "role"),
    [(layout, role) for layout, expected in LAYOUTS.items() for role in expected],
    indirect=["tried"],
)
def test_a_role_has_the_listed_rights_on_each_table_and_no_others(tried: Tried, role: str) -> None:
    """By SQL, COPY, MERGE, TRUNCATE, and by adding triggers."""
    wrong = {}
    for table, letters in tried.expected[role].items():
        for route in routes(tried.connection, table):
            letter, _ = ROUTES[route]
            allowed = "ro" if letter == "r" else letter
            expected = next((one for one in letters if one in allowed), "-")
            if route == "copy from" and (role, table) in NO_COPY:
                expected = "-"
            if route == "truncate" and table in NO_TRUNCATE:
                expected = "-"
            found = tried.letter(route, role, table)
            if found != expected:
                wrong[f"{route} {table}"] = f"{found}, not {expected}"
    assert wrong == {}


@pytest.mark.parametrize("tried", LAYOUTS, indirect=True)
def test_only_the_roles_with_the_right_call_a_function(tried: Tried) -> None:
    """Each function of the schemas, by each role: the privilege, and a call."""
    found = tried.connection.execute(
        "select oid::regprocedure::text, proargtypes::regtype[]::text[],"
        " prorettype = 'trigger'::regtype from pg_proc"
        " where pronamespace in ('faregate'::regnamespace, 'public'::regnamespace)"
    ).fetchall()
    functions: Mapping[str, tuple[list[str], bool]] = {
        name if "." in name else f"public.{name}": (kinds, of_trigger)
        for name, kinds, of_trigger in found
    }
    assert set(CALLERS) < set(functions)
    wrong = []
    for (name, (kinds, of_trigger)), role in product(functions.items(), tried.expected):
        expected = role == PROJECT_OWNER or role in CALLERS.get(name, set())
        nulls = ", ".join(f"null::{kind}" for kind in kinds)
        call = f"select {name.partition('(')[0]}({nulls})"
        if not of_trigger and tried_call(tried, role, call) != expected:
            wrong.append((role, call))
        ask = "select has_function_privilege(%s, %s, 'execute')"
        if tried.connection.execute(ask, [role, name]).fetchone() != (expected,):
            wrong.append((role, name))
    assert wrong == []


def tried_call(tried: Tried, role: str, call: str) -> bool:
    """Whether a role may call a function, whatever comes of it."""
    try:
        with acting_as(tried.connection, role):
            tried.connection.execute(call.encode())
            raise psycopg.Rollback
    except psycopg.Error as error:
        return "permission denied" not in str(error)
    return True


@pytest.mark.parametrize("tried", LAYOUTS, indirect=True)
def test_the_table_is_complete(tried: Tried) -> None:
    """It has each table of the schemas, and each role to which anything is granted there."""
    names = tried.connection.execute(
        "select format('%s.%s', relnamespace::regnamespace, relname) from pg_class"
        " where relkind in ('r', 'p', 'v', 'm', 'f')"
        " and relnamespace in ('faregate'::regnamespace, 'public'::regnamespace)"
    ).fetchall()
    assert {name for (name,) in names} | {"auth.users"} == set(TABLES.values())
    grantees = tried.connection.execute(
        "select distinct a.grantee::regrole::text from pg_class as c, aclexplode(c.relacl) as a"
        " where c.oid = any(%s::regclass[])",
        [list(TABLES.values())],
    ).fetchall()
    assert {name for (name,) in grantees} <= {*tried.expected, "postgres"}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_the_list_of_rights_says_the_same(role: DatabaseRole) -> None:
    """What `faregate access` prints and each process asks for is what is written here."""
    verbs = {"select": "r", "insert": "a", "update": "w"}
    for expected in LAYOUTS.values():
        for table, letters in expected[role.name].items():
            listed = {
                verbs[right.verb]
                for right in role.rights
                if right.kind == "table" and right.object == TABLES[table]
            }
            assert listed == set(letters) - {"-"}, (role.name, table)
