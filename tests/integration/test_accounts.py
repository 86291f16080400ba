"""Who exists and what is durable, as the API's role."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import psycopg
import pytest

from durable import (
    STARTING_CREDITS,
    Database,
    archive,
    as_role,
    transactions,
    unreadable,
)
from faregate.adapters.postgres import pool
from faregate.adapters.postgres.accounts import PostgresAccounts
from faregate.adapters.postgres.connection import Bounds
from faregate.domain.errors import ArchiveUnavailableError, ConfigurationError
from faregate.domain.identity import LedgerIdentity
from faregate.domain.request import DurableDeduct
from faregate.domain.transaction import CreditTransactionId
from faregate.domain.user import User

pytestmark = pytest.mark.postgres

SHARD = 3


@pytest.fixture
async def accounts(database_url: str) -> AsyncIterator[PostgresAccounts]:
    """The accounts under test."""
    opened = PostgresAccounts(as_role(database_url, "faregate_api"))
    yield opened
    await opened.aclose()


async def test_the_identity_has_the_settings_of_the_created_ledger(
    accounts: PostgresAccounts,
) -> None:
    """A new ledger has not been installed in Redis."""
    found = await accounts.identity()
    assert found == LedgerIdentity(
        ledger_id=found.ledger_id,
        shard_count=16,
        starting_credits=STARTING_CREDITS,
        epoch=1,
        installed=False,
    )


async def test_an_epoch_is_marked_installed_and_another_is_not(accounts: PostgresAccounts) -> None:
    """A late process of an older epoch marks nothing; marking twice is marking once."""
    await accounts.mark_installed(2)
    assert not (await accounts.identity()).installed
    await accounts.mark_installed(1)
    await accounts.mark_installed(1)
    assert (await accounts.identity()).installed


async def test_a_user_that_exists_is_opened_as_it_stands(
    database_url: str, tables: Database, accounts: PostgresAccounts
) -> None:
    """Credits and sequence are those of the rows."""
    user = tables.user()
    with archive(database_url) as store:
        store.store(SHARD, user.deducts(2))
    expected = User(id=user.user_id, credits=1, sequence=3, epoch=1)
    assert await accounts.open(user.user_id, provision=False) == expected


async def test_a_missing_profile_is_made_on_opening(
    tables: Database, accounts: PostgresAccounts
) -> None:
    """A user that signed up before its profile could be made is no unknown user."""
    user = tables.user()
    tables.run("delete from public.profiles where id = %s", user.user_id)
    expected = User(id=user.user_id, credits=STARTING_CREDITS, sequence=1, epoch=1)
    assert await accounts.open(user.user_id, provision=False) == expected


async def test_an_unknown_user_is_made_only_if_that_is_wanted(
    tables: Database, accounts: PostgresAccounts
) -> None:
    """Without provisioning nothing is written; with it the user gets its starting row."""
    user_id = uuid4()
    assert await accounts.open(user_id, provision=False) is None
    assert tables.run("select id from auth.users where id = %s", user_id) == []
    expected = User(id=user_id, credits=STARTING_CREDITS, sequence=1, epoch=1)
    assert await accounts.open(user_id, provision=True) == expected
    assert tables.is_exact()


async def test_a_user_opened_many_times_at_once_starts_once(
    tables: Database, accounts: PostgresAccounts
) -> None:
    """The first requests of a user may all come together."""
    user_id = uuid4()
    opened = await asyncio.gather(*(accounts.open(user_id, provision=True) for _ in range(20)))
    assert set(opened) == {User(id=user_id, credits=STARTING_CREDITS, sequence=1, epoch=1)}
    query = "select amount from public.credit_transactions where user_id = %s"
    assert tables.run(query, user_id) == [{"amount": STARTING_CREDITS}]


async def test_a_stored_transaction_is_read_as_it_was_recorded(
    database_url: str, tables: Database, accounts: PostgresAccounts
) -> None:
    """Every field comes back, the time in UTC; an id that is not stored is nobody's."""
    user = tables.user()
    deduct = user.record(-1, metadata={"path": "/é"})
    (charge,) = transactions([deduct])
    refund = user.record(1, "refund", refund_of=charge.id)
    with archive(database_url) as store:
        store.store(SHARD, [deduct, refund])
    for recorded in transactions([deduct, refund]):
        assert await accounts.transaction(recorded.id) == recorded
    assert await accounts.transaction(CreditTransactionId(uuid4())) is None


