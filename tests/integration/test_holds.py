"""Holds on real servers: races, lost replies, sweeps by a real worker, and the sum."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis import Redis

from faregate import Hold, open_gate
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.stream import RedisStream
from faregate.adapters.redis.sweeper import RedisSweeper
from faregate.bootstrap import open_audit, open_stream
from faregate.domain.attempt import Action, AttemptError, Event
from faregate.domain.decision import Decision, Verdict
from faregate.domain.hold import HoldState, Settlement
from faregate.domain.request import VoidOutcome
from faregate.domain.spend import HoldOptions
from faregate.domain.transaction import CreditTransaction
from faregate.ops.reconcile import reconcile
from lossy_proxy import lossy_proxy
from redis_ledger import (
    IDENTITY,
    KEYS,
    SHARD,
    attempt_of,
    balance,
    everything,
    install,
    make_ledger,
    records_after,
    spend,
)
from waiting import until, wait_for
from worker_process import System

pytestmark = pytest.mark.redis

SWEEPS = 8
#: Expires at once, as far as a test is concerned; and not while one runs.
SOON, LATE = HoldOptions(ttl_ms=100), HoldOptions(ttl_ms=600_000)


@pytest.fixture
def sweeper(ledger_redis: str) -> Iterator[RedisSweeper]:
    with closing(RedisSweeper.from_url(ledger_redis, 1)) as made:
        yield made


async def hold(
    ledger: RedisLedger, user_id: UUID, cost: int, options: HoldOptions = LATE
) -> Decision:
    decision = await spend(ledger, user_id, cost, hold=options)
    assert decision.allowed
    return decision


async def held_by(ledger: RedisLedger, user_id: UUID) -> int:
    user = await ledger.read(user_id)
    assert user is not None
    return user.held


def records(url: str, user_id: UUID) -> list[CreditTransaction]:
    """Return a user's records in the stream."""
    with closing(RedisStream.from_url(url, 1)) as stream:
        found = [entry.transaction for entry in records_after(stream)]
    return [record for record in found if record is not None and record.user_id == user_id]


async def test_sweeps_that_race_give_a_hold_back_once(
    ledger: RedisLedger, client: Redis, ledger_redis: str
) -> None:
    """However many sweeps, requests and late settlements find it due, one refund is made."""
    user_id = await install(ledger)
    decision = await hold(ledger, user_id, 7, SOON)
    settlement = Settlement(user_id=user_id, hold_id=decision.transaction_id, actual=3)
    sweepers = [RedisSweeper.from_url(ledger_redis, 1) for _ in range(SWEEPS)]
    await until(sweepers[0].shards_due)

    swept, expired, late = await asyncio.gather(
        asyncio.gather(*(asyncio.to_thread(sweeper.sweep, SHARD) for sweeper in sweepers)),
        asyncio.gather(*(ledger.expire_due(user_id) for _ in range(SWEEPS))),
        ledger.settle(settlement),
    )

    for sweeper in sweepers:
        sweeper.close()
    assert (late.state, late.refunded) == (HoldState.EXPIRED, 7)
    assert sum(swept) + sum(expired) <= 1
    assert [record.amount for record in records(ledger_redis, user_id)] == [-7, 7]
    assert (await balance(ledger, user_id), await held_by(ledger, user_id)) == (10, 0)
    assert client.exists(KEYS.holds) == 0


async def test_a_request_ends_the_holds_of_its_user_that_have_expired(
    ledger: RedisLedger, client: Any, sweeper: RedisSweeper
) -> None:
    """And those of nobody else, which a sweep does."""
    user_id, other = await install(ledger), await install(ledger)
    for each in (user_id, other, user_id):
        await hold(ledger, each, 2, SOON)
    await hold(ledger, user_id, 1)
    await until(lambda: client.zcount(KEYS.holds, "-inf", client.time()[0] * 1_000) == 3)
    await ledger.read(user_id)
    assert await ledger.expire_due(user_id) == 2
    assert (await balance(ledger, user_id), await held_by(ledger, user_id)) == (9, 1)
    assert await held_by(ledger, other) == 2
    assert sweeper.sweep(SHARD) == 1
    assert await held_by(ledger, other) == 0


async def test_settlements_that_race_settle_once(ledger: RedisLedger, ledger_redis: str) -> None:
    """One is made, the others are told of it."""
    user_id = await install(ledger)
    decision = await hold(ledger, user_id, 4)
    settlement = Settlement(user_id=user_id, hold_id=decision.transaction_id, actual=9)
    answers = await asyncio.gather(*(ledger.settle(settlement) for _ in range(20)))
    assert sorted(answer.repeated for answer in answers) == [False] + [True] * 19
    assert {answer.charged for answer in answers} == {5}
    assert [record.amount for record in records(ledger_redis, user_id)] == [-4, -5]


