"""The promises of the seed's text, in its order, on a plain database and on a Supabase project."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import errors

from faregate.adapters.postgres.migration_files import migrations
from faregate.adapters.postgres.migrations import Migrator
from faregate.domain.errors import MigrationError
from integration.pg_helpers import (
    acting_as,
    as_project_owner,
    balance,
    cloned_database,
    delete_user,
    insert_by_hand,
    sign_up,
    supabase_database,
)

pytestmark = pytest.mark.postgres

ROLES = [
    "anon",
    "authenticated",
    "service_role",
    "supabase_auth_admin",
    "faregate_api",
    "faregate_worker",
]
CHANGES = [
    "update public.credit_transactions set amount = 1000",
    "delete from public.credit_transactions",
    "truncate public.credit_transactions",
]


@pytest.fixture(scope="module", params=["plain", "supabase"])
def database(
    request: pytest.FixtureRequest, postgres_admin_url: str, template_database: str
) -> Iterator[str]:
    """A migrated database of either flavour, as superuser."""
    if request.param == "plain":
        with cloned_database(postgres_admin_url, template_database) as url:
            yield url
        return
    with supabase_database(postgres_admin_url) as url:
        Migrator(as_project_owner(url)).apply()
        yield url


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection]:
    """A connection to it, in a transaction that is rolled back: each test finds it as it was."""
    with psycopg.connect(database) as opened, opened.transaction(force_rollback=True):
        yield opened


def columns(connection: psycopg.Connection, table: str) -> dict[str, tuple[str, str, str | None]]:
    """The columns of a table: type, whether it is nullable, default."""
    found = connection.execute(
        "select column_name, data_type, is_nullable, column_default"
        " from information_schema.columns where table_schema = 'public' and table_name = %s",
        [table],
    ).fetchall()
    return {name: (kind, nullable, default) for name, kind, nullable, default in found}


def index(connection: psycopg.Connection, name: str) -> str:
    """The definition of an index from its table on."""
    row = connection.execute(
        "select indexdef from pg_indexes where schemaname = 'public' and indexname = %s", [name]
    ).fetchone()
    return str(row[0]).partition(" ON ")[2] if row else "missing"


def test_profiles_have_credits_that_default_to_3(connection: psycopg.Connection) -> None:
    """1.1: `credits INTEGER NOT NULL DEFAULT 3`, and its index."""
    assert columns(connection, "profiles")["credits"] == ("integer", "NO", "3")
    assert index(connection, "idx_profiles_credits") == "public.profiles USING btree (credits)"


PLACE = ("sequence", "balance_after", "epoch", "refund_of")
ALLOWANCE = ("allowance_amount", "allowance_after", "period_start")


def test_every_user_starts_with_3_credits(connection: psycopg.Connection) -> None:
    """1.1: all users start with 3 credits by default."""
    assert balance(connection, sign_up(connection)) == (3, 1)


def test_the_transactions_have_the_seeds_columns(connection: psycopg.Connection) -> None:
    """1.2: names, types, nullability and defaults as in the text; what is added is nullable."""
    found = columns(connection, "credit_transactions")
    added = {name: found.pop(name) for name in (*PLACE, *ALLOWANCE)}
    assert found == {
        "id": ("uuid", "NO", "gen_random_uuid()"),
        "user_id": ("uuid", "NO", None),
        "amount": ("integer", "NO", None),
        "type": ("text", "NO", None),
        "description": ("text", "NO", None),
        "metadata": ("jsonb", "YES", None),
        "timestamp": ("timestamp with time zone", "NO", "now()"),
        "created_at": ("timestamp with time zone", "NO", "now()"),
    }
    assert {nullable for _, nullable, _ in added.values()} == {"YES"}


def test_a_transaction_has_one_of_four_types(connection: psycopg.Connection) -> None:
    """1.2: deduct, add, refund, admin_adjustment, and no other."""
    user = sign_up(connection)
    with acting_as(connection, "service_role"):
        for kind in ("deduct", "add", "refund", "admin_adjustment"):
            insert_by_hand(connection, user, 1, kind)
    with pytest.raises(errors.CheckViolation), acting_as(connection, "service_role"):
        insert_by_hand(connection, user, 1, "gift")


def test_a_transaction_belongs_to_a_user(connection: psycopg.Connection) -> None:
    """1.2: `user_id` refers to auth.users."""
    with pytest.raises(errors.ForeignKeyViolation), acting_as(connection, "service_role"):
        insert_by_hand(connection, uuid4(), 1, "add")


@pytest.mark.parametrize(
    ("name", "definition"),
    [
        ("idx_credit_transactions_user_timestamp", '(user_id, "timestamp" DESC)'),
        ("idx_credit_transactions_type", "(type)"),
        ("idx_credit_transactions_timestamp", '("timestamp")'),
    ],
)
def test_the_transactions_have_the_seeds_indexes(
    connection: psycopg.Connection, name: str, definition: str
) -> None:
    """1.3: three indexes by name."""
    assert index(connection, name) == f"public.credit_transactions USING btree {definition}"


def test_users_see_their_own_transactions_only(connection: psycopg.Connection) -> None:
    """1.4 SELECT: a user its own, a visitor none, the service role all."""
    mine, other = sign_up(connection), sign_up(connection)
    query = "select user_id from public.credit_transactions"
    with acting_as(connection, "authenticated", mine):
        assert connection.execute(query).fetchall() == [(mine,)]
    with acting_as(connection, "authenticated"):
        assert connection.execute(query).fetchall() == []
    with pytest.raises(errors.InsufficientPrivilege), acting_as(connection, "anon"):
        connection.execute(query)
    with acting_as(connection, "service_role"):
        assert {row[0] for row in connection.execute(query)} >= {mine, other}


@pytest.mark.parametrize("role", ["anon", "authenticated", "supabase_auth_admin", "faregate_api"])
def test_users_cannot_insert_transactions(connection: psycopg.Connection, role: str) -> None:
    """1.4 INSERT: blocked for users, and for every role whose work it is not."""
    user = sign_up(connection)
    with pytest.raises(errors.InsufficientPrivilege), acting_as(connection, role, user):
        insert_by_hand(connection, user, 1_000, "add")


def test_users_cannot_insert_even_where_everything_is_granted(
    connection: psycopg.Connection,
) -> None:
    """1.4 INSERT: a careless grant and a careless policy do not open what is blocked."""
    user = sign_up(connection)
    connection.execute("grant all on public.credit_transactions to authenticated")
    connection.execute("create policy careless on public.credit_transactions with check (true)")
    with pytest.raises(errors.InsufficientPrivilege), acting_as(connection, "authenticated", user):
        insert_by_hand(connection, user, 1_000, "add")


def test_the_service_role_inserts_rows_without_a_place(connection: psycopg.Connection) -> None:
    """1.4 INSERT: the service role may; what it inserts has no place in the history."""
    user = sign_up(connection)
    with acting_as(connection, "service_role"):
        insert_by_hand(connection, user, 5, "add")
    places = connection.execute(
        "select sequence from public.credit_transactions where description = 'by hand'"
    )
    assert places.fetchall() == [(None,)]
    with pytest.raises(errors.InsufficientPrivilege), acting_as(connection, "service_role"):
        connection.execute(
            "insert into public.credit_transactions"
            " (user_id, amount, type, description, sequence, balance_after, epoch)"
            " values (%s, 5, 'add', 'forged', 2, 8, 1)",
            [user],
        )


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("statement", CHANGES)
def test_no_role_changes_or_deletes_transactions(
    connection: psycopg.Connection, role: str, statement: str
) -> None:
    """1.4 UPDATE and DELETE: blocked, an immutable audit trail; TRUNCATE is a deletion too."""
    user = sign_up(connection)
    with pytest.raises(errors.InsufficientPrivilege), acting_as(connection, role, user):
        connection.execute(statement.encode())


@pytest.mark.parametrize("statement", [*CHANGES, "truncate auth.users cascade"])
def test_not_even_a_superuser_changes_or_deletes_transactions(
    connection: psycopg.Connection, statement: str
) -> None:
    """1.4 UPDATE and DELETE: privileges aside, the table itself refuses."""
    user = sign_up(connection)
    with pytest.raises(errors.RestrictViolation, match="immutable"), connection.transaction():
        connection.execute(statement.encode())
    assert balance(connection, user) == (3, 1)


def test_the_backfill_leaves_balances_that_have_moved(connection: psycopg.Connection) -> None:
    """1.5: safe to run many times; the files by hand, as the SQL editor would run them."""
    moved, fresh = sign_up(connection), sign_up(connection)
    connection.execute("update public.profiles set credits = 0 where id = %s", [moved])
    with connection.transaction():
        for migration in migrations():
            connection.execute(migration.sql.encode())
    assert balance(connection, moved) == (0, 1)
    assert balance(connection, fresh) == (3, 1)


def test_handle_new_user_sets_the_credits_explicitly(connection: psycopg.Connection) -> None:
    """1.6: it names the credits, so that it agrees with the default; its trigger calls it."""
    source = connection.execute(
        "select p.prosrc, t.tgname from pg_proc as p join pg_trigger as t on t.tgfoid = p.oid"
        " where p.oid = 'public.handle_new_user()'::regprocedure"
    ).fetchone()
    assert source is not None
    assert "insert into public.profiles (id, credits)" in source[0]
    assert source[1] == "on_auth_user_created"


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        ("alter table public.profiles alter credits type bigint", "profiles|credits"),
        ("alter table public.credit_transactions alter amount type bigint", "amount"),
        (
            "alter table public.credit_transactions"
            " drop constraint credit_transactions_user_id_fkey",
            "deletion of its user",
        ),
        (
            "alter table public.credit_transactions drop constraint credit_transactions_type_check",
            "types",
        ),
    ],
)
def test_the_migration_raises_where_the_schema_is_another(
    empty_database_url: str, damage: str, complaint: str
) -> None:
    """1.7: the verification block finds what the statements before it could not make right."""
    Migrator(empty_database_url).apply()
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("drop trigger profiles_credits_guard on public.profiles")
        connection.execute("drop view faregate.balances")
        connection.execute(damage.encode())
        connection.execute("delete from faregate.migrations where name ~ 'credit_system'")
    with pytest.raises(MigrationError, match=complaint):
        Migrator(empty_database_url).apply()


def test_deleting_a_user_deletes_profile_and_transactions(connection: psycopg.Connection) -> None:
    """Security 4: by the cascade, by Supabase Auth, and nobody else's."""
    gone, stays = sign_up(connection), sign_up(connection)
    delete_user(connection, gone)
    query = "select user_id from public.credit_transactions"
    left: set[UUID] = {row[0] for row in connection.execute(query)}
    assert gone not in left
    assert stays in left
    assert balance(connection, gone) is None


def test_the_history_of_a_user_is_read_through_its_index(connection: psycopg.Connection) -> None:
    """Performance 2: user and time, as that user, row level security included."""
    user = sign_up(connection)
    connection.execute(
        "insert into auth.users (id) select gen_random_uuid() from generate_series(1, 999)"
    )
    connection.execute(
        "insert into public.credit_transactions (user_id, amount, type, description, timestamp)"
        " select u.id, -1, 'deduct', 'request', now() - n * interval '1 minute'"
        " from auth.users as u cross join generate_series(1, 60) as n"
    )
    connection.execute("analyze public.credit_transactions")
    with acting_as(connection, "authenticated", user):
        plan = connection.execute(
            "explain select * from public.credit_transactions order by timestamp desc limit 10"
        ).fetchall()
    assert any("idx_credit_transactions_user_timestamp" in line for (line,) in plan), plan