async def test_a_row_older_than_faregate_is_no_transaction(
    tables: Database, accounts: PostgresAccounts
) -> None:
    """It has no place in a history; as a deduct it can still be refunded."""
    user, row_id = tables.user(), uuid4()
    tables.run(
        "insert into public.credit_transactions (id, user_id, amount, type, description)"
        " values (%s, %s, -2, 'deduct', 'old')",
        row_id,
        user.user_id,
    )
    old = CreditTransactionId(row_id)
    assert await accounts.transaction(old) is None
    expected = DurableDeduct(amount=2, refunded=0)
    assert await accounts.deduct(user.user_id, old) == expected


async def test_a_deduct_knows_its_refunded_amount(
    database_url: str, tables: Database, accounts: PostgresAccounts
) -> None:
    """Refunds that are rows count, and so do dead letters that may become rows."""
    user, other = tables.users(2)
    deduct = user.record(-5)
    (charge,) = transactions([deduct])
    refunds = [
        user.record(1, "refund", refund_of=charge.id),
        user.record(2, "refund", refund_of=charge.id),
        user.record(1, "refund", refund_of=charge.id, description="\0"),
    ]
    with archive(database_url) as store:
        store.store(SHARD, [deduct, unreadable(b"?", "no record")])
        expected = DurableDeduct(amount=5, refunded=0)
        assert await accounts.deduct(user.user_id, charge.id) == expected
        store.store(SHARD, [*refunds, *other.deducts(1)])
    expected = DurableDeduct(amount=5, refunded=4)
    assert await accounts.deduct(user.user_id, charge.id) == expected

    tables.run("update faregate.dead_letters set discarded_at = now(), discarded_by = 'test'")
    expected = DurableDeduct(amount=5, refunded=3)
    assert await accounts.deduct(user.user_id, charge.id) == expected


async def test_only_a_users_own_deduct_is_one(
    database_url: str, tables: Database, accounts: PostgresAccounts
) -> None:
    """Neither another user's, nor a transaction of another type, nor one that is not stored."""
    user, other = tables.users(2)
    deduct, gift = user.record(-1), user.record(5, "add")
    with archive(database_url) as store:
        store.store(SHARD, [deduct, gift])
    charge, added = transactions([deduct, gift])
    assert await accounts.deduct(other.user_id, charge.id) is None
    assert await accounts.deduct(user.user_id, added.id) is None
    assert await accounts.deduct(user.user_id, CreditTransactionId(uuid4())) is None


async def test_a_server_that_cannot_be_reached_is_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The wait for a connection has an end."""
    monkeypatch.setattr(pool, "WAIT_S_MAX", 0.1)
    accounts = PostgresAccounts("host=/nowhere dbname=none")
    with pytest.raises(ArchiveUnavailableError, match="cannot read identity"):
        await accounts.identity()
    await accounts.aclose()


async def test_a_server_that_hangs_is_unavailable(
    database_url: str, tables: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So has the wait for a lock, and more callers than may wait are told at once."""
    monkeypatch.setattr(pool, "_BOUNDS", Bounds(statement_ms_max=4_000, lock_ms_max=50))
    accounts = PostgresAccounts(as_role(database_url, "faregate_api"))
    user_id = tables.user().user_id
    with psycopg.connect(database_url) as blocker:
        blocker.execute("lock table public.profiles")
        with pytest.raises(ArchiveUnavailableError, match="lock timeout"):
            await accounts.open(user_id, provision=False)
    assert await accounts.open(user_id, provision=False)
    await accounts.aclose()


async def test_connections_that_broke_are_replaced(
    tables: Database, accounts: PostgresAccounts
) -> None:
    """A restart of Postgres costs no request once it is back."""
    await asyncio.gather(*(accounts.identity() for _ in range(8 * pool.CONNECTIONS_MAX)))
    ended = tables.run(
        "select pg_terminate_backend(pid, 5000) as ended from pg_stat_activity"
        " where datname = current_database() and application_name = 'faregate'"
    )
    assert [row["ended"] for row in ended] == [True] * len(ended)
    assert ended
    for _ in range(2 * len(ended)):
        assert (await accounts.identity()).epoch == 1


async def test_a_database_that_is_not_migrated_is_a_mistake_of_configuration(
    postgres_admin_url: str,
) -> None:
    """The message says what to do."""
    accounts = PostgresAccounts(postgres_admin_url)
    with pytest.raises(ConfigurationError, match="faregate migrate"):
        await accounts.identity()
    await accounts.aclose()


def test_a_url_that_is_none_is_not_repeated() -> None:
    """It may hold a password."""
    with pytest.raises(ConfigurationError) as caught:
        PostgresAccounts("postgresql//user:secret@host/db")
    assert "secret" not in str(caught.value)
