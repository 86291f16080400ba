"""Holds on real servers: races, lost replies, sweeps by a real worker, and the sum."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis import Redis

from faregate import Hold, open_gate
from faregate.adapters.redis import keys
from faregate.adapters.redis.holds import RedisHoldLedger
from faregate.adapters.redis.runner import ScriptRunner
from faregate.adapters.redis.stream import RedisStream
from faregate.adapters.redis.sweeper import RedisSweeper
from faregate.bootstrap import open_audit, open_stream
from faregate.domain.errors import OutcomeUnknownError
from faregate.domain.hold import HoldRequest, HoldState, Settlement
from faregate.domain.request import VoidOutcome
from faregate.domain.transaction import CreditTransaction, TransactionType
from faregate.ops.reconcile import reconcile
from lossy_proxy import lossy_proxy
from redis_ledger import IDENTITY, SHARD, balance, charge_of, everything, install
from waiting import WAIT_S_MAX, until, wait_for
from worker_process import System

SWEEPS = 8


def make_ledger(url: str) -> RedisHoldLedger:
    return RedisHoldLedger(ScriptRunner.from_url(url), shard_count=1, stream_length_max=1000)


@pytest.fixture
async def ledger(ledger_redis: str) -> AsyncIterator[RedisHoldLedger]:
    made = make_ledger(ledger_redis)
    await made.attach(IDENTITY)
    yield made
    await made.aclose()


def request_of(
    ledger: RedisHoldLedger, user_id: UUID, estimate: int, *, within_ms: int = 10_000
) -> HoldRequest:
    charge = charge_of(ledger, user_id, within_ms=within_ms)
    return HoldRequest(charge=replace(charge, cost=estimate), ttl_ms=100)


async def held_by(ledger: RedisHoldLedger, user_id: UUID) -> int:
    user = await ledger.read(user_id)
    assert user is not None
    return user.held


def records(url: str, user_id: UUID) -> list[CreditTransaction]:
    """Return a user's records in the stream."""
    with closing(RedisStream.from_url(url, 1)) as stream:
        found = [entry.transaction for entry in stream.unacknowledged(SHARD)]
    return [record for record in found if record is not None and record.user_id == user_id]


async def test_sweeps_that_race_give_a_hold_back_once(
    ledger: RedisHoldLedger, client: Redis, ledger_redis: str
) -> None:
    """However many sweeps, requests and late settlements find it due, one refund is made."""
    user_id = await install(ledger)
    request = request_of(ledger, user_id, 7)
    hold = await ledger.hold(request)
    assert hold.allowed
    settlement = Settlement(user_id=user_id, hold_id=hold.id, actual=3)
    sweepers = [RedisSweeper.from_url(ledger_redis, 1) for _ in range(SWEEPS)]
    await until(lambda: sweepers[0].shards_due() == [SHARD], "the hold is due")

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
    assert client.exists(keys.holds(SHARD)) == 0


async def test_settlements_that_race_settle_once(
    ledger: RedisHoldLedger, ledger_redis: str
) -> None:
    """One is made, the others are told of it."""
    user_id = await install(ledger)
    hold = await ledger.hold(replace(request_of(ledger, user_id, 4), ttl_ms=60_000))
    settlement = Settlement(user_id=user_id, hold_id=hold.id, actual=9)
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
        await ledger.charge(charge_of(ledger, user_id))
        warm = await ledger.hold(replace(request_of(ledger, user_id, 1), ttl_ms=60_000))
        await ledger.settle(Settlement(user_id=user_id, hold_id=warm.id, actual=1))
        proxy.replies_to_lose = 1
        request = request_of(ledger, user_id, 4, within_ms=1_000)
        hold = await ledger.hold(replace(request, ttl_ms=60_000))
        assert (proxy.lost, hold.decision.repeated) == (1, True)
        proxy.replies_to_lose = 1
        settlement = Settlement(user_id=user_id, hold_id=hold.id, actual=3)
        answer = await ledger.settle(settlement)
        assert (proxy.lost, answer.repeated, answer.refunded) == (2, True, 1)
        assert await balance(ledger, user_id) == 5
        await ledger.aclose()


