"""Idempotency keys on a real Redis: races, refusals that leave no trace, and what they take."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from redis import Redis

from faregate.adapters.redis import keys
from faregate.adapters.redis.holds import RedisHoldLedger
from faregate.adapters.redis.runner import ScriptRunner
from faregate.domain.decision import Verdict
from faregate.domain.hold import HoldRequest
from faregate.domain.idempotency import Completion, IdempotencyKey, KeyState
from faregate.domain.limit import LimitKind, RateLimit
from faregate.domain.request import Charge, Refund
from faregate.domain.transaction import CreditTransactionId
from spec.staging import staged
from spec.steps import MINUTE_MS, USERS
from redis_ledger import IDENTITY, SHARD, balance, charge_of, everything, install

RACERS = 50
#: What one key of a user takes, whatever its length.
KEY_BYTES_MAX = 250
DAY_MS = 86_400_000


@pytest.fixture
async def ledger(ledger_redis: str) -> AsyncIterator[RedisHoldLedger]:
    runner = ScriptRunner.from_url(ledger_redis, 10.0)
    made = RedisHoldLedger(runner, shard_count=1, stream_length_max=10_000)
    await made.attach(IDENTITY)
    yield made
    await made.aclose()


def ask(ledger: RedisHoldLedger, user_id: UUID, name: str = "order", **rest: Any) -> Charge:
    """A charge with a key."""
    attempt = charge_of(ledger, user_id, within_ms=10_000)
    return replace(attempt, key=IdempotencyKey(key=name, **rest))


async def test_one_of_many_requests_with_a_key_is_charged(
    ledger: RedisHoldLedger, client: Redis
) -> None:
    """However many come at once: one record, and one that serves."""
    user_id = await install(ledger)
    decisions = await asyncio.gather(*(ledger.charge(ask(ledger, user_id)) for _ in range(RACERS)))
    states = Counter(decision.key_state for decision in decisions)
    assert states == {KeyState.NEW: 1, KeyState.IN_FLIGHT: RACERS - 1}
    assert len({decision.transaction_id for decision in decisions}) == 1
    assert sum(decision.repeated for decision in decisions) == RACERS - 1
    assert (client.xlen(keys.stream(SHARD)), await balance(ledger, user_id)) == (1, 9)


async def test_one_of_many_holds_with_a_key_is_taken(
    ledger: RedisHoldLedger, client: Redis
) -> None:
    """All are told of the one hold, and when it expires."""
    user_id = await install(ledger)
    requests = [
        HoldRequest(charge=replace(ask(ledger, user_id), cost=4), ttl_ms=MINUTE_MS)
        for _ in range(RACERS)
    ]
    holds = await asyncio.gather(*map(ledger.hold, requests))
    states = Counter(hold.decision.key_state for hold in holds)
    assert states == {KeyState.NEW: 1, KeyState.IN_FLIGHT: RACERS - 1}
    assert len({(hold.id, hold.expires_at_ms) for hold in holds}) == 1
    user = await ledger.read(user_id)
    assert user is not None
    assert (client.xlen(keys.stream(SHARD)), user.credits, user.held) == (1, 6, 4)


async def test_a_key_that_is_freed_under_load_is_charged_once_more(
    ledger: RedisHoldLedger, client: Redis
) -> None:
    """Refunds and new requests at once: each charge that is made was first given back."""
    user_id = await install(ledger)
    first = await ledger.charge(ask(ledger, user_id))
    refund = Refund(
        user_id=user_id,
        deduct_id=first.transaction_id,
        transaction_id=CreditTransactionId.derive("refund", first.transaction_id.value),
        amount=None,
        description="refund",
    )
    asked = (ledger.charge(ask(ledger, user_id)) for _ in range(RACERS))
    _, *decisions = await asyncio.gather(ledger.refund(refund), *asked)
    # Those that came before the refund were told of the first charge, all others of one more.
    told = {decision.transaction_id for decision in decisions}
    taken = sum(decision.key_state is KeyState.NEW for decision in decisions)
    assert taken == len(told - {first.transaction_id}) <= 1
    assert client.xlen(keys.stream(SHARD)) == 2 + taken
    assert await balance(ledger, user_id) == 10 - taken


def test_one_of_many_takes_over(redis_url: str) -> None:
    """After the lease, by the clock of Redis: one serves, the others wait for another lease."""
    with staged(redis_url) as stage:
        side = stage.side("redis")
        user_id = USERS["ann"]

        async def race() -> list[Counter[KeyState | None]]:
            await side.start()
            ledger = side.ledger_of(user_id)
            attempt = replace(
                charge_of(ledger, user_id),  # type: ignore[arg-type]
                key=IdempotencyKey(key="order", lease_ms=MINUTE_MS),
            )
            rounds = []
            for _ in range(3):
                now_ms = side.clock()
                attempts = [
                    replace(
                        attempt,
                        transaction_id=CreditTransactionId.mint(now_ms),
                        deadline_ms=now_ms + MINUTE_MS,
                    )
                    for _ in range(RACERS)
                ]
                decisions = await asyncio.gather(*map(ledger.charge, attempts))
                rounds.append(Counter(decision.key_state for decision in decisions))
                side.clock.advance(MINUTE_MS)
            return rounds

        first, *later = stage.loop.run(race())
    assert first == {KeyState.NEW: 1, KeyState.IN_FLIGHT: RACERS - 1}
    assert later == [{KeyState.TAKEN_OVER: 1, KeyState.IN_FLIGHT: RACERS - 1}] * 2


@pytest.mark.parametrize("kind", LimitKind)
async def test_a_refusal_leaves_everything_as_it_was(
    ledger: RedisHoldLedger, client: Redis, kind: LimitKind
) -> None:
    """A key that is reused or one too many, a hold that a limit refuses: compared byte by byte."""
    user_id = await install(ledger)
    limits = (
        RateLimit(name="wide", count=9, period_ms=60_000),
        RateLimit(name="narrow", count=1, period_ms=60_000, kind=kind),
    )
    taken = replace(ask(ledger, user_id, keys_max=1), limits=limits)
    assert (await ledger.charge(taken)).allowed
    before = everything(client)

    reused = replace(ask(ledger, user_id, fingerprint="other"), limits=limits)
    one_more = replace(ask(ledger, user_id, "more", keys_max=1), limits=limits)
    limited = replace(charge_of(ledger, user_id), limits=limits)
    for attempt, verdict in (
        (reused, Verdict.KEY_REUSED),
        (one_more, Verdict.TOO_MANY_KEYS),
        (limited, Verdict.RATE_LIMITED),
    ):
        assert (await ledger.charge(attempt)).verdict is verdict
        request = HoldRequest(charge=attempt, ttl_ms=MINUTE_MS)
        refused = await ledger.hold(request)
        assert (refused.decision.verdict, refused.expires_at_ms) == (verdict, 0)
    waiting = await ledger.charge(replace(ask(ledger, user_id), limits=limits))
    assert waiting.key_state is KeyState.IN_FLIGHT
    assert everything(client) == before


async def test_what_keys_take_is_bounded_in_room_and_in_time(
    ledger: RedisHoldLedger, client: Redis
) -> None:
    """So many bytes for a key, however long it is; both hashes and the response go."""
    user_id = await install(ledger, credits_=2_000)
    names = keys.idempotency(SHARD, user_id)
    for count in (200, 1_000):
        while (await balance(ledger, user_id)) > 2_000 - count:
            number = await balance(ledger, user_id)
            await asyncio.gather(
                *(
                    ledger.charge(ask(ledger, user_id, f"{number} {n} {'x' * 200}"))
                    for n in range(40)
                )
            )
        used = sum(client.memory_usage(name, samples=0) or 0 for name in names)
        assert used <= KEY_BYTES_MAX * count, f"{count} keys take {used} bytes"
    last = await ledger.charge(ask(ledger, user_id))
    completion = Completion(
        user_id=user_id, transaction_id=last.transaction_id, response=b"x" * 1_000, keep_ms=5_000
    )
    assert await ledger.complete(completion)
    assert 0 < client.pttl(keys.response(SHARD, last.transaction_id)) <= 5_000
    there = [client.pttl(name) for name in names if client.exists(name)]
    assert there
    assert all(0 < left_ms <= 2 * DAY_MS for left_ms in there)
