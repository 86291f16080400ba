"""Migrations on databases that had a life before, run by a role like Supabase's `postgres`."""

from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import make_conninfo

from faregate.adapters.postgres.migration_files import migrations
from faregate.adapters.postgres.migrations import Migrator
from faregate.cli.servers import EmbeddedServers
from faregate.domain.errors import MigrationError, UnfitDatabaseError
from faregate.domain.transaction import CREDITS_MAX, CreditTransactionId
from integration.pg_helpers import (
    SEED_SQL,
    acting_as,
    as_project_owner,
    balance,
    delete_user,
    history,
    insert_by_hand,
    sign_up,
    supabase_database,
)

pytestmark = pytest.mark.postgres

FOREIGN_HANDLER = """
create function public.handle_new_user() returns trigger language plpgsql
security definer set search_path = '' as $$
begin
    insert into public.profiles (id, username) values (new.id, 'user ' || new.id);
    return new;
end
$$;
create trigger on_auth_user_created after insert on auth.users
for each row execute function public.handle_new_user();
"""


@pytest.fixture
def url(postgres_admin_url: str) -> Iterator[str]:
    """A Supabase project that has never heard of credits, as superuser."""
    with supabase_database(postgres_admin_url) as database:
        yield database


@pytest.fixture
def connection(url: str) -> Iterator[psycopg.Connection]:
    """A superuser's connection to it."""
    with psycopg.connect(url, autocommit=True) as opened:
        yield opened


def migrate(url: str) -> None:
    """Migrate as who owns the project."""
    Migrator(as_project_owner(url)).apply()


def seed(connection: psycopg.Connection) -> None:
    """Do what the seed's own migration did."""
    with acting_as(connection, "project_owner"):
        connection.execute(SEED_SQL.encode())


def profile(connection: psycopg.Connection, credits_before: int, *amounts: int) -> UUID:
    """Make a user of a seeded database with a balance and rows of these amounts."""
    user = sign_up(connection)
    connection.execute(
        "insert into public.profiles (id, credits) values (%s, %s)", [user, credits_before]
    )
    for amount in amounts:
        insert_by_hand(connection, user, amount, "deduct" if amount < 0 else "add")
    return user


