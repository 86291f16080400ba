"""Redis loses its newest records: they are named, and live balances follow by themselves."""

import time
from typing import Any
from uuid import UUID

import pytest
from redis import Redis

from charging import CREDITS, Charger
from commands import CommandLine
from durable import Database
from faregate.adapters.redis.lost import LostReport
from faregate.domain.transaction import CreditTransactionId
from forked import (
    Worker,
    copy_of,
    fail_over,
    forks_of,
    let_a_minute_pass,
    lose_stored_charges,
    lost_records,
    worker,
)
from operated import Ledger
from redis_ledger import KEYS, SHARD, spend

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


def given_id() -> CreditTransactionId:
    """An id of the caller's."""
    return CreditTransactionId.mint(time.time_ns() // 1_000_000)


async def test_live_balances_follow_the_rows_of_records_that_redis_lost(
    charger: Charger, sink: Worker, client: Redis, tables: Database
) -> None:
    """Nothing was pending, and no new record follows: the worker notices it all the same."""
    await charger.charge()
    sink.drain()
    await lose_stored_charges(charger, sink, client)
    assert {sink.live(user) for user in charger.users} == {CREDITS - 1}
    sink.watch()
    assert {sink.live(user) for user in charger.users} == {CREDITS - 2}
    (fork,) = forks_of(tables)
    assert (fork["shard"], fork["epoch"], fork["named_until"]) == (SHARD, 1, None)
    named = lost_records(tables)
    assert {one["user_id"] for one in named} == set(charger.users)
    assert all(one["is_named"] and one["aligned_at"] for one in named)
    assert sink.findings() == []
    let_a_minute_pass(tables)
    sink.watch()
    assert all(one["checked_at"] for one in lost_records(tables))
    await charger.charge()
    sink.drain()
    sink.watch()
    assert len(forks_of(tables)) == 1
    assert {sink.live(user) for user in charger.users} == {CREDITS - 3}
    assert sink.findings() == []


async def test_charges_of_both_histories_count_once_each(
    charger: Charger, sink: Worker, client: Redis, tables: Database
) -> None:
    """The new history goes on before anybody notices; verify names the fork that explains it."""
    await lose_stored_charges(charger, sink, client)
    await charger.charge()
    sink.drain()
    assert len(forks_of(tables)) == 1
    sink.watch()
    assert {sink.live(user) for user in charger.users} == {CREDITS - 2}
    assert sink.findings() == []
    explained = [one for one in sink.audit.verify() if "Fork" in one.detail]
    assert {one.user_id for one in explained} == set(charger.users)
    await charger.charge()
    sink.drain()
    assert sink.findings() == []


async def test_a_charge_that_is_made_again_under_its_id_is_paid_once(
    charger: Charger, sink: Worker, client: Redis, tables: Database
) -> None:
    """Before the balances are aligned, and after."""
    before, after, *others = charger.users
    ids = {user: given_id() for user in charger.users}
    copy = copy_of(client)
    for user in charger.users:
        await spend(charger.ledger, user, transaction_id=ids[user])
    sink.drain()
    fail_over(client, copy)
    # The first number of this user is used by another charge, so its own record has the second.
    await spend(charger.ledger, before)
    await spend(charger.ledger, before, transaction_id=ids[before])
    sink.watch()
    sink.drain()
    sink.watch()
    await spend(charger.ledger, after, transaction_id=ids[after])
    sink.drain()
    sink.watch()
    assert sink.live(before) == CREDITS - 2
    assert {sink.live(user) for user in (after, *others)} == {CREDITS - 1}
    letters = tables.dead_letters()
    assert {(one["kind"], one["outcome"], one["user_id"]) for one in letters} == {
        ("fork", "discarded", before),
        ("fork", "discarded", after),
    }
    assert sink.findings() == []
    let_a_minute_pass(tables)
    sink.watch()
    await charger.charge()
    sink.drain()
    assert sink.findings() == []


async def test_answers_that_only_gates_knew_are_counted(
    charger: Charger, sink: Worker, client: Any, tables: Database
) -> None:
    """The drain was behind, so nothing is kept. Reports are counted once, and then deleted."""
    await charger.charge()
    sink.drain()
    copy = copy_of(client)
    user, again = charger.users[:2]
    lost = await spend(charger.ledger, user)
    given = given_id()
    await spend(charger.ledger, again, transaction_id=given)
    fail_over(client, copy)
    assert lost.transaction_id is not None
    reports = [
        LostReport(b"gate one", "5-1", (lost.transaction_id.value,)),
        LostReport(b"gate two", "5-0", (lost.transaction_id.value, given.value), is_at_least=True),
    ]
    for _ in range(2):
        for report in reports:
            client.hset(KEYS.lost, report.field, report.pack())
        sink.watch()
        assert not client.exists(KEYS.lost)
    (fork,) = forks_of(tables)
    assert (fork["batch_number"], fork["is_at_least"]) == (None, True)
    assert counted(tables) == (0, 2)
    await spend(charger.ledger, again, transaction_id=given)
    sink.drain()
    sink.watch()
    assert counted(tables) == (1, 1)
    assert sink.findings() == []


def counted(tables: Database) -> tuple[int, int]:
    """How many lost records are rows, and how many are not."""
    query = (
        "select count(t.id) as kept, count(*) - count(t.id) as lost from faregate.lost_records as r"
        " left join public.credit_transactions as t on r.transaction_id = t.id"
    )
    (row,) = tables.run(query)
    return row["kept"], row["lost"]


async def test_reports_and_rows_of_one_fork_meet_in_either_order(
    charger: Charger, sink: Worker, client: Any, tables: Database
) -> None:
    """A report before the drain notices, and one after."""
    copy = copy_of(client)
    made: list[UUID] = []
    for user in charger.users[:2]:
        decision = await spend(charger.ledger, user)
        made.append(decision.transaction_id.value)
    sink.drain()
    late = await spend(charger.ledger, charger.users[2])
    fail_over(client, copy)
    first = LostReport(b"gate one", "5-0", tuple(made))
    client.hset(KEYS.lost, first.field, first.pack())
    for answers in sink.reports.read():
        sink.forks.store(answers)
    sink.watch()
    second = LostReport(b"gate two", "5-0", (made[0], late.transaction_id.value))
    client.hset(KEYS.lost, second.field, second.pack())
    sink.watch()
    assert len(forks_of(tables)) == 1
    assert counted(tables) == (2, 1)
    assert sink.findings() == []


def test_the_command_lists_forks_and_fails_until_balances_are_aligned(
    operated: Ledger, command_line: CommandLine, client: Redis
) -> None:
    """With what was kept and lost; the doctor tells of it for a day."""
    operated.charge()
    operated.drain()
    copy = copy_of(client)
    operated.charge()
    operated.drain()
    assert command_line.tell("forks") == []
    fail_over(client, copy)
    operated.charge()
    operated.drain()
    (told,) = command_line.tell("forks", code=1)
    assert (told["kept"], told["lost"], told["users"], told["aligned"]) == (1, 0, 1, 0)
    settings = operated.settings
    with worker(settings.redis_url, settings.postgres_url, settings.shard_count) as sink:
        sink.watch()
    (told,) = command_line.tell("forks")
    assert (told["users"], told["aligned"], told["is_at_least"]) == (1, 1, False)
    assert "1 are rows" in command_line.run("doctor").out
