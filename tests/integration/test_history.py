"""A user reads its own rows, and row level security keeps the others' from it."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo

from durable import STARTED_AT, Database, Sink, as_role, database
from faregate.adapters.memory.store import MemoryStore
from faregate.adapters.postgres.history import PostgresHistory
from faregate.adapters.postgres.migrations import Migrator
from faregate.adapters.postgres.queries import statement
from faregate.cli.servers import EmbeddedServers
from faregate.domain.errors import ArchiveUnavailableError, ConfigurationError
from faregate.domain.history import HistoryRow
from faregate.domain.transaction import CreditTransaction, CreditTransactionId, TransactionType
from integration.pg_helpers import as_project_owner, sign_up, supabase_database

pytestmark = pytest.mark.postgres

PAGE = 7
INDEX = "idx_credit_transactions_user_timestamp"


@pytest.fixture
def login(postgres_admin_url: str) -> Iterator[str]:
    """A role that an API logs in as: it may take on what `faregate_api` may, and owns nothing."""
    name = f"api_{uuid4().hex}"
    with psycopg.connect(postgres_admin_url, autocommit=True) as admin:
        role = sql.Identifier(name)
        admin.execute(sql.SQL("create role {} login in role faregate_api").format(role))
        yield name
        admin.execute(sql.SQL("drop role {}").format(role))


@pytest.fixture
async def history(database_url: str, login: str) -> AsyncIterator[PostgresHistory]:
    """What the API reads with."""
    opened = PostgresHistory(make_conninfo(database_url, user=login))
    yield opened
    await opened.aclose()


def write(tables: Database, user_id: UUID, count: int, *, per_second: int = 3) -> None:
    """Write a history by hand, several rows of the same time among them, in no order."""
    tables.run(
        "insert into public.credit_transactions"
        " (user_id, amount, type, description, timestamp)"
        " select %s, -1, 'deduct', 'row ' || n,"
        " %s::timestamptz + n / %s * interval '1 second'"
        " from generate_series(1, %s) as n order by md5(n::text)",
        user_id,
        STARTED_AT,
        per_second,
        count,
    )


async def pages(history: PostgresHistory | MemoryStore, user_id: UUID) -> list[list[HistoryRow]]:
    """All pages of a history, followed from the first to the last."""
    found: list[list[HistoryRow]] = []
    before = None
    while page := await history.read(user_id, PAGE, before):
        found.append(list(page))
        before = page[-1].place
    return found


async def test_pages_follow_each_other_without_a_gap(
    tables: Database, history: PostgresHistory
) -> None:
    """Newest first, by id among those of the same time; nothing twice, nothing left out."""
    user_id = tables.user().user_id
    write(tables, user_id, 40)
    found = await pages(history, user_id)
    assert [len(page) for page in found] == [7, 7, 7, 7, 7, 6]
    rows = [row for page in found for row in page]
    places = [(row.timestamp, row.id.value) for row in rows]
    assert places == sorted(places, reverse=True)
    assert len(set(places)) == 41
    assert {row.description for row in rows} > {f"row {n}" for n in range(1, 41)}


async def test_rows_of_one_moment_are_in_the_order_of_their_sequence(
    tables: Database, store: Sink, history: PostgresHistory
) -> None:
    """As the first charge of a period and what the period added, which are made in one step."""
    user = tables.user()
    store.store(7, [user.record(1, "add", timestamp=STARTED_AT) for _ in range(20)])
    found = [row for page in await pages(history, user.user_id) for row in page]
    balances = [row.balance_after for row in found if row.timestamp == STARTED_AT]
    assert balances == list(range(23, 3, -1))


async def test_rows_are_as_they_were_written(tables: Database, history: PostgresHistory) -> None:
    """The starting credits and all that follows; times in UTC; no balance where none is known."""
    user_id = tables.user().user_id
    write(tables, user_id, 1)
    old, start = sorted(await history.read(user_id, PAGE), key=lambda row: row.amount)
    assert (old.amount, old.type, old.balance_after) == (-1, TransactionType.DEDUCT, None)
    assert old.timestamp == STARTED_AT
    assert old.timestamp.utcoffset() == timedelta(0)
    assert start.id == CreditTransactionId.derive("starting", user_id)
    assert (start.amount, start.type, start.balance_after) == (3, TransactionType.ADD, 3)
    assert start.refund_of is None


async def test_memory_pages_alike(tables: Database, history: PostgresHistory) -> None:
    """The kit of those who test their apps shows what Postgres would."""
    user_id = tables.user().user_id
    write(tables, user_id, 20)
    expected = await pages(history, user_id)
    store = MemoryStore()
    for number, row in enumerate(row for page in expected for row in page):
        store.rows[row.id] = CreditTransaction(
            id=row.id,
            user_id=user_id,
            amount=row.amount,
            type=row.type,
            description=row.description,
            timestamp=row.timestamp,
            sequence=100 - number,
            balance_after=0,
            epoch=1,
        )
    found = await pages(store, user_id)
    assert [[row.place for row in page] for page in found] == [
        [row.place for row in page] for page in expected
    ]


async def test_row_level_security_protects_and_not_the_query(
    tables: Database, history: PostgresHistory
) -> None:
    """Whoever asks for another user's rows gets none, and for everybody's its own."""
    user, other = tables.users(2)
    for each in (user, other):
        write(tables, each.user_id, 5)
    asked: dict[str, Any] = {"user_id": other.user_id, "count_max": 100}
    assert len(await history._rows_as(other.user_id, "read_newest", asked)) == 6
    assert await history._rows_as(user.user_id, "read_newest", asked) == []
    before = {"timestamp": STARTED_AT + timedelta(days=1), "id": uuid4()}
    assert await history._rows_as(user.user_id, "read_before", asked | before) == []

    seen = await as_user(history, user.user_id, "select user_id from public.credit_transactions")
    assert seen == [{"user_id": user.user_id}] * 6


async def as_user(history: PostgresHistory, user_id: UUID, query: str) -> list[dict[str, Any]]:
    """Ask anything in the way in which a history is read."""
    async with history._pool.connection("ask") as connection, connection.transaction():
        await connection.execute(statement("act_as_user"), {"user_id": user_id})
        cursor = await connection.execute(query.encode())
        return await cursor.fetchall()


async def test_without_a_user_the_same_connection_sees_everybody(
    tables: Database, history: PostgresHistory
) -> None:
    """So it was not the role of the API that hid them; and nothing of a user is left behind."""
    users = [user.user_id for user in tables.users(3)]
    for user_id in users:
        assert len(await history.read(user_id, PAGE)) == 1
        async with history._pool.connection("look") as connection:
            cursor = await connection.execute(
                "select current_user = session_user as is_itself, count(distinct user_id) as users,"
                " max(coalesce(current_setting('request.jwt.claims', true), '')) as claims,"
                " max(coalesce(current_setting('request.jwt.claim.sub', true), '')) as claim,"
                " current_setting('transaction_read_only') as read_only"
                " from public.credit_transactions"
            )
            assert await cursor.fetchall() == [
                {"is_itself": True, "users": 3, "claims": "", "claim": "", "read_only": "off"}
            ]


async def test_reading_as_a_user_writes_nothing(tables: Database, history: PostgresHistory) -> None:
    """Not even where somebody has granted more than is needed."""
    user_id = tables.user().user_id
    tables.run("grant all on public.profiles to faregate_reader")
    tables.run("create policy mine on public.profiles for all to faregate_reader using (true)")
    with pytest.raises(ArchiveUnavailableError, match="read-only"):
        await as_user(history, user_id, "update public.profiles set created_at = now()")


async def test_the_api_has_no_right_of_users_but_to_their_history(
    database_url: str, tables: Database, login: str, history: PostgresHistory
) -> None:
    """What an application grants to its users is granted to no role of Faregate."""
    tables.run("grant all on public.profiles to authenticated")
    with pytest.raises(ArchiveUnavailableError, match="permission denied"):
        await as_user(history, tables.user().user_id, "select * from public.profiles")
    with (
        psycopg.connect(make_conninfo(database_url, user=login), autocommit=True) as api,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        api.execute("set role authenticated")


async def test_a_role_that_may_not_act_as_a_user_gets_an_error(
    database_url: str, tables: Database
) -> None:
    """The message says what to grant, and nothing is read in another role instead."""
    name = f"lone_{uuid4().hex}"
    tables.run(f"create role {name} login")
    try:
        lone = PostgresHistory(make_conninfo(database_url, user=name))
        with pytest.raises(ConfigurationError, match="was granted faregate_api"):
            await lone.read(tables.user().user_id, PAGE)
        await lone.aclose()
    finally:
        tables.run(f"drop role {name}")


async def test_a_supabase_project_shows_a_user_its_rows(
    postgres_admin_url: str, login: str
) -> None:
    """Migrated by a role like Supabase's `postgres`, which is no superuser."""
    with supabase_database(postgres_admin_url) as url:
        Migrator(as_project_owner(url)).apply()
        with psycopg.connect(url, autocommit=True) as connection:
            user, other = sign_up(connection), sign_up(connection)
        for conninfo in (make_conninfo(url, user=login), as_project_owner(url)):
            history = PostgresHistory(conninfo)
            (start,) = await history.read(user, PAGE)
            assert start.amount == 3
            asked = {"user_id": other, "count_max": PAGE}
            assert await history._rows_as(user, "read_newest", asked) == []
            await history.aclose()


