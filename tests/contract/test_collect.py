"""Collecting from a journal: the memory adapter and Redis take the same, and record the same."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector import HOUR_MS, IDENTITY, KEY, TEN, Collector, collector_on, identify, seen, shape
from faregate.domain.errors import AmountError, TransactionConflictError
from faregate.domain.idempotency import IdempotencyKey
from faregate.domain.request import Credit
from faregate.domain.transaction import (
    CREDITS_MAX,
    TransactionType,
)
from faregate.domain.user import User


@pytest.fixture(params=["memory", "redis"])
async def collector(request: pytest.FixtureRequest, ledger_redis: str) -> AsyncIterator[Collector]:
    """Both, by turns."""
    async with collector_on(request.param, ledger_redis) as made:
        yield made


async def test_an_owed_amount_is_charged_once(collector: Collector) -> None:
    """The second time tells what was taken the first time."""
    assert await collector.collect("a", 2) == ("allowed", -2, 3, 0, False)
    assert await collector.collect("b", 1) == ("allowed", -1, 2, 0, False)
    assert await collector.collect("a", 2) == ("allowed", -2, 3, 0, True)
    assert await collector.collect("a", 9) == ("allowed", -2, 3, 0, True)
    assert [record.amount for record in collector.records()] == [-2, -1]
    record = collector.records()[0]
    assert record.id == collector.entry("a", 2).deduct_id
    assert record.metadata == {
        "name": "a",
        "journal": {
            "attempt": str(identify("a")),
            "cost": 2,
            "served_at": "2027-01-15T08:00:00.000+00:00",
        },
    }


async def test_a_charge_never_exceeds_the_credits(collector: Collector) -> None:
    """What was not there is noted, and a user who has nothing gets a record of nothing."""
    assert await collector.collect("a", 7) == ("allowed", -5, 0, 0, False)
    assert await collector.collect("b", 1) == ("allowed", 0, 0, 0, False)
    shortfalls = [(record.metadata or {}).get("shortfall") for record in collector.records()]
    assert shortfalls == [2, 1]


async def test_a_debt_is_made_no_larger(collector: Collector) -> None:
    """Below zero there is nothing to take."""
    adjustment = Credit(
        user_id=collector.user_id,
        transaction_id=identify("debt"),
        type=TransactionType.ADMIN_ADJUSTMENT,
        amount=-9,
        description="debt",
        negative_allowed=True,
    )
    await collector.ledger.credit(adjustment)
    assert await collector.collect("a", 3) == ("allowed", 0, -4, 0, False)


async def test_a_new_period_begins_and_its_allowance_is_spent_first(collector: Collector) -> None:
    """As with a charge."""
    assert await collector.collect("a", 4, allowance=TEN) == ("allowed", -4, 11, 6, False)
    collector.clock.advance(HOUR_MS)
    assert await collector.collect("b", 12, allowance=TEN) == ("allowed", -12, 3, 0, False)
    assert await collector.collect("c", 9, allowance=TEN) == ("allowed", -3, 0, 0, False)
    moved = [record.allowance_amount for record in collector.records()]
    assert moved == [10, -4, 4, -10, 0]


async def test_an_unlimited_user_is_recorded_and_pays_nothing(collector: Collector) -> None:
    """The cost is in the metadata, and is no shortfall."""
    assert await collector.collect("a", 3, is_unlimited=True) == ("allowed", 0, 5, 0, False)
    (record,) = collector.records()
    assert record.metadata is not None
    assert "shortfall" not in record.metadata
    assert record.metadata["journal"]["cost"] == 3  # type: ignore[index]


async def test_requests_without_a_cost_are_not_written(collector: Collector) -> None:
    """It is looked up, and begins no period."""
    assert await collector.collect("a", 0, allowance=TEN) == ("allowed", 0, 5, 0, False)
    assert collector.records() == []
    await collector.collect("b", 2)
    assert await collector.collect("b", 0) == ("allowed", -2, 3, 0, True)


async def test_refunds_are_reported(collector: Collector) -> None:
    """The repetition tells what is left of it; a refund finds it, bounded by what was taken."""
    await collector.collect("a", 7)
    assert await collector.give_back("a", 2) == ("allowed", 2, 2, 0, False)
    assert (await collector.collect("a", 7))[1] == -3
    assert (await collector.give_back("a", 4))[0] == "refund_exceeded"
    assert await collector.give_back("a", None) == ("allowed", 3, 5, 0, False)
    assert (await collector.collect("a", 7))[1] == 0
    await collector.collect("b", 9)
    await collector.collect("c", 1)
    assert (await collector.give_back("c", None))[0] == "refund_exceeded"


async def test_a_key_that_was_served_is_not_charged_again(collector: Collector) -> None:
    """Neither before the outage nor, from then on, after it."""
    key = KEY.to_saved()
    charged = await collector.charge(1, KEY)
    assert (await collector.collect("a", 1, key=key))[1:] == (0, 4, 0, True)
    other = replace(key, fingerprint_digest=bytes(16))
    assert await collector.collect("b", 1, key=other) == ("allowed", -1, 3, 0, False)
    fresh = IdempotencyKey(key="another", lifetime_ms=HOUR_MS, lease_ms=HOUR_MS)
    assert await collector.collect("c", 1, key=fresh.to_saved()) == ("allowed", -1, 2, 0, False)
    again = await collector.charge(1, fresh)
    assert (again.repeated, str(again.key_state), again.amount) == (True, "done", -1)
    assert (await collector.charge(1, KEY)).transaction_id == charged.transaction_id
    collector.clock.advance(key.lifetime_ms)
    assert (await collector.collect("d", 1, key=key))[1] == -1


async def test_a_user_with_too_many_keys_is_charged_by_the_import(collector: Collector) -> None:
    """The request has been served; only its key is not kept."""
    for name in ("a", "b"):
        key = IdempotencyKey(key=name, keys_max=1)
        assert (await collector.collect(name, 1, key=key.to_saved()))[1] == -1
    assert (await collector.charge(1, IdempotencyKey(key="b", keys_max=9))).amount == -1
    assert (await collector.charge(1, IdempotencyKey(key="a", keys_max=9))).repeated


async def test_no_user_is_charged_under_the_id_of_another(collector: Collector) -> None:
    """The same attempt of two users cannot be."""
    other = User(id=uuid4(), credits=5, sequence=1, epoch=IDENTITY.epoch)
    await collector.ledger.install(other)
    await collector.collect("a", 1)
    theirs = replace(collector.entry("a", 1), user_id=other.id)
    with pytest.raises(TransactionConflictError):
        await collector.ledger.collect(theirs)


async def test_an_unknown_user_is_not_charged(collector: Collector) -> None:
    """Nobody is invented."""
    stranger = replace(collector.entry("a", 1), user_id=uuid4())
    assert seen(await collector.ledger.collect(stranger))[0] == "unknown_user"
    assert collector.records() == []


async def test_no_top_up_takes_a_balance_out_of_its_range(collector: Collector) -> None:
    """As with a charge, it is refused whole."""
    credit = Credit(
        user_id=collector.user_id,
        transaction_id=identify("all"),
        type=TransactionType.ADD,
        amount=CREDITS_MAX - 5,
        description="all",
    )
    await collector.ledger.credit(credit)
    with pytest.raises(AmountError):
        await collector.collect("a", 1, allowance=TEN)
    assert (await collector.collect("a", 1))[1] == -1


STEPS = st.one_of(
    st.tuples(
        st.just("collect"),
        st.sampled_from("abcd"),
        st.integers(0, 8),
        st.sampled_from([None, TEN]),
        st.booleans(),
        st.sampled_from(["", "one", "two"]),
    ),
    st.tuples(
        st.just("give back"), st.sampled_from("abcd"), st.one_of(st.none(), st.integers(1, 4))
    ),
    st.tuples(st.just("charge"), st.integers(0, 3), st.sampled_from(["", "one", "two"])),
    st.tuples(st.just("wait"), st.sampled_from([1, HOUR_MS // 2, HOUR_MS])),
)


@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(STEPS, max_size=20))
def test_random_sequences_end_alike(ledger_redis: str, steps: list[tuple[object, ...]]) -> None:
    """Whatever is collected, charged and given back, both answer and record the same."""
    specified, played = (
        asyncio.run(_play(kind, ledger_redis, steps)) for kind in ("memory", "redis")
    )
    assert played == specified


async def _play(kind: str, url: str, steps: list[tuple[object, ...]]) -> list[object]:
    async with collector_on(kind, url) as collector:
        answers: list[object] = [await _do(collector, step) for step in steps]
        attempts = {str(record.metadata): shape(record) for record in collector.records()}
        return [*answers, *attempts.values(), len(collector.records())]


async def _do(collector: Collector, step: tuple[object, ...]) -> object:
    do, *rest = step
    if do == "collect":
        name, cost, allowance, is_unlimited, key = rest
        kept = IdempotencyKey(key=str(key)).to_saved() if key else None
        return await collector.collect(
            str(name), int(str(cost)), allowance=allowance, is_unlimited=is_unlimited, key=kept
        )
    if do == "give back":
        name, amount = rest
        return await collector.give_back(str(name), amount)  # type: ignore[arg-type]
    if do == "charge":
        cost, key = rest
        decision = await collector.charge(
            int(str(cost)), IdempotencyKey(key=str(key)) if key else None
        )
        return seen(decision), decision.key_state
    collector.clock.advance(int(str(rest[0])))
    return None
