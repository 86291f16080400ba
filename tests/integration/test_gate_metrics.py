"""The metrics of a gate that are counted where calls leave and come back."""

import asyncio
import json
from dataclasses import asdict

import pytest
from redis import Redis

from faregate import CreditPolicy, Gate
from faregate.adapters.memory.store import MemoryStore
from faregate.adapters.redis.ledger import RedisLedger
from faregate.domain.attempt import AttemptError
from faregate.metrics import GateCollector
from lossy_proxy import lossy_proxy
from redis_ledger import IDENTITY, attempt_of, install, make_ledger, spend
from scrapes import by_name, exposition
from waiting import until

pytestmark = pytest.mark.redis

SHORT_MS = 200


def told(ledger: RedisLedger) -> dict[str, float]:
    gate = Gate(ledger, MemoryStore(), CreditPolicy())
    # It may be logged as a whole.
    assert json.loads(json.dumps(asdict(gate.health())))["calls"]["late"] >= 0
    return by_name(exposition(GateCollector(gate)))


async def test_each_decision_and_each_call_is_observed(ledger: RedisLedger) -> None:
    """Ten spends of one turn are one call; one more is another."""
    users = [await install(ledger, 100) for _ in range(10)]
    await asyncio.gather(*(spend(ledger, user_id) for user_id in users))
    await spend(ledger, users[0])
    seen = told(ledger)
    assert seen["faregate_call_spends_count"] == 2
    assert seen["faregate_call_spends_sum"] == 11
    assert seen["faregate_call_spends_bucket/1.0"] == seen["faregate_call_spends_bucket/8.0"] == 1
    assert seen["faregate_call_spends_bucket/16.0"] == 2
    assert seen["faregate_decision_seconds_count"] == 11
    assert seen["faregate_decision_seconds_bucket/+Inf"] == 11
    assert seen["faregate_decision_seconds_sum"] > 0
    assert seen["faregate_late_total"] == 0


async def test_late_decisions_are_counted_separately(ledger_redis: str) -> None:
    """No caller waited for it, so it says nothing about how long decisions take."""
    async with lossy_proxy(ledger_redis) as (proxy, url):
        ledger = make_ledger(url, timeout_ms=SHORT_MS)
        await ledger.attach(IDENTITY)
        users = [await install(ledger) for _ in range(3)]
        proxy.hold()
        attempts = [ledger.decide(attempt_of(user_id)) for user_id in users]
        for lost in await asyncio.gather(*attempts, return_exceptions=True):
            assert isinstance(lost, AttemptError)
        assert told(ledger)["faregate_late_total"] == 0
        proxy.release()
        await until(lambda: told(ledger)["faregate_late_total"] == 3, "late replies are counted")
        assert told(ledger)["faregate_decision_seconds_count"] == 0
        await ledger.aclose()


async def test_counts_outlive_a_connection(ledger: RedisLedger, client: Redis) -> None:
    """They begin with the process, as counters must."""
    user_id = await install(ledger)
    await spend(ledger, user_id)
    await ledger.aclose()
    await ledger.attach(IDENTITY)
    await spend(ledger, user_id)
    assert client.ping()
    assert told(ledger)["faregate_decision_seconds_count"] == 2