async def test_an_owner_that_is_no_superuser_shows_a_user_its_rows(
    own_servers: EmbeddedServers,
) -> None:
    """Through `faregate_api`; and without the rights of users, whose policies would bind it."""
    url = own_servers.postgres_url
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("create role modest_owner login createrole")
        admin.execute("create database modest owner modest_owner")
    owner = make_conninfo(url, user="modest_owner", dbname="modest")
    Migrator(owner).apply()
    with psycopg.connect(make_conninfo(url, dbname="modest"), autocommit=True) as connection:
        user = sign_up(connection)
    history = PostgresHistory(owner)
    assert [row.amount for row in await history.read(user, PAGE)] == [3]
    await history.aclose()


@pytest.mark.parametrize("name", ["read_newest", "read_before"])
async def test_a_page_is_read_from_the_index(
    database_url: str, login: str, name: str, history: PostgresHistory
) -> None:
    """As that user: an index scan, and no sort but for the ids of rows of the same time."""
    with database(database_url) as tables:
        users = tables.users(40)
        for user in users:
            write(tables, user.user_id, 500)
        tables.run("analyze public.credit_transactions")
    user_id = users[0].user_id
    asked = {
        "user_id": user_id,
        "count_max": 50,
        "timestamp": STARTED_AT + timedelta(seconds=100),
        "id": uuid4(),
    }
    async with history._pool.connection("explain") as connection, connection.transaction():
        await connection.execute(statement("act_as_user"), {"user_id": user_id})
        cursor = await connection.execute(f"explain (format json) {statement(name)}", asked)
        (row,) = await cursor.fetchall()
    nodes = list(nodes_of(row["QUERY PLAN"][0]["Plan"]))
    scans = {node["Index Name"]: node for node in nodes if node.get("Relation Name")}
    # Where the page begins is one look at the row before it.
    assert set(scans) - {"credit_transactions_pkey"} == {INDEX}
    scan = scans[INDEX]
    assert scan["Node Type"] == "Index Scan"
    assert "user_id" in scan["Index Cond"]
    assert ('"timestamp" <' in scan["Index Cond"]) == (name == "read_before")
    sorts = [node for node in nodes if "Sort" in node["Node Type"]]
    assert [node["Node Type"] for node in sorts] == ["Incremental Sort"]
    assert sorts[0]["Presorted Key"] == ['credit_transactions."timestamp"']


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A node of a plan and all below it."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes_of(below)


async def test_a_server_that_cannot_be_reached_is_unavailable(database_url: str) -> None:
    """As everywhere; nothing else is tried in its place."""
    history = PostgresHistory(as_role(database_url, "nobody_of_this_name"))
    with pytest.raises(ArchiveUnavailableError, match="cannot read history"):
        await history.read(uuid4(), PAGE)
    await history.aclose()
