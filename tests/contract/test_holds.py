"""Redis and the memory adapter answer alike about holds: one table, and random sequences."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from clocks import Clock, RedisClock, use_test_clock
from faregate.adapters.memory.holds import MemoryHoldLedger
from faregate.adapters.redis.holds import RedisHoldLedger
from faregate.adapters.redis.runner import ScriptRunner
from faregate.adapters.redis.stream import RedisStream
from faregate.domain.transaction import CreditTransaction, TransactionType
from hold_player import HoldPlayed, HoldPlayer
from hold_scenarios import (
    HOLD_SCENARIOS,
    MINUTE_MS,
    HoldStep,
    cancel,
    expire_due,
    extend,
    hold,
    settle,
    void_hold,
)
from steps import HOUR_MS, TEN, TWO, Step, add, adjust, charge, refund, void, wait

pytestmark = pytest.mark.redis


@pytest.fixture(autouse=True)
def _test_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts whose time moves when a test says so."""
    use_test_clock(monkeypatch)


@asynccontextmanager
async def player_on(kind: str, url: str, user_id: UUID) -> AsyncIterator[HoldPlayer]:
    """Play on one of the implementations of the port."""
    if kind == "memory":
        clock = Clock()
        memory = HoldPlayer(MemoryHoldLedger(now_ms=clock), user_id, clock)
        await memory.others.start()
        yield memory
        return
    with Redis.from_url(url) as client:
        # Time begins anew, and ids of a stream cannot go back.
        client.flushall()
        runner = ScriptRunner.from_url(url)
        ledger = RedisHoldLedger(runner, shard_count=1, stream_length_max=100_000)
        live = HoldPlayer(ledger, user_id, RedisClock(client))
        try:
            await live.others.start()
            yield live
        finally:
            await ledger.aclose()


@pytest.mark.parametrize("kind", ["memory", "redis"])
@pytest.mark.parametrize("name", HOLD_SCENARIOS)
async def test_the_ledger_answers_about_holds_as_the_table_says(
    name: str, kind: str, ledger_redis: str
) -> None:
    """Each step's verdict, balance, allowance and held credits are those of the table."""
    async with player_on(kind, ledger_redis, uuid4()) as player:
        for number, step in enumerate(HOLD_SCENARIOS[name], start=1):
            played = await player.play(step)
            where = f"step {number}: {step}, but {played}"
            assert (played.answer, played.repeated) == (step.answer, step.repeated), where
            assert step.credits in {None, played.credits}, where
            assert step.left in {None, played.left}, where
            if isinstance(step, HoldStep):
                await check_hold_step(player, step, played, where)


async def check_hold_step(player: HoldPlayer, step: HoldStep, played: object, where: str) -> None:
    """Compare what only a step of a hold says."""
    assert isinstance(played, HoldPlayed)
    assert {name: played.tells.get(name) for name in step.tells} == step.tells, where
    if step.do == "expire_due":
        assert played.tells["ended"] == step.amount, where
    live = await player.ledger.read(player.user_id)
    assert live is not None
    assert step.held in {None, live.held}, f"{where}; held {live.held}"


NAMES = st.sampled_from("abcd")
ALLOWANCES = st.sampled_from([None, None, TEN, TWO])
TTLS = st.sampled_from([99, 100, MINUTE_MS, HOUR_MS, 24 * HOUR_MS])
HOLD_STEPS = st.one_of(
    st.builds(
        hold,
        NAMES,
        st.integers(-1, 6),
        ttl_ms=TTLS,
        keeps=st.booleans(),
        open_max=st.integers(1, 3),
        allowance=ALLOWANCES,
        fresh=st.booleans(),
    ),
    st.builds(
        settle, NAMES, st.integers(-1, 9), overdraft_max=st.integers(0, 2), allowance=ALLOWANCES
    ),
    st.builds(cancel, NAMES),
    st.builds(extend, NAMES, TTLS),
    st.builds(void_hold, NAMES, asked_in_ms=st.sampled_from([-1_000, -HOUR_MS])),
    st.builds(expire_due),
)
STEPS = st.one_of(
    HOLD_STEPS,
    HOLD_STEPS,
    st.builds(lambda name, cost: charge(f"charge {name}", cost), NAMES, st.integers(0, 4)),
    st.builds(void, NAMES.map("charge {}".format)),
    st.builds(charge, NAMES, st.integers(1, 3), allowance=ALLOWANCES),
    st.builds(wait, st.sampled_from([1, 100, MINUTE_MS, HOUR_MS])),
    st.builds(lambda name, amount: add(f"add {name}", amount), NAMES, st.integers(1, 6)),
    st.builds(
        lambda name, amount: adjust(f"adjust {name}", amount, negative_allowed=True),
        NAMES,
        st.integers(-6, 6),
    ),
    st.builds(
        lambda name, of, amount: refund(f"refund {of}{name}", of, amount),
        NAMES,
        NAMES,
        st.one_of(st.none(), st.integers(1, 4)),
    ),
)


@settings(
    max_examples=250,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(STEPS, max_size=25))
def test_random_sequences_of_holds_end_alike(ledger_redis: str, steps: list[Step]) -> None:
    """Whatever is held and ended in whatever order, both answer alike, and every sum is exact."""
    asyncio.run(_compare(ledger_redis, uuid4(), steps))


async def _compare(url: str, user_id: UUID, steps: list[Step]) -> None:
    async with (
        player_on("memory", url, user_id) as specified,
        player_on("redis", url, user_id) as played,
    ):
        played.clock.advance(specified.clock() - played.clock())
        # Ids carry the time in which they are made and are the same on both, so that the records
        # that are computed from them are.
        played.others.ids = specified.others.ids
        for step in steps:
            expected = await specified.play(step)
            assert await played.play(step) == expected, step
            live = await played.ledger.read(user_id)
            assert live == await specified.ledger.read(user_id), step
        assert isinstance(specified.ledger, MemoryHoldLedger)
        records = records_of(url, user_id)
        expected_records = list(specified.ledger.pending.values())
        assert [shape(record) for record in records] == [shape(r) for r in expected_records]
        check_records(records)


def records_of(url: str, user_id: UUID) -> list[CreditTransaction]:
    """Return a user's records in the stream, each of which must be readable."""
    stream = RedisStream.from_url(url, 1)
    try:
        entries = list(stream.unacknowledged(0))
    finally:
        stream.close()
    transactions = [entry.transaction for entry in entries if entry.transaction]
    assert len(transactions) == len(entries)
    return [transaction for transaction in transactions if transaction.user_id == user_id]


def shape(record: CreditTransaction) -> tuple[object, ...]:
    """Return what both adapters must agree on: all but microseconds and the ids of top-ups."""
    return (
        None if record.type is TransactionType.ADD else record.id,
        record.type,
        record.amount,
        record.sequence,
        record.balance_after,
        record.description,
        record.metadata,
        record.refund_of,
        record.allowance_amount,
        record.allowance_after,
        record.period_start,
    )


def check_records(records: list[CreditTransaction]) -> None:
    """Ids are unique, sequences have no gap, balances follow, refunds stay within their deducts."""
    assert len({record.id for record in records}) == len(records)
    for before, after in pairwise(records):
        assert after.sequence == before.sequence + 1
        assert after.balance_after == before.balance_after + after.amount
    left = {record.id: -record.amount for record in records if record.amount <= 0}
    for record in records:
        if record.refund_of is not None:
            left[record.refund_of] -= record.amount
    assert all(amount >= 0 for amount in left.values() if amount)