async def test_a_hold_without_any_reply_is_voided_by_its_id(ledger_redis: str) -> None:
    """Both replies lost: the outcome is unknown, then nothing of it is left."""
    async with lossy_proxy(ledger_redis) as (proxy, url):
        ledger = make_ledger(url)
        await ledger.attach(IDENTITY)
        user_id = await install(ledger)
        warm = await ledger.hold(request_of(ledger, user_id, 1))
        assert warm.allowed
        request = replace(request_of(ledger, user_id, 4, within_ms=1_000), ttl_ms=60_000)
        proxy.replies_to_lose = 2
        with pytest.raises(OutcomeUnknownError):
            await ledger.hold(request)
        outcome = VoidOutcome.TOO_EARLY
        async with asyncio.timeout(WAIT_S_MAX):
            while outcome is VoidOutcome.TOO_EARLY:
                await asyncio.sleep(0.05)
                outcome = await ledger.void_hold(request)
        assert outcome is VoidOutcome.REFUNDED
        assert await held_by(ledger, user_id) in {0, 1}
        kinds = [
            record.type for record in records(ledger_redis, user_id) if abs(record.amount) == 4
        ]
        assert kinds == [TransactionType.DEDUCT, TransactionType.REFUND]
        await ledger.aclose()


async def test_a_refused_hold_leaves_every_key_as_it_was(
    ledger: RedisHoldLedger, client: Redis
) -> None:
    """Too many holds, too few credits, and credits that are held: nothing is written."""
    user_id = await install(ledger)
    await ledger.hold(replace(request_of(ledger, user_id, 6), ttl_ms=60_000))
    before = everything(client)
    for estimate, open_max in ((1, 1), (20, 9), (6, 9)):
        request = replace(request_of(ledger, user_id, estimate), open_max=open_max)
        assert not (await ledger.hold(request)).allowed
    assert everything(client) == before


async def test_a_retry_of_a_hold_that_is_refused_does_not_speak_for_the_attempt_before(
    ledger: RedisHoldLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempt may still arrive and take the estimate, so the outcome is unknown."""
    user_id = await install(ledger)
    run = ledger._run

    async def lose_the_first(name: str, names: Any, arguments: Any, patience: Any) -> list[Any]:
        if name == "hold" and arguments[4] == 1:
            raise OutcomeUnknownError("lost")
        return await run(name, names, arguments, patience)

    monkeypatch.setattr(ledger, "_run", lose_the_first)
    with pytest.raises(OutcomeUnknownError, match="out_of_credits"):
        await ledger.hold(request_of(ledger, user_id, 11))


async def test_the_hold_of_a_user_who_is_gone_is_forgotten(
    ledger: RedisHoldLedger, client: Redis, ledger_redis: str
) -> None:
    """A sweep finds it due once, and nothing of it stays for good."""
    user_id = await install(ledger)
    hold = await ledger.hold(request_of(ledger, user_id, 2))
    with (
        closing(RedisStream.from_url(ledger_redis, 1)) as stream,
        closing(RedisSweeper.from_url(ledger_redis, 1)) as sweeper,
    ):
        stream.forget([user_id])
        wait_for(lambda: sweeper.shards_due() == [SHARD], "the hold is due")
        assert sweeper.open_holds() == {hold.id}
        assert sweeper.sweep(SHARD) == 0
        assert sweeper.open_holds() == frozenset()
        assert sweeper.shards_due() == []
    for name in (keys.hold(SHARD, hold.id), keys.refunds(SHARD, hold.id)):
        assert client.pttl(name) > 0


@pytest.mark.postgres
def test_a_worker_gives_back_what_nobody_ends(
    ledger_redis: str, database_url: str, tmp_path: Path
) -> None:
    """Nobody calls the sweep: the ticker finds the hold, and its refund becomes a row."""
    system = System(redis_url=ledger_redis, database_url=database_url, log=tmp_path / "worker.log")
    user_ids = [uuid4() for _ in range(5)]

    async def hold_all() -> list[Hold]:
        async with open_gate(system.settings) as gate:
            return [await gate.hold(user_id, 2, ttl_ms=100) for user_id in user_ids]

    assert all(hold.allowed for hold in asyncio.run(hold_all()))
    with system.worker():
        # A starting row, a deduct and a refund each.
        wait_for(lambda: system.rows() == 3 * len(user_ids), "everything is given back")
        wait_for(system.drained, "everything is drained")
    with open_audit(system.settings) as audit, open_stream(system.settings) as stream:
        report = reconcile(stream, stream, audit)
    assert report.is_exact
    with Redis.from_url(ledger_redis) as client:
        assert not list(client.scan_iter("fg:*:holds"))
