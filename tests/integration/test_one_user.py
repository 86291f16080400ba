"""One user with a thousand requests at once: each credit is spent once, and others are served."""

import asyncio
from collections import Counter
from uuid import UUID

import pytest
from redis import Redis

from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.records import read_entry
from faregate.domain.attempt import AttemptError, Event
from faregate.domain.decision import Decision, Verdict
from redis_ledger import IDENTITY, balance, entries, install, make_ledger, spend

pytestmark = pytest.mark.redis

AT_ONCE = 1_000
OTHERS = 100
#: After which time one comes again for whom there was no room, in seconds.
PAUSE_S = 0.005


async def spend_or_shed(ledger: RedisLedger, user_id: UUID) -> Decision | None:
    """Charge once; None where more wait than may, and nothing was sent."""
    try:
        return await spend(ledger, user_id)
    except AttemptError as error:
        if error.event is not Event.SHED:
            raise
        return None


async def decided(ledger: RedisLedger, user_id: UUID) -> Decision:
    """Charge, again and again until there is room."""
    while True:
        decision = await spend_or_shed(ledger, user_id)
        if decision is not None:
            return decision
        await asyncio.sleep(PAUSE_S)


def users_of_entries(client: Redis) -> list[Counter[UUID]]:
    """Return whose records each entry holds, one entry a call."""
    return [
        Counter(record.transaction.user_id for record in read_entry(*entry) if record.transaction)
        for entry in entries(client)
    ]


async def test_a_thousand_at_once_of_a_hundred_credits_allow_a_hundred(
    ledger: RedisLedger, ledger_redis: str, client: Redis
) -> None:
    """From two gates; those for which there was no room come again."""
    other = make_ledger(ledger_redis)
    await other.attach(IDENTITY)
    user_id = await install(ledger, credits_=100)
    asked = [decided(gate, user_id) for gate in (ledger, other) for _ in range(AT_ONCE // 2)]
    decisions = await asyncio.gather(*asked)
    verdicts = Counter(decision.verdict for decision in decisions)
    assert verdicts == {Verdict.ALLOWED: 100, Verdict.OUT_OF_CREDITS: AT_ONCE - 100}
    allowed = [decision for decision in decisions if decision.allowed]
    assert {decision.credits for decision in allowed} == set(range(100))
    assert len({decision.transaction_id for decision in allowed}) == 100
    assert await balance(ledger, user_id) == 0
    assert sum(users_of_entries(client), Counter()) == {user_id: 100}
    await other.aclose()


async def test_a_user_with_a_thousand_requests_at_once_does_not_block_others(
    ledger: RedisLedger, client: Redis
) -> None:
    """Those who come after the thousand are decided in the first calls, beside the one."""
    greedy = await install(ledger, credits_=AT_ONCE)
    others = [await install(ledger) for _ in range(OTHERS)]
    asked = [spend_or_shed(ledger, user_id) for user_id in [greedy] * AT_ONCE + others]
    decisions = await asyncio.gather(*asked)
    assert all(decision and decision.allowed for decision in decisions[AT_ONCE:])
    served = sum(decision is not None for decision in decisions[:AT_ONCE])
    assert 0 < served < AT_ONCE
    assert await balance(ledger, greedy) == AT_ONCE - served
    calls = users_of_entries(client)
    assert sum(calls[:2], Counter()).keys() == {greedy, *others}
    assert set(others) & calls[0].keys()
    assert 0 < calls[0][greedy] < calls[0].total() / 2


async def test_a_user_who_fills_the_queue_does_not_block_others(
    ledger: RedisLedger,
) -> None:
    """Another one comes again and again meanwhile, and is served each time."""
    greedy, other = await install(ledger, credits_=10**9), await install(ledger, credits_=100)
    over, shed = asyncio.Event(), 0

    async def insist() -> None:
        nonlocal shed
        while not over.is_set():
            if await spend_or_shed(ledger, greedy) is None:
                shed += 1
                await asyncio.sleep(PAUSE_S)

    insisting = [asyncio.ensure_future(insist()) for _ in range(AT_ONCE)]
    decisions = [await spend_or_shed(ledger, other) for _ in range(30)]
    over.set()
    await asyncio.gather(*insisting)
    assert shed
    assert [decision.credits for decision in decisions if decision] == list(range(99, 69, -1))
