"""The usage app over Redis and Postgres: it tells each user its own, and leaves all as it is."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis import Redis

from durable import Database, as_role
from faregate import Settings, build_gate
from faregate.adapters.postgres import pool
from faregate.bootstrap import open_archive, open_stream
from faregate.gate import Gate
from faregate_worker.drain import DrainLimits, drain
from usage_client import app_of, get, read
from waiting import WAIT_S_MAX

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

LIMITS = DrainLimits(batch_size_max=100, seconds_max=WAIT_S_MAX)


@pytest.fixture
def settings(ledger_redis: str, database_url: str) -> Settings:
    """Where the servers are, entered in the role of an API."""
    return Settings(
        redis_url=ledger_redis,
        postgres_url=as_role(database_url, "faregate_api"),
        decision_timeout_ms=10_000,
    )


@pytest.fixture
async def gate(settings: Settings) -> AsyncIterator[Gate]:
    built = build_gate(settings)
    yield built
    await built.aclose()


def work(settings: Settings, database_url: str) -> None:
    """Make rows of all that is pending."""
    as_owner = settings.model_copy(update={"postgres_url": database_url})
    with open_stream(as_owner) as stream, open_archive(as_owner) as archive:
        for shard in stream.shards_pending():
            drain(stream, archive, shard, limits=LIMITS)


def everything(client: Redis, tables: Database) -> tuple[dict[Any, Any], list[Any]]:
    """All that is in Redis and Postgres."""
    dumped = {key: client.dump(key) for key in client.scan_iter()}
    counts = tables.run(
        "select c.credits, c.credits_sequence, t.* from public.profiles as c"
        " left join public.credit_transactions as t on c.id = t.user_id order by t.id"
    )
    return dumped, counts


async def test_each_user_reads_its_own_balance_and_nothing_changes(
    gate: Gate, settings: Settings, database_url: str, tables: Database, client: Redis
) -> None:
    """The numbers of the live balance and of the rows; not one key or row differs afterwards."""
    user, other = (history.user_id for history in tables.users(2))
    charged = await gate.charge(user, description="report")
    await gate.refund(charged)
    await gate.charge(other, cost=3)
    work(settings, database_url)
    await gate.charge(user)
    before = everything(client, tables)

    app = app_of(gate, user)
    usage = await read(app, "/usage")
    assert (usage["remaining"], usage["policy"]) == (2, "credits")
    first = await read(app, "/usage/history", "limit=1")
    assert [row["amount"] for row in first["transactions"]] == [1]
    rest = await read(app, "/usage/history", f"cursor={first['next_cursor']}")
    assert [row["amount"] for row in rest["transactions"]] == [-1, 3]
    assert rest["transactions"][0]["description"] == "report"
    assert rest["next_cursor"] is None

    # A cursor gives no right: another user's shows one's own rows that are older.
    strangers = app_of(gate, other)
    shown = await read(strangers, "/usage/history", f"cursor={first['next_cursor']}")
    assert {row["description"] for row in shown["transactions"]} <= {"starting credits"}
    assert (await read(strangers, "/usage"))["remaining"] == 0
    assert everything(client, tables) == before


async def test_many_may_ask_at_once(
    gate: Gate, tables: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than there are connections: each gets its own."""
    for name in ("WAIT_S_MAX", "ANSWER_S_MAX"):
        monkeypatch.setattr(pool, name, WAIT_S_MAX)
    users = [history.user_id for history in tables.users(40)]
    answers = await asyncio.gather(
        *(get(app_of(gate, user), "/usage/history") for user in users for _ in range(3))
    )
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == len(users)
