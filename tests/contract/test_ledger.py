"""Redis and the memory adapter answer alike: one table, and random sequences, on both."""

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
from faregate.adapters.memory.ledger import MemoryLedger
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.runner import ScriptRunner
from faregate.adapters.redis.stream import RedisStream
from faregate.domain.period import Period, PeriodKind
from faregate.domain.policy import Allowance
from faregate.domain.transaction import CreditTransaction
from player import Player
from scenarios import SCENARIOS
from steps import (
    BY_KEY,
    CARRYING,
    HOUR_MS,
    PER_SECOND,
    TEN,
    TWO,
    WINDOW,
    Step,
    add,
    adjust,
    charge,
    refund,
    void,
    wait,
)


def redis_ledger(url: str, *, stream_length_max: int = 100_000) -> RedisLedger:
    runner = ScriptRunner.from_url(url)
    return RedisLedger(runner, shard_count=1, stream_length_max=stream_length_max)


@pytest.fixture
def test_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts whose time moves when a test says so."""
    use_test_clock(monkeypatch)


@asynccontextmanager
async def player_on(kind: str, url: str, user_id: UUID) -> AsyncIterator[Player]:
    """Play on one of the implementations of the port."""
    if kind == "memory":
        clock = Clock()
        memory = Player(MemoryLedger(now_ms=clock), user_id, clock)
        await memory.start()
        yield memory
        return
    with Redis.from_url(url) as client:
        # Time begins anew, and ids of a stream cannot go back.
        client.flushall()
        live = Player(redis_ledger(url), user_id, RedisClock(client))
        try:
            await live.start()
            yield live
        finally:
            await live.ledger.aclose()


@pytest.mark.usefixtures("test_clock")
@pytest.mark.parametrize("kind", ["memory", "redis"])
@pytest.mark.parametrize("name", SCENARIOS)
async def test_the_ledger_answers_as_the_table_says(
    name: str, kind: str, ledger_redis: str
) -> None:
    """Each step's verdict, balance and allowance are those of the table."""
    async with player_on(kind, ledger_redis, uuid4()) as player:
        for number, step in enumerate(SCENARIOS[name], start=1):
            played = await player.play(step)
            expected = (step.answer, step.repeated)
            assert (played.answer, played.repeated) == expected, f"step {number}: {step}"
            if step.credits is not None:
                assert played.credits == step.credits, f"step {number}: {step}"
            if step.wait_ms is not None:
                assert played.wait_ms == step.wait_ms, f"step {number}: {step}"
            if step.left is not None:
                assert played.left == step.left, f"step {number}: {step}"


@pytest.mark.parametrize("kind", ["memory", "redis"])
async def test_an_unknown_user_is_not_charged(kind: str, ledger_redis: str) -> None:
    """A user that was never installed gets an answer, and no record."""
    async with player_on(kind, ledger_redis, uuid4()) as player:
        player.user_id = uuid4()
        assert (await player.play(charge("a"))).answer == "unknown_user"
        assert await player.ledger.read(player.user_id) is None


DAILY = Allowance(amount=3, period=Period(kind=PeriodKind.DAY), rollover_max=1)
ALLOWANCES = st.sampled_from([None, TEN, TWO, CARRYING, DAILY])
LIMITS = st.sampled_from([(), (), (PER_SECOND,), (WINDOW, PER_SECOND), (BY_KEY, WINDOW)])
NAMES = st.sampled_from("abcdef")
STEPS = st.one_of(
    st.builds(
        charge,
        NAMES,
        st.integers(-1, 4),
        allowance=ALLOWANCES,
        limits=LIMITS,
        records_zero=st.booleans(),
    ),
    st.builds(wait, st.sampled_from([1, 250, 1_000, 900_000, 1_800_000, HOUR_MS, 30 * HOUR_MS])),
    st.builds(lambda name, amount: add(f"add {name}", amount), NAMES, st.integers(0, 4)),
    st.builds(
        lambda name, amount, negative: adjust(f"adjust {name}", amount, negative_allowed=negative),
        NAMES,
        st.integers(-6, 6),
        st.booleans(),
    ),
    st.builds(
        lambda name, of, amount: refund(f"refund {of}{name}", of, amount),
        NAMES,
        NAMES,
        st.one_of(st.none(), st.integers(0, 4)),
    ),
    st.builds(void, NAMES),
)


@pytest.mark.usefixtures("test_clock")
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(STEPS, max_size=25))
def test_random_sequences_end_alike(ledger_redis: str, steps: list[Step]) -> None:
    """Whatever is done in whatever order, both give the same answers, balances and records."""
    asyncio.run(_compare(ledger_redis, uuid4(), steps))


async def _compare(url: str, user_id: UUID, steps: list[Step]) -> None:
    async with (
        player_on("memory", url, user_id) as specified,
        player_on("redis", url, user_id) as played,
    ):
        played.clock.advance(specified.clock() - played.clock())
        for step in steps:
            expected = await specified.play(step)
            assert await played.play(step) == expected, step
            for allowance in (None, TEN):
                live = await played.ledger.read(user_id, allowance)
                assert live == await specified.ledger.read(user_id, allowance), step
        assert isinstance(specified.ledger, MemoryLedger)
        expected_records = [shape(record) for record in specified.ledger.pending.values()]
        records = records_of(url, user_id)
        assert [shape(record) for record in records] == expected_records
        check_chain(records)


def records_of(url: str, user_id: UUID) -> list[CreditTransaction]:
    """Return a user's records in the stream, each of which must be readable."""
    stream = RedisStream.from_url(url, 1)
    try:
        entries = list(stream.unacknowledged(0))
    finally:
        stream.close()
    assert all(entry.transaction for entry in entries), entries
    transactions = [entry.transaction for entry in entries if entry.transaction]
    return [transaction for transaction in transactions if transaction.user_id == user_id]


def shape(record: CreditTransaction) -> tuple[object, ...]:
    """Return what both adapters must agree on; ids and times differ."""
    return (
        record.type,
        record.amount,
        record.sequence,
        record.balance_after,
        record.epoch,
        record.description,
        record.metadata,
        record.refund_of is not None,
        record.allowance_amount,
        record.allowance_after,
        record.period_start,
    )


def check_chain(records: list[CreditTransaction]) -> None:
    """Sequences have no gap and each balance follows from the one before."""
    for before, after in pairwise(records):
        assert after.sequence == before.sequence + 1
        assert after.balance_after == before.balance_after + after.amount
