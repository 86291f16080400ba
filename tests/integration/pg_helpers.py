"""What the tests of the schema share: databases of two flavours, and acting as somebody."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID, uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

#: Stands for Supabase's `postgres`: no superuser, and not subject to row level security.
PROJECT_OWNER = "project_owner"

#: What a Supabase project is like before Faregate comes, as far as Faregate meets it: tables of
#: Supabase Auth that are somebody else's, default privileges for everybody, and the profiles of
#: the usual tutorial.
_SUPABASE_ROLES = {
    "anon": "",
    "authenticated": "",
    "service_role": "bypassrls",
    "supabase_auth_admin": "createrole",
    PROJECT_OWNER: "createrole bypassrls",
}
_SUPABASE_SQL = """
create schema auth authorization supabase_auth_admin;
grant usage on schema auth to anon, authenticated, service_role, project_owner;

create function auth.uid() returns uuid language sql stable as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim.sub', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
    )::uuid
$$;
alter function auth.uid() owner to supabase_auth_admin;

create table auth.users (
    id uuid primary key,
    aud varchar(255),
    email varchar(255),
    created_at timestamptz
);
alter table auth.users owner to supabase_auth_admin;
alter table auth.users enable row level security;
grant select on auth.users to project_owner with grant option;
grant insert, update, delete, truncate, references, trigger on auth.users to project_owner;

grant all on schema public to project_owner;
alter default privileges for role project_owner in schema public
grant all on tables to anon, authenticated, service_role;
alter default privileges for role project_owner in schema public
grant all on functions to anon, authenticated, service_role;

set role project_owner;
create table public.profiles (
    id uuid not null primary key references auth.users on delete cascade,
    username text unique,
    updated_at timestamptz
);
alter table public.profiles enable row level security;
create policy "Public profiles are viewable by everyone." on public.profiles
for select using (true);
create policy "Users can insert their own profile." on public.profiles
for insert with check ((select auth.uid()) = id);
create policy "Users can update own profile." on public.profiles
for update using ((select auth.uid()) = id);
reset role;
"""
#: The seed's own migration, as its text shows it.
SEED_SQL = """
alter table public.profiles add column credits integer not null default 3;
create table public.credit_transactions (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references auth.users (id) on delete cascade,
    amount integer not null,
    type text not null check (type in ('deduct', 'add', 'refund', 'admin_adjustment')),
    description text not null,
    metadata jsonb,
    timestamp timestamptz not null default now(),
    created_at timestamptz not null default now()
);
"""


@contextmanager
def supabase_database(admin_url: str) -> Iterator[str]:
    """A database like a Supabase project, as superuser; dropped afterwards."""
    with psycopg.connect(admin_url, autocommit=True) as admin:
        for role, attributes in _SUPABASE_ROLES.items():
            _create_role(admin, role, attributes)
        # Supabase's `postgres` may take on the roles of the API, and not let others do so.
        admin.execute(f"grant anon, authenticated, service_role to {PROJECT_OWNER}".encode())
    with cloned_database(admin_url, "template0") as url:
        with psycopg.connect(url) as connection:
            connection.execute(_SUPABASE_SQL)
        yield url


@contextmanager
def cloned_database(admin_url: str, template: str) -> Iterator[str]:
    """A copy of a database that nobody is connected to; dropped afterwards."""
    name = sql.Identifier(f"test_{uuid4().hex}")
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(
            sql.SQL("create database {} template {}").format(name, sql.Identifier(template))
        )
        try:
            if admin.execute("select to_regrole(%s)", [PROJECT_OWNER]).fetchone() != (None,):
                admin.execute(
                    sql.SQL("grant create, temporary on database {} to {}").format(
                        name, sql.Identifier(PROJECT_OWNER)
                    )
                )
            yield make_conninfo(admin_url, dbname=name.as_string().strip('"'))
        finally:
            admin.execute(sql.SQL("drop database {} with (force)").format(name))


def _create_role(admin: psycopg.Connection, role: str, attributes: str) -> None:
    if admin.execute("select to_regrole(%s) is null", [role]).fetchone() == (True,):
        admin.execute(sql.SQL("create role {} nologin noinherit").format(sql.Identifier(role)))
    if attributes:
        admin.execute(f"alter role {role} {attributes}".encode())


def name_of(url: str) -> str:
    """The name of a database."""
    return str(conninfo_to_dict(url)["dbname"])


def as_project_owner(url: str) -> str:
    """The same database, for who migrates a Supabase project."""
    return make_conninfo(url, options=f"-c role={PROJECT_OWNER}")


@contextmanager
def acting_as(
    connection: psycopg.Connection, role: str, user: UUID | None = None
) -> Iterator[psycopg.Connection]:
    """Be a role for one transaction, and a user of the API as Supabase tells the database.

    Within another transaction it is a savepoint, so what it sets is undone at its end.
    """
    with connection.transaction():
        connection.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
        claims = json.dumps({"sub": str(user), "role": role}) if user else ""
        connection.execute("select set_config('request.jwt.claims', %s, true)", [claims])
        yield connection
        connection.execute("set local role none")
        connection.execute("select set_config('request.jwt.claims', '', true)")


def sign_up(connection: psycopg.Connection) -> UUID:
    """Make a user as Supabase Auth does."""
    user = uuid4()
    with acting_as(connection, "supabase_auth_admin"):
        connection.execute("insert into auth.users (id) values (%s)", [user])
    return user


def delete_user(connection: psycopg.Connection, user: UUID) -> None:
    """Delete a user as Supabase Auth does."""
    with acting_as(connection, "supabase_auth_admin"):
        connection.execute("delete from auth.users where id = %s", [user])


def balance(connection: psycopg.Connection, user: UUID) -> tuple[int, int] | None:
    """A user's durable credits and their sequence, or None without a profile."""
    return connection.execute(
        "select credits, credits_sequence from public.profiles where id = %s", [user]
    ).fetchone()


def history(connection: psycopg.Connection, user: UUID) -> list[tuple[object, ...]]:
    """A user's transactions that have a place: sequence, type, amount, balance after, epoch."""
    return connection.execute(
        "select sequence, type, amount, balance_after, epoch from public.credit_transactions"
        " where user_id = %s and sequence is not null order by sequence",
        [user],
    ).fetchall()


def insert_by_hand(connection: psycopg.Connection, user: UUID, amount: int, kind: str) -> None:
    """Insert a row that has no place in the history, as the seed allows service_role to."""
    connection.execute(
        "insert into public.credit_transactions (user_id, amount, type, description)"
        " values (%s, %s, %s, 'by hand')",
        [user, amount, kind],
    )
