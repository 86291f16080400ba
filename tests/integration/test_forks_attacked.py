"""What may happen during a fork and after it: in the end no balance is wrong."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
from redis import Redis

from charging import CREDITS, Charger
from clocks import Seconds
from durable import Database
from faregate.adapters.postgres.snapshots import PostgresSnapshots
from faregate.adapters.redis.stream import RedisStream
from faregate.domain.errors import AmountError
from faregate.domain.hold import Settlement
from faregate.domain.period import Period, PeriodKind
from faregate.domain.policy import Allowance, CreditPolicy
from faregate.domain.request import Refund
from faregate.domain.spend import HoldOptions
from faregate.domain.transaction import CreditTransactionId
from faregate.ops.forks import REFUSED_PAUSE_S, Aligning
from faregate_worker.forks import ForkWatch
from forked import (
    Worker,
    check_exact,
    copy_of,
    fail_over,
    forks_of,
    lose_stored_charges,
    lost_records,
)
from redis_ledger import KEYS, SHARD, spend

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

DAILY = CreditPolicy(allowance=Allowance(amount=10, period=Period(kind=PeriodKind.DAY)))


async def test_a_quiet_shard_whose_entries_were_trimmed_is_no_fork(
    charger: Charger, sink: Worker, client: Redis, tables: Database
) -> None:
    """Nor is one that goes on afterwards."""
    await charger.charge()
    sink.drain()
    RedisStream(client, 1, stored_ms=0).note_stored(SHARD, sink.archive.cursors()[SHARD])
    assert not client.xlen(KEYS.stream)
    sink.watch()
    sink.drain()
    await charger.charge()
    sink.watch()
    sink.drain()
    assert forks_of(tables) == []
    check_exact(sink, charger.users, tables, CREDITS - 2)


async def test_an_entry_that_was_deleted_by_hand_is_no_fork(
    charger: Charger, sink: Worker, client: Redis, tables: Database
) -> None:
    """No other entry has its number."""
    await charger.charge()
    sink.drain()
    client.xdel(KEYS.stream, sink.archive.cursors()[SHARD].position)
    sink.watch()
    await charger.charge()
    sink.watch()
    sink.drain()
    assert forks_of(tables) == []
    check_exact(sink, charger.users, tables, CREDITS - 2)


async def test_two_drains_notice_a_fork_once(
    charger: Charger, sink: Worker, client: Redis, tables: Database
) -> None:
    """The slower one finds that the cursor has moved, and does nothing."""
    copy = copy_of(client)
    await charger.charge()
    sink.drain()
    stale = sink.archive.cursors()[SHARD]
    fail_over(client, copy)
    fork = sink.stream.fork(SHARD, stale, sink.archive.places(SHARD, stale))
    assert fork is not None
    assert not sink.archive.rewind(fork).is_stale
    assert sink.archive.rewind(fork).is_stale
    sink.watch()
    sink.watch()
    assert len(forks_of(tables)) == 1
    check_exact(sink, charger.users, tables, CREDITS - 1)


async def test_a_fork_between_batches_goes_back_to_the_last_common_one(
    charger: Charger, sink: Worker, client: Redis, tables: Database
) -> None:
    """And names nothing that the new history still has."""
    for _ in range(2):
        await charger.charge()
        sink.drain()
    # So that the next batch has a row of its own.
    tables.run("update faregate.batches set batch_count = batch_count")
    copy = copy_of(client)
    user = charger.users[0]
    lost = await spend(charger.ledger, user)
    sink.drain()
    fail_over(client, copy)
    sink.watch()
    assert [one["transaction_id"] for one in lost_records(tables)] == [lost.transaction_id.value]
    sink.drain()
    assert sink.stream.pending_count() == 0
    assert sink.findings() == []
    assert sink.live(user) == CREDITS - 3


async def test_a_user_who_is_deleted_meanwhile_leaves_nothing(
    charger: Charger, sink: Worker, client: Redis, tables: Database
) -> None:
    """Neither in forks nor among repairs."""
    await lose_stored_charges(charger, sink, client)
    gone = charger.users.pop()
    begun: Callable[..., bool] = sink.forks.begin

    def begin(user: Any, alignment: Any) -> bool:
        if user.user_id == gone:
            tables.run("delete from auth.users where id = %s", gone)
        return begun(user, alignment)

    sink.forks.begin = begin  # type: ignore[method-assign]
    sink.watch()
    check_exact(sink, charger.users, tables, CREDITS - 1)
    assert gone not in {one["user_id"] for one in lost_records(tables)}
    assert tables.run("select 1 from faregate.repairs where user_id = %s", gone) == []


async def test_an_allowance_is_aligned_with_its_balance(
    charger: Charger, sink: Worker, client: Redis
) -> None:
    """So none of it is spent twice."""
    ledger, users = charger.ledger, charger.users[:2]
    for user in users:
        await spend(ledger, user, 2, DAILY)
    sink.drain()
    copy = copy_of(client)
    for user in users:
        await spend(ledger, user, 3, DAILY)
    sink.drain()
    fail_over(client, copy)
    await spend(ledger, users[0], 1, DAILY)
    sink.watch()
    left = [(await spend(ledger, user, 1, DAILY)).allowance_left for user in users]
    assert left == [3, 4]
    sink.drain()
    assert sink.findings() == []


async def test_a_balance_that_cannot_be_aligned_is_tried_again_ten_minutes_later(
    charger: Charger, sink: Worker, client: Redis, tables: Database
) -> None:
    """Each try leaves a row, so it is not tried each second."""
    await lose_stored_charges(charger, sink, client)
    sink.drain()
    clock = Seconds()

    def refuse(_: object) -> None:
        raise AmountError("beyond the range")

    with patch.object(sink.accounts, "align", refuse):
        aligning = Aligning(
            sink.forks, sink.accounts, sink.stream, PostgresSnapshots(sink.audit), clock
        )
        watch = ForkWatch(sink.stream, sink.archive, sink.forks, sink.reports, aligning)
        for seconds in (0, 1, 1, REFUSED_PAUSE_S, 1):
            clock.advance(seconds)
            watch.step()
    tried = tables.run("select count(*) from faregate.repairs")
    assert tried == [{"count": 2 * len(charger.users)}]
    sink.watch()
    assert sink.findings() == []


async def test_refunds_in_the_lost_records_are_given_once(
    charger: Charger, sink: Worker, client: Redis, tables: Database
) -> None:
    """A refund that is asked for again has the id of the first."""
    user, other = charger.users[:2]
    charges = [await spend(charger.ledger, one) for one in (user, other)]
    sink.drain()
    copy = copy_of(client)
    refunds = [
        Refund(
            user_id=one,
            deduct_id=charge.transaction_id,
            transaction_id=CreditTransactionId.derive("refund", charge.transaction_id.value),
            amount=None,
            description="refund",
        )
        for one, charge in zip((user, other), charges, strict=True)
    ]
    for refund in refunds:
        assert (await charger.ledger.refund(refund)).amount == 1
    sink.drain()
    fail_over(client, copy)
    await charger.ledger.refund(refunds[0])
    sink.watch()
    await charger.ledger.refund(refunds[1])
    sink.drain()
    sink.watch()
    assert [sink.live(one) for one in (user, other)] == [CREDITS, CREDITS]
    assert sink.findings() == []


async def test_records_of_a_new_epoch_are_no_fork(
    charger: Charger, sink: Worker, client: Any, tables: Database
) -> None:
    """Nor does a fork of the epoch before keep anybody busy."""
    await lose_stored_charges(charger, sink, client)
    sink.drain()
    tables.run("update faregate.ledger set epoch = 2")
    assert sink.forks.due(None, 100) == []
    assert len(forks_of(tables)) <= 1


async def test_a_hold_that_ended_in_the_lost_records_ends_once(
    charger: Charger, sink: Worker, client: Redis
) -> None:
    """By its first end, which is a row, though the new history ends it in another way."""
    user = charger.users[0]
    held = await spend(charger.ledger, user, 3, hold=HoldOptions(ttl_ms=60_000))
    sink.drain()
    copy = copy_of(client)
    end = Settlement(
        user_id=user,
        hold_id=held.transaction_id,
        actual=1,
        attempt_id=None,
        description="end",
    )
    assert (await charger.ledger.settle(end)).refunded == 2
    sink.drain()
    fail_over(client, copy)
    assert (await charger.ledger.settle(replace(end, actual=None))).refunded == 3
    sink.watch()
    sink.drain()
    sink.watch()
    assert sink.live(user) == CREDITS - 1
    assert sink.findings() == []
    await spend(charger.ledger, user)
    sink.drain()
    assert sink.findings() == []
