"""What the roles of Faregate may do, and nobody else."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo

from faregate.adapters.postgres.migrations import Migrator
from faregate.cli.servers import EmbeddedServers
from integration.pg_helpers import (
    acting_as,
    as_project_owner,
    balance,
    cloned_database,
    delete_user,
    insert_by_hand,
    name_of,
    sign_up,
    supabase_database,
)

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def project(postgres_admin_url: str) -> Iterator[str]:
    """The name of a migrated Supabase project, to be cloned."""
    with supabase_database(postgres_admin_url) as url:
        Migrator(as_project_owner(url)).apply()
        yield name_of(url)


@pytest.fixture
def supabase(postgres_admin_url: str, project: str) -> Iterator[psycopg.Connection]:
    """A superuser's connection to a migrated Supabase project."""
    with (
        cloned_database(postgres_admin_url, project) as url,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        yield connection


def test_the_worker_can_do_its_work_and_no_more(supabase: psycopg.Connection) -> None:
    """Copy, insert, project, keep dead letters, ask who exists; not read what was not granted."""
    user, gone = sign_up(supabase), uuid4()
    with acting_as(supabase, "faregate_worker"):
        supabase.execute(
            "create temporary table batch (id uuid, user_id uuid, amount integer, type text,"
            " description text, sequence bigint, balance_after integer, epoch bigint)"
            " on commit drop"
        )
        with supabase.cursor().copy("copy batch from stdin") as copy:
            copy.write_row([uuid4(), user, -1, "deduct", "request", 2, 2, 1])
        inserted = supabase.execute(
            "insert into public.credit_transactions"
            " (id, user_id, amount, type, description, sequence, balance_after, epoch)"
            " select * from batch on conflict (id) do nothing returning amount"
        ).fetchall()
        supabase.execute(
            "insert into faregate.dead_letters"
            " (shard, stream_id, kind, reason, payload, payload_digest)"
            " values (0, '1-1', 'unreadable', 'no version', 'x', sha256('x'))"
            " on conflict (shard, stream_id, payload_digest) do nothing"
        )
        existing = supabase.execute(
            "select user_id from faregate.users_existing(%s)", [[user, gone]]
        ).fetchall()
    assert inserted == [(-1,)]
    assert existing == [(user,)]
    for statement in (
        "update faregate.ledger set epoch = 2",
        "delete from faregate.dead_letters",
        "update public.profiles set username = 'x'",
        "select * from auth.users",
    ):
        with (
            pytest.raises(errors.InsufficientPrivilege),
            acting_as(supabase, "faregate_worker"),
        ):
            supabase.execute(statement.encode())


def test_the_api_reads_and_writes_nothing(supabase: psycopg.Connection) -> None:
    """Under row level security a grant alone would show nothing."""
    user = sign_up(supabase)
    with acting_as(supabase, "faregate_api"):
        for table in ("faregate.balances", "public.credit_transactions", "faregate.ledger"):
            query = sql.SQL("select * from {}").format(sql.Identifier(*table.split(".")))
            assert supabase.execute(query).fetchone() is not None
    for statement in (
        "insert into faregate.dead_letters (shard, stream_id, kind, reason, payload)"
        " values (0, '1-1', 'unreadable', 'no version', 'x')",
        "update public.profiles set credits = 1000",
        "update faregate.ledger set epoch = 2",
    ):
        with pytest.raises(errors.InsufficientPrivilege), acting_as(supabase, "faregate_api"):
            supabase.execute(statement.encode())
    assert balance(supabase, user) == (3, 1)


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
def test_the_private_schema_is_closed(supabase: psycopg.Connection, role: str) -> None:
    """Nobody who comes through the API of Supabase sees or calls anything in it."""
    for statement in (
        "select * from faregate.ledger",
        "select faregate.user_exists(gen_random_uuid())",
        "select * from faregate.open_user(gen_random_uuid(), true)",
    ):
        with pytest.raises(errors.InsufficientPrivilege), acting_as(supabase, role, uuid4()):
            supabase.execute(statement.encode())


def test_definer_functions_are_not_for_everybody(supabase: psycopg.Connection) -> None:
    """Every function that acts as its owner fixes its search path and is granted by name."""
    found = supabase.execute(
        "select p.proname, p.proconfig, has_function_privilege('anon', p.oid, 'execute')"
        " from pg_proc as p join pg_namespace as n on p.pronamespace = n.oid"
        " where n.nspname in ('faregate', 'public') and p.prosecdef"
    ).fetchall()
    assert len(found) >= 8
    assert [row for row in found if row[1:] != (['search_path=""'], False)] == []


@pytest.mark.parametrize("attribute", ["createrole", "nocreaterole"])
def test_an_owner_that_is_subject_to_row_level_security_can_run_a_plain_database(
    own_servers: EmbeddedServers, attribute: str
) -> None:
    """A managed Postgres may give no superuser and no BYPASSRLS: forced policies name the owner."""
    admin_url = own_servers.postgres_url
    if attribute == "nocreaterole":
        # Somebody has made the roles of the cluster for it, and it is a member of none.
        Migrator(admin_url).apply()
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(f"create role modest_owner nologin {attribute}".encode())
    with cloned_database(admin_url, "template0") as url:
        with psycopg.connect(url, autocommit=True) as connection:
            owner = sql.SQL("alter database {} owner to modest_owner")
            connection.execute(owner.format(sql.Identifier(name_of(url))))
        Migrator(make_conninfo(url, options="-c role=modest_owner")).apply()
        with psycopg.connect(url, autocommit=True) as connection:
            user = sign_up(connection)
            with acting_as(connection, "service_role"):
                insert_by_hand(connection, user, 1, "add")
            assert balance(connection, user) == (3, 1)
            with (
                pytest.raises(errors.RestrictViolation),
                acting_as(connection, "modest_owner"),
            ):
                connection.execute("truncate public.credit_transactions")
            delete_user(connection, user)
            left = connection.execute("select count(*) from public.credit_transactions")
            assert left.fetchone() == (0,)
