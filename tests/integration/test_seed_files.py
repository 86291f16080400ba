"""The seed's own migration is the first one, to the letter, and its second file is shipped."""

import re
from collections.abc import Iterator
from contextlib import closing
from importlib.resources import files

import psycopg
import pytest
from psycopg import sql

from faregate.adapters.postgres.audit import PostgresAudit
from faregate.adapters.postgres.migration_files import migrations
from faregate.adapters.postgres.migrations import Migrator
from integration.pg_helpers import (
    acting_as,
    as_project_owner,
    balance,
    history,
    sign_up,
    supabase_database,
)

pytestmark = pytest.mark.postgres

#: The SQL of the seed's text, byte by byte.
PROFILES = """\
ALTER TABLE public.profiles
ADD COLUMN credits INTEGER NOT NULL DEFAULT 3;
"""
TRANSACTIONS = """\
CREATE TABLE public.credit_transactions (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id UUID NOT NULL REFERENCES auth.users(id) ON DELETE CASCADE,
  amount INTEGER NOT NULL,
  type TEXT NOT NULL CHECK (type IN ('deduct', 'add', 'refund', 'admin_adjustment')),
  description TEXT NOT NULL,
  metadata JSONB,
  timestamp TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  created_at TIMESTAMPTZ NOT NULL DEFAULT NOW()
);
"""
FIRST = migrations()[0]
SEED = files("faregate.adapters.postgres") / "local" / "supabase_seed.sql"
TABLES = ("public.profiles", "public.credit_transactions")
ALL = ("column", "constraint", "index", "policy", "security")
#: What a table is, in the words of the catalogue.
SHAPE = sql.SQL("""
select 'column', attname::text, format_type(atttypid, atttypmod) || ' ' || attnotnull::text,
    pg_get_expr(d.adbin, d.adrelid)
from pg_attribute left join pg_attrdef as d on d.adrelid = attrelid and d.adnum = attnum
where attrelid = {0}::regclass and attnum > 0 and not attisdropped
union all
select 'constraint', conname::text, pg_get_constraintdef(oid), convalidated::text
from pg_constraint where conrelid = {0}::regclass and contype <> 'n'
union all
select 'index', indexrelid::regclass::text, pg_get_indexdef(indexrelid), indisvalid::text
from pg_index where indrelid = {0}::regclass
union all
select 'policy', polname::text, polcmd::text || polpermissive::text || polroles::regrole[]::text,
    concat(pg_get_expr(polqual, polrelid), ' / ', pg_get_expr(polwithcheck, polrelid))
from pg_policy where polrelid = {0}::regclass
union all
select 'security', relrowsecurity::text, relforcerowsecurity::text, relacl::text
from pg_class where oid = {0}::regclass
order by 1, 2
""")


@pytest.fixture
def url(postgres_admin_url: str) -> Iterator[str]:
    """A Supabase project that has never heard of credits, as superuser."""
    with supabase_database(postgres_admin_url) as database:
        yield database


@pytest.fixture
def connection(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url, autocommit=True) as opened:
        yield opened


def shape(
    connection: psycopg.Connection, table: str, *kinds: str
) -> list[tuple[str, str, str, str]]:
    rows = connection.execute(SHAPE.format(sql.Literal(table))).fetchall()
    return [row for row in rows if row[0] in kinds]


def run(connection: psycopg.Connection, text: str) -> None:
    with acting_as(connection, "project_owner"):
        connection.execute(text.encode())


def plain(text: str) -> str:
    """A statement without what does not count: case, blanks, and whether it may be run again."""
    return re.sub(r"\s+|if not exists", "", text.lower())


def test_the_statements_of_the_seed_are_those_of_the_first_migration() -> None:
    """But for case, blanks, and `if not exists`, since it is safe to run it many times."""
    assert FIRST.name == "20250211000000_add_credit_system.sql"
    for statement in (PROFILES, TRANSACTIONS):
        assert plain(statement) in plain(FIRST.sql)


def test_the_first_migration_makes_the_tables_of_the_seed(connection: psycopg.Connection) -> None:
    """Columns, defaults, checks and keys, by their names: it finds nothing to change."""
    run(connection, PROFILES + TRANSACTIONS)
    kinds = ("column", "constraint")
    seeds = {name: shape(connection, name, *kinds) for name in TABLES}
    run(connection, FIRST.sql)
    assert {name: shape(connection, name, *kinds) for name in TABLES} == seeds
    run(connection, "drop table public.credit_transactions")
    run(connection, "alter table public.profiles drop column credits")
    run(connection, FIRST.sql)
    assert {name: shape(connection, name, *kinds) for name in TABLES} == seeds


def test_the_file_for_local_development_makes_what_the_first_migration_makes(
    url: str, connection: psycopg.Connection
) -> None:
    """On a fresh local project, twice, and `faregate migrate` goes on from there."""
    run(connection, FIRST.sql)
    expected = shape(connection, "public.credit_transactions", *ALL)
    index = shape(connection, "public.profiles", "index")[0:1]
    run(connection, "drop table public.credit_transactions, public.profiles")
    run(connection, "drop function public.handle_new_user() cascade")
    for _ in range(2):
        run(connection, SEED.read_text("utf-8"))
    assert shape(connection, "public.credit_transactions", *ALL) == expected
    assert index[0] in shape(connection, "public.profiles", "index")
    first = sign_up(connection)
    assert connection.execute("select credits from public.profiles").fetchall() == [(3,)]
    Migrator(as_project_owner(url)).apply()
    for user in (first, sign_up(connection)):
        assert balance(connection, user) == (3, 1)
        assert history(connection, user) == [(1, "add", 3, 3, 0)]
    with closing(PostgresAudit(url)) as audit:
        assert audit.verify() == []
