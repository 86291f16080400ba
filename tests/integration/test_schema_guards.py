"""What the schema guards beyond the seed: balances, and the shape of transactions."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors

from faregate.adapters.postgres.migrations import Migrator
from faregate.domain.transaction import CREDITS_MAX
from integration.pg_helpers import (
    PROJECT_OWNER,
    acting_as,
    as_project_owner,
    balance,
    cloned_database,
    delete_user,
    history,
    insert_by_hand,
    name_of,
    sign_up,
    supabase_database,
)

pytestmark = pytest.mark.postgres

SET_CREDITS = "update public.profiles set credits = 1000 where id = %s"
SET_SEQUENCE = "update public.profiles set credits_sequence = 1000 where id = %s"


@pytest.fixture
def plain(database_url: str) -> Iterator[psycopg.Connection]:
    """A superuser's connection to a migrated plain database."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


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


@pytest.mark.parametrize("statement", [SET_CREDITS, SET_SEQUENCE], ids=["credits", "sequence"])
@pytest.mark.parametrize("role", ["authenticated", "service_role"])
def test_no_user_can_set_credits_through_the_api(
    supabase: psycopg.Connection, role: str, statement: str
) -> None:
    """A user with an own-profile UPDATE policy cannot set its credits; nor the service role."""
    user = sign_up(supabase)
    with acting_as(supabase, role, user):
        changed = supabase.execute(
            "update public.profiles set username = 'x' where id = %s", [user]
        )
        assert changed.rowcount == 1
    with (
        pytest.raises(errors.InsufficientPrivilege, match="may not write credits"),
        acting_as(supabase, role, user),
    ):
        supabase.execute(statement.encode(), [user])
    assert balance(supabase, user) == (3, 1)


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
def test_profiles_cannot_be_truncated_even_with_all_rights(
    supabase: psycopg.Connection, role: str
) -> None:
    """No policy is asked then; so the table itself refuses."""
    user = sign_up(supabase)
    supabase.execute("grant all on public.profiles to anon, authenticated, service_role")
    with (
        pytest.raises(errors.InsufficientPrivilege, match="write credits"),
        acting_as(supabase, role),
    ):
        supabase.execute("truncate public.profiles")
    assert balance(supabase, user) == (3, 1)


def test_an_upsert_of_the_own_profile_does_not_set_credits(supabase: psycopg.Connection) -> None:
    """The API of Supabase makes upserts of whole objects: the name changes, the credits do not."""
    user = sign_up(supabase)
    with acting_as(supabase, "authenticated", user):
        supabase.execute(
            "insert into public.profiles (id, username, credits) values (%s, 'x', 1000)"
            " on conflict (id) do update"
            " set username = excluded.username, credits = excluded.credits",
            [user],
        )
    assert balance(supabase, user) == (3, 1)


def test_a_first_profile_does_not_choose_its_credits(supabase: psycopg.Connection) -> None:
    """Where the app makes profiles itself, its user may insert any number, and starts like all."""
    supabase.execute("alter table auth.users disable trigger on_auth_user_created")
    user = sign_up(supabase)
    with acting_as(supabase, "authenticated", user):
        supabase.execute(
            "insert into public.profiles (id, credits, credits_sequence) values (%s, 1000, 9)",
            [user],
        )
    assert balance(supabase, user) == (3, 1)
    assert history(supabase, user) == [(1, "add", 3, 3, 0)]


def test_a_profile_that_is_made_again_has_the_sum_of_its_rows(
    supabase: psycopg.Connection,
) -> None:
    """Whatever an insert names, and however often: the sum of the rows, no new start."""
    user = sign_up(supabase)
    with acting_as(supabase, "faregate_worker"):
        supabase.execute(
            "insert into public.credit_transactions"
            " (user_id, amount, type, description, sequence, balance_after, epoch)"
            " values (%s, -2, 'deduct', 'request', 2, 1, 1)",
            [user],
        )
    with acting_as(supabase, "service_role"):
        supabase.execute("delete from public.profiles where id = %s", [user])
    with acting_as(supabase, "authenticated", user):
        supabase.execute("insert into public.profiles (id, credits) values (%s, 1000)", [user])
    assert balance(supabase, user) == (1, 2)
    assert [row[0] for row in history(supabase, user)] == [1, 2]


@pytest.mark.parametrize(
    ("role", "change"),
    [
        ("faregate_worker", "update faregate.balances set {} where user_id = %s"),
        (PROJECT_OWNER, "update public.profiles set {} where id = %s"),
    ],
)
def test_the_worker_and_the_owner_write_credits(
    supabase: psycopg.Connection, role: str, change: str
) -> None:
    """The projection is the worker's; the owner can do what it wants with its tables."""
    user = sign_up(supabase)
    with acting_as(supabase, role):
        change = change.format("credits = credits - 1, credits_sequence = 2")
        supabase.execute(change.encode(), [user])
    assert balance(supabase, user) == (2, 2)


def test_a_member_of_the_worker_role_writes_credits(plain: psycopg.Connection) -> None:
    """A deployment logs in with a role of its own, to which it grants the worker's."""
    user = sign_up(plain)
    with plain.transaction(force_rollback=True):
        plain.execute("create role deployed_worker nologin")
        plain.execute("grant faregate_worker to deployed_worker")
        plain.execute("set local role deployed_worker")
        change = "update faregate.balances set credits = 1000 where user_id = %s"
        assert plain.execute(change, [user]).rowcount == 1


def test_a_deletion_between_two_inserts_leaves_no_rows(plain: psycopg.Connection) -> None:
    """Rows of a user that is gone are refused by the key, whoever inserts them."""
    user = sign_up(plain)
    delete_user(plain, user)
    with pytest.raises(errors.ForeignKeyViolation), acting_as(plain, "faregate_worker"):
        insert_by_hand(plain, user, 1, "add")


@pytest.mark.parametrize(
    "place", [(0, 1, 1), (1, None, 1), (1, 1, None), (1, 1, -1), (None, 1, 1)], ids=str
)
def test_a_place_in_the_history_is_whole_or_absent(
    plain: psycopg.Connection, place: tuple[int | None, ...]
) -> None:
    """Sequence, balance after and epoch come together, and the sequence starts at 1."""
    user = sign_up(plain)
    with pytest.raises(errors.CheckViolation):
        plain.execute(
            "insert into public.credit_transactions"
            " (user_id, amount, type, description, sequence, balance_after, epoch)"
            " values (%s, 1, 'add', 'x', %s, %s, %s)",
            [user, *place],
        )


def test_balances_never_overflow_silently(plain: psycopg.Connection) -> None:
    """The seed's columns are INTEGER: what does not fit is an error."""
    user = sign_up(plain)
    with pytest.raises(errors.NumericValueOutOfRange), acting_as(plain, "faregate_worker"):
        plain.execute(
            "update faregate.balances set credits = credits + %s where user_id = %s",
            [CREDITS_MAX, user],
        )
    with acting_as(plain, "service_role"):
        insert_by_hand(plain, user, CREDITS_MAX, "add")
        plain.execute("delete from public.profiles where id = %s", [user])
    with pytest.raises(errors.NumericValueOutOfRange):
        plain.execute("insert into public.profiles (id) values (%s)", [user])
