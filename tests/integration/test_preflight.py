"""What a look at a database finds before it is migrated, and what is adopted."""

import re
from collections.abc import Iterator

import psycopg
import pytest

from faregate.adapters.postgres import preflight
from faregate.adapters.postgres.migrations import Migrator
from faregate.domain.errors import MigrationError, UnfitDatabaseError
from integration.pg_helpers import as_project_owner, balance, sign_up, supabase_database

pytestmark = pytest.mark.postgres

PROFILES = "drop table public.profiles; create table public.profiles "
TRANSACTIONS = "create table public.credit_transactions (id uuid primary key, amount integer)"
LOST = """
alter table public.profiles drop constraint profiles_id_fkey;
insert into public.profiles (id) values ('00000000-0000-4000-8000-000000000001');
"""
NOBODYS = """
drop table public.profiles;
create table public.profiles (
    id uuid primary key,
    user_id uuid unique references auth.users (id)
);
insert into public.profiles (id) values ('00000000-0000-4000-8000-000000000001');
"""
#: What is done to a Supabase project, and what is said of it: kind and words.
FAULTS = {
    "schema": ("create schema faregate create table jobs (id int)", "foreign_name", "jobs"),
    "function": (
        "create schema faregate; create function faregate.f() returns int language sql return 1",
        "foreign_name",
        "functions",
    ),
    "records": (
        "create schema faregate create table migrations (id int)",
        "foreign_name",
        "other columns",
    ),
    "trigger": (
        "create function public.f() returns trigger language plpgsql as 'begin end';"
        "create trigger profiles_starting_row after insert on public.profiles"
        " for each row execute function public.f()",
        "foreign_name",
        "alter trigger profiles_starting_row",
    ),
    "index": (
        "create table public.t (n int); create index idx_profiles_credits on public.t (n)",
        "foreign_name",
        "index public.idx_profiles_credits of another table",
    ),
    "place": (
        "alter table public.profiles add credits_sequence bigint",
        "foreign_name",
        "credits_sequence",
    ),
    "role": ("alter role authenticated bypassrls", "foreign_name", "role authenticated"),
    "policy": (
        TRANSACTIONS + '; create policy "The owner can view transactions"'
        " on public.credit_transactions for update using (true)",
        "foreign_name",
        "The owner can view transactions",
    ),
    "view": (
        "drop table public.profiles; create view public.profiles as select id from auth.users",
        "profiles_key",
        "no table",
    ),
    "bigint": (PROFILES + "(id bigint primary key)", "profiles_key", "id is bigint"),
    "text": (PROFILES + "(id text primary key)", "profiles_key", "id is text"),
    "missing": (PROFILES + "(name text)", "profiles_key", "id is missing"),
    "repeated": (
        PROFILES + "(id uuid references auth.users (id))",
        "profiles_key",
        "no unique index",
    ),
    "others": (
        "create table public.users (id uuid primary key);"
        + PROFILES
        + "(id uuid primary key references public.users (id))",
        "other_users",
        "refers to users in users",
    ),
    "others beside": (
        "create table public.users (id uuid primary key);"
        + PROFILES
        + "(id uuid primary key, user_id uuid unique references public.users (id))",
        "other_users",
        "refers to users in users",
    ),
    "default": (
        PROFILES + "(id uuid primary key default gen_random_uuid())",
        "profiles_id",
        "has a default",
    ),
    "several": (
        PROFILES + "(id uuid primary key, user_id uuid references auth.users (id))",
        "profiles_id",
        "make user_id unique",
    ),
    "no reference": (
        PROFILES + "(id uuid primary key)",
        "profiles_reference",
        "does not refer to auth.users",
    ),
    "lost": (
        LOST,
        "lost_profiles",
        "1 profiles .* no user's: 00000000-0000-4000-8000-000000000001",
    ),
    "nobody's": (NOBODYS, "lost_profiles", "1 profiles have no user_id: 00000000-"),
    "required": (
        "alter table public.profiles add referral text not null",
        "required_column",
        "requires referral",
    ),
    "credits": (
        "alter table public.profiles add credits numeric",
        "credits_column",
        "credits is numeric",
    ),
    "computed": (
        "alter table public.profiles add credits int generated always as (7) stored",
        "credits_column",
        "and computed; .* rename that column",
    ),
    "rule": (
        "alter table public.profiles add credits int check (credits >= 0)",
        "credits_rule",
        "profiles_credits_check CHECK",
    ),
    "transactions": (TRANSACTIONS, "transactions_shape", "user_id is missing"),
    "required by rows": (
        TRANSACTIONS.replace(")", ", stripe_id text not null)"),
        "transactions_shape",
        "requires stripe_id",
    ),
    "no key": (TRANSACTIONS.replace(" primary key", ""), "transactions_shape", "key is not id"),
    "no cascade": (TRANSACTIONS, "transactions_shape", "on delete cascade"),
    "no types": (TRANSACTIONS, "transactions_shape", "does not check that type"),
    "users": (
        "drop table public.profiles; drop table auth.users;"
        " create table auth.users (id bigint primary key)",
        "users_key",
        "auth.users.id is bigint",
    ),
    "caller": (
        "drop function auth.uid() cascade;"
        " create function auth.uid() returns text language sql return 'x'",
        "users_key",
        r"auth.uid\(\) returns text",
    ),
    "read-only": ("set transaction read only", "standby", "read-only"),
}
#: What a role may not do that is neither superuser nor owner.
RIGHTS = (
    "may not create schemas",
    "may not create tables in schema public",
    "does not own public.profiles",
    "may not references auth.users",
    "row level security on auth.users hides rows",
)