def total(connection: psycopg.Connection, user: UUID) -> int:
    """What a user's rows add up to, those without a place included."""
    row = connection.execute(
        "select coalesce(sum(amount), 0) from public.credit_transactions where user_id = %s", [user]
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_users_and_profiles_from_before_start_with_3_credits(
    url: str, connection: psycopg.Connection
) -> None:
    """With a profile or without one: nobody is skipped, and everybody has a starting row."""
    with_profile, without = sign_up(connection), sign_up(connection)
    connection.execute("insert into public.profiles (id) values (%s)", [with_profile])
    migrate(url)
    for user in (with_profile, without):
        assert balance(connection, user) == (3, 1)
        assert history(connection, user) == [(1, "add", 3, 3, 0)]
        ids = connection.execute(
            "select id from public.credit_transactions where user_id = %s", [user]
        )
        assert ids.fetchall() == [(CreditTransactionId.derive("starting", user).value,)]


@pytest.mark.parametrize(
    ("credits_before", "amounts", "opening"),
    [
        pytest.param(3, [], [(1, "add", 3, 3, 0)], id="untouched"),
        pytest.param(2, [-1], [(1, "add", 3, 2, 0)], id="the seed's users have no starting row"),
        pytest.param(5, [3, 2], [], id="exact already"),
        pytest.param(1, [3], [(1, "admin_adjustment", -2, 1, 0)], id="rows are missing"),
        pytest.param(0, [], [], id="nothing to tell"),
        pytest.param(-4, [], [(1, "admin_adjustment", -4, -4, 0)], id="below zero"),
    ],
)
def test_old_balances_become_the_sum_of_rows(
    url: str,
    connection: psycopg.Connection,
    credits_before: int,
    amounts: list[int],
    opening: list[tuple[object, ...]],
) -> None:
    """One opening row a user takes the difference; old rows stay as they are; no balance moves."""
    seed(connection)
    user = profile(connection, credits_before, *amounts)
    migrate(url)
    assert balance(connection, user) == (credits_before, len(opening))
    assert history(connection, user) == opening
    assert total(connection, user) == credits_before
    purpose = "opening" if amounts else "starting"
    derived = CreditTransactionId.derive(purpose, user).value
    placed = connection.execute(
        "select id from public.credit_transactions where user_id = %s and sequence = 1", [user]
    )
    assert placed.fetchall() == [(derived,)] * len(opening)


def test_an_upgrade_happens_once(url: str, connection: psycopg.Connection) -> None:
    """A row made by hand later is for a reconciliation to find, not for a migration to hide."""
    seed(connection)
    user = profile(connection, 0)
    migrate(url)
    with acting_as(connection, "service_role"):
        insert_by_hand(connection, user, 5, "add")
    connection.execute("delete from faregate.migrations")
    migrate(url)
    assert balance(connection, user) == (0, 0)
    assert history(connection, user) == []


def test_an_upgrade_that_cannot_be_exact_changes_nothing(
    url: str, connection: psycopg.Connection
) -> None:
    """A difference that no row can hold is an error, not a wrong row."""
    seed(connection)
    user = profile(connection, -CREDITS_MAX, CREDITS_MAX, CREDITS_MAX)
    with pytest.raises(UnfitDatabaseError, match=f"1 balances differ .* row can hold: {user}"):
        migrate(url)
    assert total(connection, user) == 2 * CREDITS_MAX


def test_a_column_that_was_nullable_is_filled(url: str, connection: psycopg.Connection) -> None:
    """The seed's backfill: existing profiles get 3 credits, those that have moved keep theirs."""
    connection.execute("alter table public.profiles add column credits integer")
    empty, moved = sign_up(connection), sign_up(connection)
    connection.execute(
        "insert into public.profiles (id, credits) values (%s, null), (%s, 1)", [empty, moved]
    )
    migrate(url)
    assert balance(connection, empty) == (3, 1)
    assert balance(connection, moved) == (1, 1)


def test_a_sign_up_function_of_the_application_is_not_changed(
    url: str, connection: psycopg.Connection
) -> None:
    """It makes the profile as ever; our triggers on profiles do the rest."""
    with acting_as(connection, "project_owner"):
        connection.execute(FOREIGN_HANDLER.encode())
    source = "select prosrc from pg_proc where oid = 'public.handle_new_user()'::regprocedure"
    before = connection.execute(source).fetchone()
    migrate(url)
    user = sign_up(connection)
    assert connection.execute(source).fetchone() == before
    assert history(connection, user) == [(1, "add", 3, 3, 0)]


def test_a_sign_up_trigger_of_another_name_is_not_doubled(
    url: str, connection: psycopg.Connection
) -> None:
    """Two triggers that make a profile would make every sign-up fail."""
    with acting_as(connection, "project_owner"):
        connection.execute(
            FOREIGN_HANDLER.replace("handle_new_user", "make_profile")
            .replace("on_auth_user_created", "zz_make_profile")
            .encode()
        )
    migrate(url)
    assert history(connection, sign_up(connection)) == [(1, "add", 3, 3, 0)]


def test_profiles_that_we_could_not_make_are_refused(
    url: str, connection: psycopg.Connection
) -> None:
    """Better no migration than a sign-up that fails."""
    connection.execute("alter table public.profiles alter username set not null")
    with pytest.raises(MigrationError, match=r"requires username.*handle_new_user"):
        migrate(url)


def test_a_role_that_sees_no_users_may_not_migrate(
    url: str, connection: psycopg.Connection
) -> None:
    """Everybody would look deleted: the verification raises instead."""
    connection.execute("alter role project_owner nobypassrls")
    try:
        with pytest.raises(MigrationError, match="BYPASSRLS"):
            migrate(url)
    finally:
        connection.execute("alter role project_owner bypassrls")


def test_nothing_of_ours_is_in_schema_auth(url: str, connection: psycopg.Connection) -> None:
    """On Supabase only the trigger, which is allowed."""
    objects = (
        "select oid::regclass::text from pg_class where relnamespace = 'auth'::regnamespace"
        " union select oid::regprocedure::text from pg_proc"
        " where pronamespace = 'auth'::regnamespace order by 1"
    )
    before = connection.execute(objects).fetchall()
    migrate(url)
    assert connection.execute(objects).fetchall() == before


def test_the_files_alone_are_enough(url: str, connection: psycopg.Connection) -> None:
    """As `supabase db push` sends them: no runner, twice, and the runner comes later."""
    for _ in range(2):
        for migration in migrations():
            with acting_as(connection, "project_owner"):
                connection.execute(migration.sql.encode())
    user = sign_up(connection)
    migrate(url)
    assert balance(connection, user) == (3, 1)
    delete_user(connection, user)
    assert total(connection, user) == 0


def test_the_roles_are_made_by_an_owner_that_is_no_superuser(
    own_servers: EmbeddedServers,
) -> None:
    """On a cluster of its own, where no other database has made them."""
    with supabase_database(own_servers.postgres_url) as database:
        migrate(database)
        with psycopg.connect(as_project_owner(database), autocommit=True) as owner:
            for role in ("faregate_api", "faregate_worker", "faregate_reader"):
                owner.execute(f"set role {role}".encode())
                owner.execute("reset role")
        # Whoever connects may take on a role by an option of the connection.
        worker = make_conninfo(database, options="-c role=faregate_worker")
        with psycopg.connect(worker, autocommit=True) as connection:
            assert connection.execute("select * from faregate.balances").fetchall() == []
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute("select * from auth.users")
