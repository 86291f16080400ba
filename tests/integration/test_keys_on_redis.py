"""Idempotency keys on a real Redis: races, refusals that leave no trace, and what they take."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from redis import Redis

from faregate.adapters.redis.ledger import RedisLedger
from faregate.domain.decision import Decision, Verdict
from faregate.domain.idempotency import Completion, IdempotencyKey, KeyState
from faregate.domain.limit import LimitKind, RateLimit
from faregate.domain.policy import CreditPolicy
from faregate.domain.request import Refund
from faregate.domain.spend import HoldOptions
from faregate.domain.transaction import CreditTransactionId
from redis_ledger import IDENTITY, KEYS, balance, everything, install, make_ledger, spend, state

pytestmark = pytest.mark.redis

RACERS = 50
#: What one key of a user takes, whatever its length.
KEY_BYTES_MAX = 250
DAY_MS = 86_400_000
MINUTE_MS = 60_000


@pytest.fixture
async def ledgers(ledger_redis: str) -> AsyncIterator[list[RedisLedger]]:
    """Several processes, as far as the server can tell."""
    made = [make_ledger(ledger_redis) for _ in range(3)]
    for each in made:
        await each.attach(IDENTITY)
    yield made
    for each in made:
        await each.aclose()


async def ask(
    ledger: RedisLedger,
    user_id: UUID,
    name: str = "order",
    *,
    cost: int = 1,
    policy: CreditPolicy | None = None,
    **rest: Any,
) -> Decision:
    """Ask for a spend with a key."""
    options = {option: rest.pop(option) for option in ("hold",) if option in rest}
    key = IdempotencyKey(key=name, **rest)
    return await spend(ledger, user_id, cost, policy or CreditPolicy(), key=key, **options)


async def race(ledgers: list[RedisLedger], user_id: UUID, **rest: Any) -> list[Decision]:
    """Ask many times at once, from several processes."""
    asked = (ask(ledgers[n % len(ledgers)], user_id, **rest) for n in range(RACERS))
    return await asyncio.gather(*asked)


async def test_one_of_many_requests_with_a_key_is_charged(
    ledgers: list[RedisLedger], client: Redis
) -> None:
    """However many come at once: one record, and one that serves."""
    user_id = await install(ledgers[0])
    decisions = await race(ledgers, user_id)
    states = Counter(decision.key_state for decision in decisions)
    assert states == {KeyState.NEW: 1, KeyState.IN_FLIGHT: RACERS - 1}
    assert len({decision.transaction_id for decision in decisions}) == 1
    assert sum(decision.repeated for decision in decisions) == RACERS - 1
    assert (state(client).ordinal, await balance(ledgers[0], user_id)) == (1, 9)


async def test_one_of_many_holds_with_a_key_is_taken(
    ledgers: list[RedisLedger], client: Redis
) -> None:
    """All are told of the one hold, and when it expires."""
    user_id = await install(ledgers[0])
    holds = await race(ledgers, user_id, cost=4, hold=HoldOptions(ttl_ms=MINUTE_MS))
    states = Counter(hold.key_state for hold in holds)
    assert states == {KeyState.NEW: 1, KeyState.IN_FLIGHT: RACERS - 1}
    assert len({(hold.transaction_id, hold.expires_at_ms) for hold in holds}) == 1
    assert holds[0].expires_at_ms > 0
    user = await ledgers[0].read(user_id)
    assert user is not None
    assert (state(client).ordinal, user.credits, user.held) == (1, 6, 4)


async def test_a_key_that_is_freed_under_load_is_charged_once_more(
    ledgers: list[RedisLedger], client: Redis
) -> None:
    """Refunds and new requests at once: each charge that is made was first given back."""
    user_id = await install(ledgers[0])
    first = await ask(ledgers[0], user_id)
    refund = Refund(
        user_id=user_id,
        deduct_id=first.transaction_id,
        transaction_id=CreditTransactionId.derive("refund", first.transaction_id.value),
        amount=None,
        description="refund",
    )
    _, decisions = await asyncio.gather(ledgers[1].refund(refund), race(ledgers, user_id))
    # Those that came before the refund were told of the first charge, all others of one more.
    told = {decision.transaction_id for decision in decisions}
    taken = sum(decision.key_state is KeyState.NEW for decision in decisions)
    assert taken == len(told - {first.transaction_id}) <= 1
    assert state(client).ordinal == 2 + taken
    assert await balance(ledgers[0], user_id) == 10 - taken


async def test_one_of_many_takes_over(ledgers: list[RedisLedger], client: Any) -> None:
    """After the lease: one serves, the others wait for another lease."""
    user_id = await install(ledgers[0])
    first = await ask(ledgers[0], user_id, lease_ms=5 * MINUTE_MS)
    rounds = []
    for number in (1, 2):
        # Beyond the clock of its server, the time of a shard stands still until a test moves it.
        now_us = (first.decided_at_ms + number * 10 * MINUTE_MS) * 1_000
        client.set(KEYS.state, replace(state(client), last_us=now_us).pack())
        for ledger in ledgers:
            await ledger.read(user_id)
        decisions = await race(ledgers, user_id, lease_ms=5 * MINUTE_MS)
        assert {decision.transaction_id for decision in decisions} == {first.transaction_id}
        rounds.append(Counter(decision.key_state for decision in decisions))
    assert first.key_state is KeyState.NEW
    assert rounds == [{KeyState.TAKEN_OVER: 1, KeyState.IN_FLIGHT: RACERS - 1}] * 2
    assert await balance(ledgers[0], user_id) == 9


@pytest.mark.parametrize("kind", LimitKind)
async def test_a_refusal_leaves_everything_as_it_was(
    ledger: RedisLedger, client: Redis, kind: LimitKind
) -> None:
    """A key that is reused or one too many, a hold that a limit refuses: compared byte by byte."""
    user_id = await install(ledger)
    limits = (
        RateLimit(name="wide", count=9, period_ms=600_000),
        RateLimit(name="narrow", count=1, period_ms=600_000, kind=kind),
    )
    policy = CreditPolicy(limits=limits)
    assert (await ask(ledger, user_id, policy=policy, keys_max=1)).allowed
    before = everything(client)
    held: list[dict[str, Any]] = [{}, {"hold": HoldOptions(ttl_ms=MINUTE_MS)}]
    for hold in held:
        refused = [
            await ask(ledger, user_id, policy=policy, fingerprint="other", **hold),
            await ask(ledger, user_id, "more", policy=policy, keys_max=1, **hold),
            await spend(ledger, user_id, 1, policy, **hold),
        ]
        assert [(decision.verdict, decision.expires_at_ms) for decision in refused] == [
            (Verdict.KEY_REUSED, 0),
            (Verdict.TOO_MANY_KEYS, 0),
            (Verdict.RATE_LIMITED, 0),
        ]
    waiting = await ask(ledger, user_id, policy=policy)
    assert waiting.key_state is KeyState.IN_FLIGHT
    assert everything(client) == before


async def test_keys_are_bounded_in_number_and_time(ledger: RedisLedger, client: Any) -> None:
    """So many bytes for a key, however long it is; both hashes and the response go."""
    user_id = await install(ledger, credits_=2_000)
    names = KEYS.idempotency(user_id.bytes)
    made = 0
    for count in (200, 1_000):
        while made < count:
            asked = (ask(ledger, user_id, f"{made + n} {'x' * 200}") for n in range(40))
            await asyncio.gather(*asked)
            made += 40
        used = sum(client.memory_usage(name, samples=0) or 0 for name in names)
        assert used <= KEY_BYTES_MAX * count, f"{count} keys take {used} bytes"
    last = await ask(ledger, user_id)
    completion = Completion(
        user_id=user_id,
        transaction_id=last.transaction_id,
        response=b"x" * 1_000,
        lifetime_ms=5_000,
    )
    assert await ledger.complete(completion)
    assert await ledger.response(user_id, last.transaction_id) == b"x" * 1_000
    assert 0 < client.pttl(KEYS.response(last.transaction_id)) <= 5_000
    there = [client.pttl(name) for name in names if client.exists(name)]
    assert there
    assert all(0 < left_ms <= 2 * DAY_MS for left_ms in there)
