"""The layouts of a migrated database, and what the migrations make in all or some of them."""

from collections.abc import Iterator, Set

import psycopg

from faregate.adapters.postgres.migration_files import migrations
from faregate.adapters.postgres.migrations import Migrator
from faregate.adapters.postgres.roles import roles_sql
from faregate.adapters.postgres.schema import Expected, Fact, read_facts
from integration.pg_helpers import as_project_owner, cloned_database, supabase_database
from servers import EMPTY

#: An application that makes its profiles itself, so that no migration does.
OWN_PROFILES = """
create function public.handle_new_user() returns trigger language plpgsql as
$$ begin return new; end $$
"""


def facts(connection: psycopg.Connection) -> Set[Fact]:
    """The facts of a database."""
    with connection.transaction():
        return read_facts(connection)[0]


def layouts(admin_url: str) -> Iterator[Set[Fact]]:
    """The facts of each layout: plain, with all roles, and pushed to Supabase."""
    with cloned_database(admin_url, EMPTY) as url:
        Migrator(url).apply()
        with psycopg.connect(url, autocommit=True) as connection:
            yield facts(connection)
            connection.execute(roles_sql().encode())
            yield facts(connection)
    with (
        supabase_database(admin_url) as url,
        psycopg.connect(as_project_owner(url), autocommit=True) as connection,
    ):
        connection.execute(OWN_PROFILES)
        for migration in migrations():
            with connection.transaction():
                connection.execute(migration.sql.encode())
        yield facts(connection)


def made_by_migrations(admin_url: str) -> Expected:
    """What is in every layout, and in any. Roles are of the cluster: none is required."""
    found = [frozenset(layout) for layout in layouts(admin_url)]
    common = frozenset.intersection(*found)
    return Expected(
        required=frozenset(fact for fact in common if fact.kind != "role"),
        allowed=frozenset.union(*found),
    )