@pytest.fixture(scope="module")
def project(postgres_admin_url: str) -> Iterator[str]:
    """A Supabase project that fits, as superuser."""
    with supabase_database(postgres_admin_url) as url:
        yield url


@pytest.fixture
def connection(project: str) -> Iterator[psycopg.Connection]:
    """A connection in a transaction that is rolled back."""
    with psycopg.connect(project) as opened, opened.transaction(force_rollback=True):
        yield opened


def found(connection: psycopg.Connection) -> list[str]:
    return [f"{one.kind}: {one}" for one in preflight.obstacles(connection)]


def test_a_project_that_fits_is_not_objected_to(connection: psycopg.Connection) -> None:
    assert found(connection) == []


@pytest.mark.parametrize(("fault", "kind", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_misfits_are_named(
    connection: psycopg.Connection, fault: str, kind: str, words: str
) -> None:
    """By its kind, with what was found and what to do."""
    connection.execute(fault.encode())
    said = found(connection)
    assert [one for one in said if one.startswith(f"{kind}: ") and re.search(words, one)], said


@pytest.mark.parametrize(
    ("kind", "value", "is_whole"),
    [
        ("numeric", "2.0", True),
        ("numeric", "-7", True),
        ("numeric", "2.5", False),
        ("bigint", "2147483648", False),
        ("integer", "-2147483648", False),
        ("double precision", "'NaN'", False),
        ("text", "'12'", True),
        ("text", "'many'", False),
    ],
)
def test_balances_are_whole_numbers_of_32_bits(
    connection: psycopg.Connection, kind: str, value: str, *, is_whole: bool
) -> None:
    user = sign_up(connection)
    connection.execute(f"alter table public.profiles add credits {kind} default {value}".encode())
    connection.execute("insert into public.profiles (id) values (%s)", [user])
    assert any(one.startswith("credits_values: ") for one in found(connection)) is not is_whole


def test_rights_that_are_missing_are_all_named(connection: psycopg.Connection) -> None:
    """With the statements that give them."""
    connection.execute("create role nobody_much nologin")
    connection.execute("grant usage on schema auth, public to nobody_much")
    connection.execute("revoke create on schema public from public")
    connection.execute("set local role nobody_much")
    said = "\n".join(found(connection))
    for words in RIGHTS:
        assert f"role nobody_much {words}" in said or f"{words} from role nobody_much" in said
    assert "grant references on auth.users to nobody_much" in said


def test_a_schema_that_is_closed_is_all_that_can_be_said(connection: psycopg.Connection) -> None:
    """A role that may not look into it would take it for empty."""
    connection.execute("create role nobody_at_all nologin")
    connection.execute("set local role nobody_at_all")
    (said,) = found(connection)
    assert "may not use schema auth" in said


def test_a_postgres_that_is_too_old_is_refused(
    connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "VERSION_MIN", 990_000)
    (said,) = found(connection)
    assert said.startswith("server_version: Postgres is ")
    assert said.endswith("upgrade it to 99 or later")


@pytest.mark.parametrize(
    "column",
    [
        "numeric(5,2) not null default 12.0 check (credits >= 0)",
        "text default '12' check (credits <> '')",
        "bigint default 12",
    ],
)
def test_credits_of_another_type_are_adopted(postgres_admin_url: str, column: str) -> None:
    """They become integers, and their rule goes; without --adopt nothing does."""
    with (
        supabase_database(postgres_admin_url) as url,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        user = sign_up(connection)
        connection.execute(f"alter table public.profiles add credits {column}".encode())
        connection.execute("insert into public.profiles (id) values (%s)", [user])
        with pytest.raises(UnfitDatabaseError, match="--adopt"):
            Migrator(as_project_owner(url)).apply()
        Migrator(as_project_owner(url)).apply(adopt=True)
        assert balance(connection, user) == (12, 1)
        assert balance(connection, sign_up(connection)) == (3, 1)


def test_an_adoption_that_postgres_refuses_is_an_error(postgres_admin_url: str) -> None:
    """As where a view shows the column: it says so, and nothing was changed."""
    with (
        supabase_database(postgres_admin_url) as url,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        connection.execute("alter table public.profiles add credits bigint")
        connection.execute("create view public.shown as select credits from public.profiles")
        with pytest.raises(MigrationError, match=r"adoption of credits_column: .* used by a view"):
            Migrator(as_project_owner(url)).apply(adopt=True)
        assert Migrator(as_project_owner(url)).obstacles() != []
