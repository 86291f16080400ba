"""Users who are first seen at the same time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from uuid import uuid4

import psycopg
import pytest

from durable import Database, as_role
from faregate.adapters.postgres import pool
from faregate.adapters.postgres.accounts import PostgresAccounts
from faregate.adapters.postgres.connection import Bounds
from waiting import WAIT_S_MAX

pytestmark = pytest.mark.postgres


@pytest.fixture
async def accounts(database_url: str) -> AsyncIterator[PostgresAccounts]:
    """The accounts under test, as the API's role."""
    opened = PostgresAccounts(as_role(database_url, "faregate_api"))
    yield opened
    await opened.aclose()


async def test_users_at_the_same_time_are_opened_in_few_transactions(
    tables: Database, accounts: PostgresAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each as if alone: those who exist, who are new, and who are neither."""
    transactions_of: list[str] = []
    lend = accounts._pool.connection

    def lend_one(doing: str) -> AbstractAsyncContextManager[pool.Connection]:
        transactions_of.append(doing)
        return lend(doing)

    monkeypatch.setattr(accounts._pool, "connection", lend_one)
    known, unknown = [user.user_id for user in tables.users(20)], [uuid4() for _ in range(20)]
    opened = await asyncio.gather(
        *(accounts.open(user_id, provision=False) for user_id in [*known, *unknown]),
        *(accounts.open(user_id, provision=True) for user_id in unknown),
    )
    assert [user.id for user in opened if user] == [*known, *unknown]
    assert opened[20:40] == [None] * 20
    assert transactions_of == ["open users"] * 2
    assert tables.is_exact()


async def test_a_locked_user_delays_no_other_user(
    database_url: str, tables: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who were asked for together are asked for alone then."""
    patient = Bounds(statement_ms_max=round(WAIT_S_MAX * 1_000), lock_ms_max=60_000)
    monkeypatch.setattr(pool, "_BOUNDS", patient)
    monkeypatch.setattr(pool, "ANSWER_S_MAX", WAIT_S_MAX)
    accounts = PostgresAccounts(as_role(database_url, "faregate_api"))
    locked, *others = sorted(user.user_id for user in tables.users(6))
    tables.run("delete from public.profiles")
    with psycopg.connect(database_url) as blocker:
        blocker.execute("select from auth.users where id = %s for update", [locked])
        waiting = asyncio.ensure_future(accounts.open(locked, provision=False))
        opened = await asyncio.gather(*(accounts.open(one, provision=False) for one in others))
        assert [user.id for user in opened if user] == others
        assert not waiting.done()
    assert await waiting
    await accounts.aclose()


async def test_a_caller_that_gives_up_does_not_cancel_others(
    tables: Database, accounts: PostgresAccounts
) -> None:
    """Though both are in one batch."""
    one, other = (user.user_id for user in tables.users(2))
    asked = [asyncio.ensure_future(accounts.open(user, provision=False)) for user in (one, other)]
    await asyncio.sleep(0)
    asked[0].cancel()
    opened = await asked[1]
    assert opened
    assert (opened.id, asked[0].cancelled()) == (other, True)


def test_accounts_that_were_closed_open_users_on_another_loop(
    database_url: str, tables: Database
) -> None:
    """Nothing of the loop that has ended is waited for."""
    accounts = PostgresAccounts(as_role(database_url, "faregate_api"))
    user_id = tables.user().user_id

    async def open_and_leave() -> None:
        asking = asyncio.ensure_future(accounts.open(user_id, provision=False))
        await asyncio.sleep(0)
        await accounts.aclose()
        with pytest.raises(asyncio.CancelledError):
            await asking

    async def open_again() -> None:
        assert await accounts.open(user_id, provision=False)
        await accounts.aclose()

    asyncio.run(open_and_leave())
    asyncio.run(open_again())


async def test_accounts_that_were_closed_open_users_on_the_same_loop(
    tables: Database, accounts: PostgresAccounts
) -> None:
    """Nobody joins a batch that the close has given up before it began."""
    user_id = tables.user().user_id
    asking = asyncio.ensure_future(accounts.open(user_id, provision=False))
    await asyncio.sleep(0)
    await accounts.aclose()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await accounts.open(user_id, provision=False)
