"""How a user starts: its starting row, and its first sight by the API."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import errors

from faregate.adapters.postgres.migrations import Migrator
from faregate.domain.transaction import CreditTransactionId
from integration.pg_helpers import (
    acting_as,
    as_project_owner,
    balance,
    cloned_database,
    history,
    name_of,
    sign_up,
    supabase_database,
)

pytestmark = pytest.mark.postgres


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


def open_user(
    connection: psycopg.Connection, user: UUID, *, provision: bool
) -> tuple[int, int, int] | None:
    """Ask as the API does: credits, sequence, epoch."""
    with acting_as(connection, "faregate_api"):
        return connection.execute(
            "select credits, sequence, epoch from faregate.open_user(%s, %s)", [user, provision]
        ).fetchone()


def test_a_new_user_has_its_starting_credits_as_a_row(plain: psycopg.Connection) -> None:
    """Exactly one, first in the history, made by Postgres, with the id that Python derives."""
    user = sign_up(plain)
    assert history(plain, user) == [(1, "add", 3, 3, 0)]
    ids = plain.execute(
        "select id, description from public.credit_transactions where user_id = %s", [user]
    )
    assert ids.fetchall() == [
        (CreditTransactionId.derive("starting", user).value, "starting credits")
    ]


def test_python_and_postgres_derive_the_same_ids(plain: psycopg.Connection) -> None:
    """What one side computes, the other one recognises."""
    for purpose in ("starting", "opening", "void"):
        source = uuid4()
        row = plain.execute("select faregate.derived_id(%s, %s)", [purpose, source]).fetchone()
        assert row == (CreditTransactionId.derive(purpose, source).value,)


@pytest.mark.parametrize(("starting", "rows"), [(0, []), (7, [(1, "add", 7, 7, 0)])])
def test_the_ledger_says_how_many_starting_credits_there_are(
    empty_database_url: str, starting: int, rows: list[tuple[object, ...]]
) -> None:
    """One place for policy and database; 0 means no row."""
    Migrator(empty_database_url).apply(starting_credits=starting)
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        user = sign_up(connection)
        assert balance(connection, user) == (starting, len(rows))
        assert history(connection, user) == rows
        assert open_user(connection, user, provision=False) == (starting, len(rows), 1)


def test_the_api_opens_a_user_that_exists(supabase: psycopg.Connection) -> None:
    """Its balance, its sequence, and the epoch; a missing profile is made."""
    user = sign_up(supabase)
    assert open_user(supabase, user, provision=False) == (3, 1, 1)
    supabase.execute("delete from public.profiles where id = %s", [user])
    assert open_user(supabase, user, provision=False) == (3, 1, 1)
    assert len(history(supabase, user)) == 1


def test_a_user_that_does_not_exist_is_made_only_on_demand(plain: psycopg.Connection) -> None:
    """No row without provisioning; with it a user, its profile and its starting row."""
    user = uuid4()
    assert open_user(plain, user, provision=False) is None
    assert open_user(plain, user, provision=True) == (3, 1, 1)
    assert open_user(plain, user, provision=False) == (3, 1, 1)
    assert history(plain, user) == [(1, "add", 3, 3, 0)]


def test_on_supabase_users_are_not_made(supabase: psycopg.Connection) -> None:
    """They are Supabase Auth's; the error says what to do."""
    user = uuid4()
    assert open_user(supabase, user, provision=False) is None
    with pytest.raises(errors.InsufficientPrivilege, match="does not let Faregate create users"):
        open_user(supabase, user, provision=True)


def test_a_user_opened_by_many_at_once_starts_once(
    plain: psycopg.Connection, database_url: str
) -> None:
    """The one that is first makes it, the others find it."""
    users = [uuid4() for _ in range(20)]

    def open_all(_caller: int) -> list[tuple[int, int, int] | None]:
        with psycopg.connect(database_url, autocommit=True) as connection:
            return [open_user(connection, user, provision=True) for user in users]

    with ThreadPoolExecutor(4) as callers:
        answers = list(callers.map(open_all, range(4)))
    assert answers == [[(3, 1, 1)] * 20] * 4
    assert {len(history(plain, user)) for user in users} == {1}


def test_an_epoch_is_marked_installed_once_and_only_if_it_counts(
    plain: psycopg.Connection,
) -> None:
    """Another epoch's installation says nothing about this one; the first time stays."""
    query = "select installed_at from faregate.ledger"
    for epoch, marked in ((2, False), (1, True)):
        with acting_as(plain, "faregate_api"):
            plain.execute("select faregate.mark_installed(%s)", [epoch])
        assert (plain.execute(query).fetchone() != (None,)) is marked
    first = plain.execute(query).fetchone()
    plain.execute("select faregate.mark_installed(1)")
    assert plain.execute(query).fetchone() == first
