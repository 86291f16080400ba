"""The lane: whatever happens on the way, each caller gets its own answer, and nothing is lost."""

import asyncio
from uuid import UUID

import pytest
from redis import Redis

from faregate.adapters.redis.ledger import RedisLedger
from faregate.domain.attempt import Action, Attempt, AttemptError, Event, Phase
from faregate.domain.decision import Decision
from faregate.domain.errors import AmountError, LedgerCorruptError
from faregate.domain.request import VoidOutcome
from lossy_proxy import lossy_proxy
from redis_ledger import (
    IDENTITY,
    KEYS,
    attempt_of,
    balance,
    install,
    make_ledger,
    spend,
)
from waiting import until

pytestmark = pytest.mark.redis

#: A decision timeout that passes soon.
SHORT_MS = 200


async def event_of(ledger: RedisLedger, attempt: Attempt) -> Event:
    """Return what happened to an attempt that ends without a decision."""
    with pytest.raises(AttemptError) as caught:
        await ledger.decide(attempt)
    return caught.value.event


async def test_attempts_of_one_turn_of_the_loop_leave_as_one_call(
    ledger: RedisLedger, client: Redis
) -> None:
    """They share one entry of the stream, and each gets its own place in it."""
    users = [await install(ledger, 100 + number) for number in range(10)]
    decisions = await asyncio.gather(*(spend(ledger, user_id) for user_id in users))
    assert [decision.user_id for decision in decisions] == users
    assert [decision.credits for decision in decisions] == [99 + n for n in range(10)]
    assert client.xlen(KEYS.stream) == 1
    entries, indexes = zip(*(d.position.split("/") for d in decisions), strict=True)
    assert len(set(entries)) == 1
    assert list(map(int, indexes)) == list(range(1, 11))


async def test_a_call_holds_at_most_so_many_spends(ledger: RedisLedger, client: Redis) -> None:
    """More than one call can hold is decided by several."""
    users = [await install(ledger) for _ in range(40)]
    decisions = await asyncio.gather(*(spend(ledger, user_id) for user_id in users * 10))
    assert all(decision.allowed for decision in decisions)
    assert client.xlen(KEYS.stream) >= 4


async def test_the_second_spend_of_a_user_sees_the_balance_after_the_first(
    ledger: RedisLedger,
) -> None:
    """Also in one call."""
    user_id = await install(ledger, 3)
    decisions = await asyncio.gather(*(spend(ledger, user_id) for _ in range(5)))
    assert [decision.credits for decision in decisions] == [2, 1, 0, 0, 0]
    assert [decision.allowed for decision in decisions] == [True] * 3 + [False] * 2


async def test_an_ill_formed_spend_is_refused_alone(ledger: RedisLedger, client: Redis) -> None:
    """Its neighbours in the call are decided, as are those of an account that is overwritten."""
    good, spoilt = await install(ledger), await install(ledger)
    client.set(KEYS.account(spoilt.bytes), b"?")
    outcomes = await asyncio.gather(
        spend(ledger, good),
        spend(ledger, good, cost=2**31),
        spend(ledger, good, cost=True),
        spend(ledger, spoilt),
        spend(ledger, good),
        return_exceptions=True,
    )
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [Decision, AmountError, AmountError, LedgerCorruptError, Decision]
    assert await balance(ledger, good) == 8


async def test_a_caller_that_gives_up_in_the_queue_sends_nothing(
    ledger: RedisLedger, client: Redis
) -> None:
    """Nothing of it is charged, and nothing has to be voided."""
    user_id = await install(ledger)
    attempt = attempt_of(user_id)
    waiting = ledger.decide(attempt)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert attempt.phase is Phase.QUEUED
    assert (await spend(ledger, user_id)).credits == 9
    assert client.xlen(KEYS.stream) == 1


async def test_a_caller_that_gives_up_in_flight_is_voided(ledger_redis: str) -> None:
    """It was charged, and is given back once its deadline has passed."""
    async with lossy_proxy(ledger_redis) as (proxy, url):
        ledger = make_ledger(url, timeout_ms=SHORT_MS)
        await ledger.attach(IDENTITY)
        user_id = await install(ledger)
        proxy.hold()
        attempt = attempt_of(user_id)
        waiting = asyncio.ensure_future(ledger.decide(attempt))
        await until(lambda: proxy.held)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert attempt.follow(Event.CANCELLED, has_time=True) is Action.VOID
        proxy.release()
        assert await balance(ledger, user_id) == 9
        outcome = VoidOutcome.TOO_EARLY
        while outcome is VoidOutcome.TOO_EARLY:
            outcome = await ledger.void(attempt.void())
        assert outcome is VoidOutcome.REFUNDED
        assert await balance(ledger, user_id) == 10
        await ledger.aclose()


