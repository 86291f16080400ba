"""Redis and the memory adapter answer alike: one table, and random sequences, on both."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faregate.adapters.memory.ledger import MemoryLedger
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.runner import ScriptRunner
from faregate.adapters.redis.stream import RedisStream
from faregate.domain.transaction import CreditTransaction
from faregate.ports import Ledger
from scenarios import SCENARIOS, Player, Step, add, adjust, charge, refund, void


def redis_ledger(url: str, *, stream_length_max: int = 100_000) -> RedisLedger:
    runner = ScriptRunner.from_url(url, 2.0)
    return RedisLedger(runner, shard_count=1, stream_length_max=stream_length_max)


@pytest.fixture(params=["memory", "redis"])
async def ledger(request: pytest.FixtureRequest) -> AsyncIterator[Ledger]:
    """Each implementation of the port in turn."""
    if request.param == "memory":
        yield MemoryLedger()
        return
    live = redis_ledger(request.getfixturevalue("ledger_redis"))
    yield live
    await live.aclose()


@pytest.mark.parametrize("name", SCENARIOS)
async def test_the_ledger_answers_as_the_table_says(name: str, ledger: Ledger) -> None:
    """Each step's verdict and balance are those of the table."""
    player = Player(ledger, uuid4())
    await player.start()
    for number, step in enumerate(SCENARIOS[name], start=1):
        answer, balance, repeated = await player.play(step)
        assert (answer, repeated) == (step.answer, step.repeated), f"step {number}: {step}"
        if step.credits is not None:
            assert balance == step.credits, f"step {number}: {step}"


async def test_an_unknown_user_is_not_charged(ledger: Ledger) -> None:
    """A user that was never installed gets an answer, and no record."""
    player = Player(ledger, uuid4())
    await player.start()
    player.user_id = uuid4()
    answer, _, _ = await player.play(charge("a"))
    assert answer == "unknown_user"
    assert await ledger.read(player.user_id) is None


NAMES = st.sampled_from("abcdef")
STEPS = st.one_of(
    st.builds(charge, NAMES, st.integers(-1, 4)),
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
    memory, live = MemoryLedger(), redis_ledger(url)
    try:
        specified, played = Player(memory, user_id), Player(live, user_id)
        await specified.start()
        await played.start()
        for step in steps:
            assert await played.play(step) == await specified.play(step), step
        assert await live.read(user_id) == await memory.read(user_id)
        expected = [shape(record) for record in memory.pending.values()]
        found = [shape(record) for record in records_of(url, user_id)]
        assert found == expected
        check_chain(records_of(url, user_id))
    finally:
        await live.aclose()


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
    )


def check_chain(records: list[CreditTransaction]) -> None:
    """Sequences have no gap and each balance follows from the one before."""
    for before, after in pairwise(records):
        assert after.sequence == before.sequence + 1
        assert after.balance_after == before.balance_after + after.amount
