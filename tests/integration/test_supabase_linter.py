"""Supabase's public linter finds nothing of ours in a project; its rules are in the .sql beside."""

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from faregate.adapters.postgres.migrations import Migrator
from faregate.adapters.postgres.roles import roles_sql
from integration.pg_helpers import as_project_owner, cloned_database, name_of, supabase_database

pytestmark = pytest.mark.postgres

TEXT = Path(__file__).with_name("supabase_linter.sql").read_text("utf-8")
RULES = dict(re.findall(r"^-- name: (\w+)\n(.*?;)$", TEXT, re.DOTALL | re.MULTILINE))

#: What each rule must find: mistakes that could be made in a migration of ours.
MISTAKES = {
    "auth_rls_initplan": (
        "create policy slow on public.credit_transactions for select to anon"
        " using (auth.uid() = user_id)"
    ),
    "multiple_permissive_policies": (
        "create policy another on public.profiles for update to faregate_worker using (true)"
    ),
    "rls_disabled_in_public": "create table public.open_to_all (id integer)",
    "policy_exists_rls_disabled": (
        "alter table public.credit_transactions disable row level security"
    ),
    "permissive_rls_policy": (
        "create policy everything on public.credit_transactions for select to anon using (true)"
    ),
    "function_search_path_mutable": ("alter function faregate.user_exists(uuid) reset search_path"),
    "security_definer_function_executable": (
        "grant execute on function public.handle_new_user() to authenticated"
    ),
    "security_definer_view": "grant select on faregate.balances to anon",
    "auth_users_exposed": (
        "create view public.people as select id from auth.users;"
        " grant select on public.people to anon"
    ),
    "duplicate_index": "create index again on public.credit_transactions (type)",
    "unindexed_foreign_keys": (
        "create table faregate.kept (user_id uuid references auth.users (id))"
    ),
}


def lint(connection: psycopg.Connection, rule: str) -> set[str]:
    """The objects that a rule names. Its caller's path shows the schema of each."""
    with connection.transaction():
        connection.execute("set local search_path = ''")
        return {str(row[0]) for row in connection.execute(RULES[rule].encode()).fetchall()}


@pytest.fixture(scope="module")
def project(postgres_admin_url: str) -> Iterator[tuple[str, dict[str, set[str]]]]:
    """A Supabase project with all roles, and what the linter says of it without Faregate."""
    with supabase_database(postgres_admin_url) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            # Two of the rules name its schema.
            connection.execute("create schema faregate authorization project_owner")
            before = {rule: lint(connection, rule) for rule in RULES}
        Migrator(as_project_owner(url)).apply()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(roles_sql().encode())
        yield name_of(url), before


@pytest.fixture
def connection(
    postgres_admin_url: str, project: tuple[str, dict[str, set[str]]]
) -> Iterator[psycopg.Connection]:
    """A superuser's connection to it."""
    with cloned_database(postgres_admin_url, project[0]) as url, psycopg.connect(url) as opened:
        yield opened


@pytest.mark.parametrize("rule", RULES)
def test_the_linter_finds_nothing_of_ours(
    connection: psycopg.Connection, project: tuple[str, dict[str, set[str]]], rule: str
) -> None:
    """More than before the migrations; and it does find a mistake."""
    before = project[1][rule]
    assert lint(connection, rule) - before == set()
    connection.execute(MISTAKES[rule].encode())
    assert len(lint(connection, rule) - before) > 0
    connection.rollback()
