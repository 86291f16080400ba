"""Allowances and limits on a real Redis: races, wrong clocks, and refusals that leave no trace."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from faregate.adapters.redis import keys
from faregate.adapters.redis.clock import ServerClock
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.stream import RedisStream
from faregate.domain.decision import Verdict
from faregate.domain.limit import LimitKind, RateLimit
from faregate.domain.period import DAY_MS, Period, PeriodKind
from faregate.domain.policy import Allowance
from faregate.domain.request import DurableDeduct, Refund
from faregate.domain.transaction import CreditTransaction, CreditTransactionId, TransactionType
from redis_ledger import IDENTITY, SHARD, charge_of, everything, install, make_ledger

DAILY = Allowance(amount=100, period=Period(kind=PeriodKind.DAY))
STEADY = RateLimit(name="steady", count=1, period_ms=60_000)
WINDOW = RateLimit(name="window", count=1, period_ms=60_000, kind=LimitKind.WINDOW)


def records(client: Any) -> list[CreditTransaction]:
    """Return all records of the stream."""
    stream = RedisStream(client, 1)
    return [entry.transaction for entry in stream.unacknowledged(SHARD) if entry.transaction]


@pytest.fixture
def stream_client(ledger_redis: str) -> Any:
    """A client as the stream uses it."""
    stream = RedisStream.from_url(ledger_redis, 1)
    yield stream._redis
    stream.close()


async def test_a_period_that_begins_under_load_is_begun_once(
    ledger: RedisLedger, stream_client: Any
) -> None:
    """Fifty first charges at once: one top-up."""
    user_id = await install(ledger)
    charges = [replace(charge_of(ledger, user_id), allowance=DAILY) for _ in range(50)]
    decisions = await asyncio.gather(*map(ledger.charge, charges))
    assert all(decision.allowed for decision in decisions)
    kinds = [record.type for record in records(stream_client)]
    assert kinds.count(TransactionType.ADD) == 1
    assert min(decision.credits for decision in decisions) == 10 + 100 - 50
    top_up = records(stream_client)[0]
    assert (top_up.amount, top_up.allowance_after, top_up.id.value.version) == (100, 100, 5)


@pytest.mark.parametrize("days", [-1, 1])
async def test_a_caller_with_a_wrong_clock_resets_nothing(
    ledger_redis: str, stream_client: Any, days: int
) -> None:
    """The clock of Redis decides, whatever the callers' clocks say."""
    right, wrong = make_ledger(ledger_redis), make_ledger(ledger_redis)
    wrong._clock = ServerClock(lambda: time.monotonic() * 1_000 + days * DAY_MS)
    await right.attach(IDENTITY)
    await wrong.attach(IDENTITY)
    user_id = await install(right)
    decisions = [
        await ledger.charge(replace(charge_of(ledger, user_id), allowance=DAILY))
        for ledger in (right, wrong, right, wrong)
    ]
    assert all(decision.allowed for decision in decisions)
    assert len({decision.resets_at_ms for decision in decisions}) == 1
    kinds = [record.type for record in records(stream_client)]
    assert kinds.count(TransactionType.ADD) == 1
    await right.aclose()
    await wrong.aclose()


@pytest.mark.parametrize("limit", [STEADY, WINDOW], ids=["gcra", "window"])
async def test_a_refusal_leaves_everything_as_it_was(
    ledger: RedisLedger, stream_client: Any, limit: RateLimit
) -> None:
    """Every counter, balance and stream, compared byte by byte."""
    user_id = await install(ledger)
    other = RateLimit(name="other", count=5, period_ms=60_000)
    limited = replace(charge_of(ledger, user_id), limits=(other, limit))
    assert (await ledger.charge(limited)).allowed
    before = everything(stream_client)
    again = replace(charge_of(ledger, user_id), limits=(other, limit), allowance=DAILY)
    refused = await ledger.charge(again)
    assert (refused.verdict, refused.limited_by) == (Verdict.RATE_LIMITED, limit.name)
    assert 0 < refused.retry_after_ms <= 60_000
    costly = replace(charge_of(ledger, user_id), limits=(other,), allowance=DAILY, cost=999)
    assert (await ledger.charge(costly)).verdict is Verdict.OUT_OF_CREDITS
    peek = replace(charge_of(ledger, user_id), limits=(other,), allowance=DAILY, cost=0)
    assert (await ledger.charge(peek)).credits == 109
    assert everything(stream_client) == before


async def test_the_state_of_a_limit_goes_when_it_is_not_needed(
    ledger: RedisLedger, stream_client: Any
) -> None:
    """The memory of limits is bounded in time by their periods."""
    user_id = await install(ledger)
    await ledger.charge(replace(charge_of(ledger, user_id), limits=(STEADY, WINDOW)))
    for limit in (STEADY, WINDOW):
        left_ms = stream_client.pttl(keys.rate(SHARD, f"{limit.kind} {limit.name}", str(user_id)))
        assert 0 < left_ms <= 60_000


async def test_a_limit_that_changes_its_kind_begins_anew(ledger: RedisLedger) -> None:
    """Its name is the same, its state is not: nobody is turned away with an error."""
    user_id = await install(ledger)
    for kind in (LimitKind.GCRA, LimitKind.WINDOW, LimitKind.GCRA):
        limit = RateLimit(name="same", count=5, period_ms=60_000, kind=kind)
        assert (await ledger.charge(replace(charge_of(ledger, user_id), limits=(limit,)))).allowed


async def test_a_quiet_shard_still_grants_and_refunds(
    ledger: RedisLedger, stream_client: Any
) -> None:
    """Records that are rows since a day do not stand in the way, however few they are."""
    user_id = await install(ledger)
    charge = charge_of(ledger, user_id)
    await ledger.charge(charge)
    name = keys.stream(SHARD)
    ((_, fields),) = stream_client.xrange(name)
    stream_client.delete(name)
    stream_client.xadd(name, fields, id="1-1")
    stream = RedisStream(stream_client, 1)
    entries = stream.read(SHARD, 10)
    refund = Refund(
        user_id=user_id,
        deduct_id=charge.transaction_id,
        transaction_id=CreditTransactionId.derive("refund", charge.transaction_id.value),
        amount=None,
        description="refund",
        durable=DurableDeduct(amount=1, refunded=0),
    )
    assert (await ledger.refund(refund)).verdict is Verdict.BACKLOG
    stream.acknowledge(SHARD, [entry.stream_id for entry in entries])
    assert stream.trim(SHARD) == 1
    assert (await ledger.refund(refund)).allowed