async def test_late_replies_reach_no_other_caller(ledger_redis: str) -> None:
    """Those that come after the time-out are read and dropped, in their turn."""
    async with lossy_proxy(ledger_redis) as (proxy, url):
        ledger = make_ledger(url, timeout_ms=SHORT_MS)
        await ledger.attach(IDENTITY)
        users = [await install(ledger, 100 + number) for number in range(10)]
        proxy.hold()
        attempts = [attempt_of(user_id) for user_id in users]
        events = await asyncio.gather(*(event_of(ledger, attempt) for attempt in attempts))
        assert set(events) == {Event.TIMED_OUT}
        assert {attempt.phase for attempt in attempts} == {Phase.SENT}
        assert proxy.held
        proxy.release()
        seen = [await ledger.read(user_id) for user_id in users]
        assert [user.credits for user in seen if user] == [99 + number for number in range(10)]
        decisions = await asyncio.gather(*(spend(ledger, user_id) for user_id in reversed(users)))
        assert [decision.user_id for decision in decisions] == users[::-1]
        assert [decision.credits for decision in decisions] == [107 - n for n in range(10)]
        assert proxy.connections == 1
        await ledger.aclose()


@pytest.mark.parametrize("lost", ["reply", "request"])
async def test_an_attempt_whose_connection_broke_is_charged_once(
    ledger_redis: str, lost: str
) -> None:
    """The second attempt has the same id. It is told what the first was, or is charged itself."""
    async with lossy_proxy(ledger_redis) as (proxy, url):
        ledger = make_ledger(url)
        await ledger.attach(IDENTITY)
        user_id = await install(ledger)
        proxy.replies_to_lose = int(lost == "reply")
        proxy.requests_to_lose = int(lost == "request")
        attempt = attempt_of(user_id)
        assert await event_of(ledger, attempt) is Event.LOST
        assert (proxy.lost, attempt.phase) == (1, Phase.SENT)
        first_id = attempt.transaction_id
        assert attempt.follow(Event.LOST, has_time=True) is Action.ASK_AGAIN
        decision = await ledger.decide(attempt)
        assert (decision.allowed, decision.repeated) == (True, lost == "reply")
        assert decision.transaction_id == first_id
        assert await balance(ledger, user_id) == decision.credits == 9
        assert proxy.connections == 2
        await ledger.aclose()


async def test_a_storm_of_cancellations_leaves_each_its_own_answer(
    ledger: RedisLedger, client: Redis
) -> None:
    """What was charged is what was recorded, and everybody reads its own balance."""
    users = [await install(ledger, 1_000 + number) for number in range(20)]
    asked = [asyncio.ensure_future(spend(ledger, users[n % 20])) for n in range(200)]
    await asyncio.sleep(0)
    for task in asked[::3]:
        task.cancel()
    results = await asyncio.gather(*asked, return_exceptions=True)
    decisions = [result for result in results if isinstance(result, Decision)]
    assert len(decisions) < len(asked)
    for number, result in enumerate(results):
        assert not isinstance(result, Decision) or result.user_id == users[number % 20]
    live = [await balance(ledger, user_id) for user_id in users]
    assert sum(1_000 + n - credits_ for n, credits_ in enumerate(live)) == len(decisions)


async def test_scripts_that_the_server_has_forgotten_are_sent_again(
    ledger: RedisLedger, client: Redis
) -> None:
    """The server says so before it executes anything, so each charge is made once."""
    users = [await install(ledger) for _ in range(100)]
    client.function_flush()
    decisions = await asyncio.gather(*(spend(ledger, user_id) for user_id in users))
    assert {decision.credits for decision in decisions} == {9}
    client.script_flush()
    assert await balance(ledger, users[0]) == 9


async def test_a_closed_ledger_leaves_no_caller_waiting(ledger_redis: str) -> None:
    """What was sent is `LOST`, what was not is `NOT_SENT`, and it can be attached again."""
    async with lossy_proxy(ledger_redis) as (proxy, url):
        ledger = make_ledger(url)
        await ledger.attach(IDENTITY)
        users = [await install(ledger) for _ in range(2)]
        proxy.hold()
        sent = asyncio.ensure_future(event_of(ledger, attempt_of(users[0])))
        await until(lambda: proxy.held)
        queued = asyncio.ensure_future(event_of(ledger, attempt_of(users[1])))
        await asyncio.sleep(0)
        await ledger.aclose()
        assert [await sent, await queued] == [Event.LOST, Event.NOT_SENT]
        proxy.release()
        await ledger.attach(IDENTITY)
        assert [await balance(ledger, user_id) for user_id in users] == [9, 10]
        await ledger.aclose()


async def test_a_server_that_cannot_be_reached_is_sent_nothing(tmp_path: object) -> None:
    """So nothing has to be voided."""
    ledger = make_ledger(f"unix://{tmp_path}/none")
    attempts = [attempt_of(UUID(int=number)) for number in range(300)]
    events = await asyncio.gather(*(event_of(ledger, attempt) for attempt in attempts))
    assert set(events) == {Event.NOT_SENT}
    assert {attempt.phase for attempt in attempts} == {Phase.QUEUED}
    await ledger.aclose()
