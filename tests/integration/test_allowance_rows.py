"""What rows say of a user's allowance, and what the ledger and its guards read there."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors, sql

from durable import Database, Sink, as_role, transactions
from faregate.adapters.postgres.accounts import PostgresAccounts
from faregate.domain.request import DurableDeduct
from faregate.domain.transaction import CreditTransactionId
from faregate.domain.user import User
from integration.pg_helpers import acting_as

pytestmark = pytest.mark.postgres

SHARD = 3
#: Not a whole second, since a rolling period begins at any millisecond.
PERIOD_START_MS = 1_767_225_600_123
PERIOD_START = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=123)
ROWS = 2_000


@pytest.fixture
async def accounts(database_url: str) -> AsyncIterator[PostgresAccounts]:
    """The accounts under test."""
    opened = PostgresAccounts(as_role(database_url, "faregate_api"))
    yield opened
    await opened.aclose()


def of_allowance(amount: int, after: int) -> dict[str, Any]:
    """What a record says of an allowance."""
    return {
        "allowance_amount": amount,
        "allowance_after": after,
        "period_start": PERIOD_START,
    }


async def test_rows_have_the_allowance_of_their_records(
    tables: Database, store: Sink, accounts: PostgresAccounts
) -> None:
    """And it is read as it was recorded; a user who never had an allowance has zeros."""
    user, other = tables.users(2)
    entries = [
        user.record(10, "add", **of_allowance(10, 10)),
        user.record(-4, **of_allowance(-4, 6)),
        other.record(-1),
    ]
    store.store(SHARD, entries)
    names = ("allowance_amount", "allowance_after", "period_start")
    assert [tuple(row[name] for name in names) for row in tables.rows(user.user_id)] == [
        (10, 10, PERIOD_START),
        (-4, 6, PERIOD_START),
    ]
    assert [tuple(row[name] for name in names) for row in tables.rows(other.user_id)] == [
        (0, 0, None)
    ]
    for recorded in transactions(entries):
        assert await accounts.transaction(recorded.id) == recorded


async def test_a_row_that_does_not_know_has_no_allowance(
    tables: Database, accounts: PostgresAccounts
) -> None:
    """The starting row is made by Postgres."""
    user = tables.user()
    starting = CreditTransactionId.derive("starting", user.user_id)
    row = await accounts.transaction(starting)
    assert row is not None
    assert (row.allowance_amount, row.allowance_after, row.period_start) == (0, 0, None)
    expected = User(id=user.user_id, credits=3, sequence=1, epoch=1)
    assert await accounts.open(user.user_id, provision=False) == expected


async def test_a_user_is_opened_with_the_rest_of_its_allowance(
    tables: Database, store: Sink, accounts: PostgresAccounts
) -> None:
    """As the last row says, in whatever order the rows were stored."""
    user = tables.user()
    first = user.record(10, "add", **of_allowance(10, 10))
    store.store(SHARD, [user.record(-4, **of_allowance(-4, 6))])
    store.store(SHARD, [first])
    assert await accounts.open(user.user_id, provision=False) == User(
        id=user.user_id,
        credits=9,
        sequence=3,
        epoch=1,
        allowance_left=6,
        period_start_ms=PERIOD_START_MS,
    )


async def test_a_user_is_opened_with_its_dead_letters(
    tables: Database, store: Sink, accounts: PostgresAccounts
) -> None:
    """They moved the live balance, and are pending until somebody discards them."""
    user = tables.user()
    store.store(
        SHARD,
        [
            user.record(10, "add", **of_allowance(10, 10)),
            user.record(-4, description="\0", **of_allowance(-4, 6)),
        ],
    )
    opened = await accounts.open(user.user_id, provision=False)
    assert opened is not None
    assert (opened.credits, opened.sequence, opened.allowance_left) == (9, 3, 6)

    tables.run("update faregate.dead_letters set discarded_at = now(), discarded_by = 'test'")
    opened = await accounts.open(user.user_id, provision=False)
    assert opened is not None
    assert (opened.credits, opened.sequence, opened.allowance_left) == (13, 2, 10)


async def test_a_deduct_knows_how_much_of_it_was_allowance(
    tables: Database, store: Sink, accounts: PostgresAccounts
) -> None:
    """And of which period, so that a refund knows where to give it back."""
    user, old = tables.user(), CreditTransactionId(uuid4())
    deduct = user.record(-3, **of_allowance(-2, 0))
    store.store(SHARD, [deduct])
    (charge,) = transactions([deduct])
    assert await accounts.deduct(user.user_id, charge.id) == DurableDeduct(
        amount=3, refunded=0, allowance_amount=2, period_start_ms=PERIOD_START_MS
    )
    tables.run(
        "insert into public.credit_transactions (id, user_id, amount, type, description)"
        " values (%s, %s, -2, 'deduct', 'old')",
        old.value,
        user.user_id,
    )
    expected = DurableDeduct(amount=2, refunded=0)
    assert await accounts.deduct(user.user_id, old) == expected


def test_opening_a_user_reads_one_row(tables: Database, store: Sink, database_url: str) -> None:
    """However many rows the user has: this is on the path of a first request."""
    user, other = tables.users(2)
    store.store(SHARD, [user.record(ROWS, "add"), *user.deducts(ROWS), *other.deducts(1)])
    tables.run("analyze public.credit_transactions")
    with psycopg.connect(database_url) as connection:
        connection.execute("select * from faregate.open_user(%s, false)", [user.user_id])
        read = connection.execute(
            "select seq_scan, idx_tup_fetch from pg_stat_xact_user_tables"
            " where relid = 'public.credit_transactions'::regclass"
        ).fetchone()
    assert read == (0, 1)


@pytest.mark.parametrize(
    "values", ["-1, null, null", "null, 5, null", "null, null, now()", "-1, null, now()"]
)
def test_an_allowance_is_known_whole_or_not_at_all(tables: Database, values: str) -> None:
    """Its part of the amount comes with what it left; only the period may be missing."""
    user = tables.user()
    insert = (
        "insert into public.credit_transactions (user_id, amount, type, description,"
        " allowance_amount, allowance_after, period_start) values (%s, -1, 'deduct', 'x', {})"
    )
    with pytest.raises(errors.CheckViolation, match="allowance_check"):
        tables.run(insert.format(values), user.user_id)
    tables.run(insert.format("-1, 5, null"), user.user_id)
    tables.run(insert.format("null, null, null"), user.user_id)


@pytest.mark.parametrize("column", ["allowance_amount", "allowance_after", "period_start"])
def test_service_role_cannot_write_an_allowance(
    tables: Database, database_url: str, column: str
) -> None:
    """A row made by hand has none, not even an empty one."""
    user = tables.user()
    insert = sql.SQL(
        "insert into public.credit_transactions (user_id, amount, type, description, {})"
        " values (%s, 1, 'add', 'by hand', null)"
    )
    with (
        psycopg.connect(database_url, autocommit=True) as connection,
        pytest.raises(errors.InsufficientPrivilege),
        acting_as(connection, "service_role"),
    ):
        connection.execute(insert.format(sql.Identifier(column)), [user.user_id])


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
def test_opening_is_not_for_everybody(database_url: str, role: str) -> None:
    """It acts as its owner, and may make users."""
    with (
        psycopg.connect(database_url, autocommit=True) as connection,
        pytest.raises(errors.InsufficientPrivilege),
        acting_as(connection, role),
    ):
        connection.execute("select * from faregate.open_user(gen_random_uuid(), true)")