async def test_lost_replies_hold_and_settle_once(ledger_redis: str) -> None:
    """The second attempt with the same ids is told what the first one did."""
    async with lossy_proxy(ledger_redis) as (proxy, url):
        ledger = make_ledger(url)
        await ledger.attach(IDENTITY)
        user_id = await install(ledger)
        proxy.replies_to_lose = 1
        attempt = attempt_of(user_id, 4, hold=LATE)
        with pytest.raises(AttemptError) as caught:
            await ledger.decide(attempt)
        assert attempt.follow(caught.value.event, has_time=True) is Action.ASK_AGAIN
        decision = await ledger.decide(attempt)
        assert (proxy.lost, decision.repeated) == (1, True)
        assert decision.expires_at_ms > ledger.now_ms()
        proxy.replies_to_lose = 1
        answer = await ledger.settle(
            Settlement(user_id=user_id, hold_id=decision.transaction_id, actual=3)
        )
        assert (proxy.lost, answer.repeated, answer.refunded) == (2, True, 1)
        assert await balance(ledger, user_id) == 7
        await ledger.aclose()


async def test_a_hold_without_any_reply_is_voided_by_its_id(ledger_redis: str) -> None:
    """Nobody was told of it: once its deadline has passed, nothing of it is left."""
    async with lossy_proxy(ledger_redis) as (proxy, url):
        ledger = make_ledger(url, timeout_ms=200)
        await ledger.attach(IDENTITY)
        user_id = await install(ledger)
        proxy.replies_to_lose = 1
        attempt = attempt_of(user_id, 4, hold=LATE)
        with pytest.raises(AttemptError) as caught:
            await ledger.decide(attempt)
        assert (proxy.lost, caught.value.event) == (1, Event.LOST)
        assert await held_by(ledger, user_id) == 4
        outcome = VoidOutcome.TOO_EARLY
        while outcome is VoidOutcome.TOO_EARLY:
            outcome = await ledger.void(attempt.void())
        assert outcome is VoidOutcome.REFUNDED
        assert (await balance(ledger, user_id), await held_by(ledger, user_id)) == (10, 0)
        assert [record.amount for record in records(ledger_redis, user_id)] == [-4, 4]
        await ledger.aclose()


async def test_a_refused_hold_leaves_every_key_as_it_was(
    ledger: RedisLedger, client: Redis
) -> None:
    """Too many holds, too few credits, and credits that are held: nothing is written."""
    user_id = await install(ledger)
    await hold(ledger, user_id, 6)
    before = everything(client)
    refused = [
        await spend(ledger, user_id, cost, hold=replace(LATE, open_max=open_max))
        for cost, open_max in ((1, 1), (20, 9), (6, 9))
    ]
    assert [decision.verdict for decision in refused] == [
        *(Verdict.TOO_MANY_HOLDS, Verdict.OUT_OF_CREDITS, Verdict.CREDITS_HELD)
    ]
    assert {decision.expires_at_ms for decision in refused} == {0}
    assert everything(client) == before


async def test_the_hold_of_a_deleted_user_is_forgotten(
    ledger: RedisLedger, client: Any, ledger_redis: str, sweeper: RedisSweeper
) -> None:
    """A sweep finds it due once, and nothing of it stays for good."""
    user_id = await install(ledger)
    decision = await hold(ledger, user_id, 2, SOON)
    with closing(RedisStream.from_url(ledger_redis, 1)) as stream:
        stream.forget([user_id])
    await until(sweeper.shards_due)
    assert sweeper.open_holds() == {decision.transaction_id}
    assert sweeper.sweep(SHARD) == 0
    assert sweeper.open_holds() == frozenset()
    assert sweeper.shards_due() == []
    assert client.pttl(KEYS.deduct(decision.transaction_id)) > 0


@pytest.mark.postgres
def test_a_worker_gives_back_expired_holds(
    ledger_redis: str, database_url: str, tmp_path: Path
) -> None:
    """Nobody calls the sweep: the ticker finds the hold, and its refund becomes a row."""
    system = System(redis_url=ledger_redis, database_url=database_url, log=tmp_path / "worker.log")
    user_ids = [uuid4() for _ in range(5)]

    async def hold_all() -> list[Hold]:
        async with open_gate(system.settings) as gate:
            return [await gate.hold(user_id, 2, ttl_ms=100) for user_id in user_ids]

    assert all(made.allowed for made in asyncio.run(hold_all()))
    with system.worker():
        # A starting row, a deduct and a refund each.
        wait_for(lambda: system.rows() == 3 * len(user_ids), "everything is given back")
        wait_for(system.drained, "everything is drained")
    with open_audit(system.settings) as audit, open_stream(system.settings) as stream:
        report = reconcile(stream, stream, audit)
    assert report.is_exact
    with Redis.from_url(ledger_redis) as client:
        assert not list(client.scan_iter("fg:*:holds"))
