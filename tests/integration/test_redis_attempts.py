"""Attempts that overtake each other, ids of other clocks, and memories that have run out."""

import asyncio
from dataclasses import replace
from itertools import count
from uuid import uuid4

import pytest
from redis import Redis

from faregate.adapters.redis.clock import ShardClocks
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.values import ShardState
from faregate.domain.attempt import Action, Attempt, AttemptError, Event, Phase
from faregate.domain.decision import Verdict
from faregate.domain.errors import TransactionIdError
from faregate.domain.request import Refund, VoidOutcome
from faregate.domain.transaction import CreditTransactionId
from faregate.domain.user import User
from faregate.domain.windows import MINTED_ID_AHEAD_MS_MAX
from redis_ledger import (
    IDENTITY,
    KEYS,
    attempt_of,
    balance,
    entries,
    install,
    make_ledger,
    spend,
    state,
)

pytestmark = pytest.mark.redis

DAY_MS = 86_400_000


def retry_of(attempt: Attempt) -> Attempt:
    """Return the second attempt after one that was sent and not answered."""
    retry = Attempt(attempt.spend)
    retry.transaction_id = attempt.transaction_id
    retry.asked_at_ms, retry.deadline_ms = attempt.asked_at_ms, attempt.deadline_ms
    retry.phase = Phase.SENT_AGAIN
    return retry


def refund_of(attempt: Attempt, amount: int | None = None) -> Refund:
    """Ask for a refund with an id of its own."""
    assert attempt.transaction_id is not None
    return Refund(
        user_id=attempt.spend.user_id,
        deduct_id=attempt.transaction_id,
        transaction_id=CreditTransactionId.mint(1_800_000_000_000),
        amount=amount,
        description="refund",
    )


async def charged(ledger: RedisLedger, attempt: Attempt) -> Attempt:
    """Return an attempt that was decided."""
    assert (await ledger.decide(attempt)).allowed
    return attempt


async def test_a_first_attempt_that_its_retry_overtook_charges_nothing(
    ledger: RedisLedger,
) -> None:
    """The retry is charged; the first attempt arrives later, in time, and is recognised."""
    user_id = await install(ledger)
    await asyncio.sleep(0.002)
    retry = attempt_of(user_id)
    retry.transaction_id = CreditTransactionId.mint(ledger.now_ms())
    retry.phase = Phase.SENT_AGAIN
    assert not (await ledger.decide(retry)).repeated
    await spend(ledger, user_id)
    first = attempt_of(user_id)
    first.transaction_id = retry.transaction_id
    late = await ledger.decide(first)
    assert (late.allowed, late.repeated) == (True, True)
    assert await balance(ledger, user_id) == 8


async def test_a_retry_that_is_refused_refuses_the_attempt_before(ledger: RedisLedger) -> None:
    """It may arrive only now; there is enough by then, and nothing is charged."""
    user_id = await install(ledger, credits_=0)
    await asyncio.sleep(0.002)
    retry = attempt_of(user_id)
    retry.transaction_id = CreditTransactionId.mint(ledger.now_ms())
    retry.phase = Phase.SENT_AGAIN
    assert (await ledger.decide(retry)).verdict is Verdict.OUT_OF_CREDITS
    other = await install(ledger)
    first = Attempt(replace(retry.spend, cost=0))
    first.transaction_id = retry.transaction_id
    assert (await ledger.decide(first)).verdict is Verdict.VOIDED
    assert (await spend(ledger, other)).allowed


async def test_a_minted_id_carries_the_time_of_the_ledger(ledger: RedisLedger) -> None:
    """It is a UUIDv7, and ids of one turn have one order."""
    users = [await install(ledger) for _ in range(20)]
    before_ms = ledger.now_ms()
    decisions = await asyncio.gather(*(spend(ledger, user_id) for user_id in users))
    ids = [decision.transaction_id for decision in decisions]
    assert all(before_ms < (one.time_ms or 0) <= ledger.now_ms() + 1 for one in ids)
    assert sorted(one.bytes for one in ids) == [one.bytes for one in ids]


async def test_a_user_is_charged_as_soon_as_it_is_installed(
    ledger_redis: str, client: Redis
) -> None:
    """After a rebuild, too, when ids of earlier times are known no more."""
    ledger = make_ledger(ledger_redis)
    await ledger.attach(replace(IDENTITY, epoch=2))
    for number in range(20):
        user = User(id=uuid4(), credits=number + 1, sequence=1, epoch=2)
        assert await ledger.install(user)
        assert (await spend(ledger, user.id)).credits == number
    await ledger.aclose()


async def test_an_id_that_is_ahead_of_the_ledger_is_minted_again(ledger: RedisLedger) -> None:
    """The estimate of its time was wrong. Nothing was written, and the reply says the time."""
    user_id = await install(ledger)
    (endpoint,) = ledger._session.nodes.endpoints
    clocks = endpoint.clocks
    wrong_us = (ledger.now_ms() + MINTED_ID_AHEAD_MS_MAX + 60_000) * 1_000
    clocks._server.observe(wrong_us)
    attempt = attempt_of(user_id)
    with pytest.raises(AttemptError) as caught:
        await ledger.decide(attempt)
    assert caught.value.event is Event.AHEAD
    assert attempt.follow(Event.AHEAD, has_time=True) is Action.ASK_ANEW
    assert (await ledger.decide(attempt)).credits == 9


@pytest.mark.parametrize("hours", [-24, 24])
async def test_a_caller_with_a_wrong_clock_is_charged_like_others(
    ledger_redis: str, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """Only the clock of Redis counts."""
    ticks = count(abs(hours) * 3_600_000_000, 1 if hours > 0 else 2)
    monkeypatch.setattr(
        "faregate.adapters.redis.session.ShardClocks",
        lambda shards, *_: ShardClocks(shards, lambda: next(ticks)),
    )
    ledger = make_ledger(ledger_redis)
    await ledger.attach(IDENTITY)
    user_id = await install(ledger)
    assert (await spend(ledger, user_id)).credits == 9
    await ledger.aclose()


async def test_a_shard_that_is_ahead_of_its_server_is_charged_in_its_own_time(
    ledger_redis: str, client: Redis
) -> None:
    """As after a failover to a server whose clock is behind: its time stands still."""
    first = make_ledger(ledger_redis)
    await first.attach(IDENTITY)
    user_id = await install(first)
    ahead_us = (first.now_ms() + 600_000) * 1_000
    client.set(KEYS.state, ShardState(epoch=1, last_us=ahead_us).pack())
    with pytest.raises(AttemptError) as caught:
        await spend(first, user_id)
    assert caught.value.event is Event.LATE
    decisions = [await spend(first, user_id) for _ in range(3)]
    second = make_ledger(ledger_redis)
    await second.attach(IDENTITY)
    decisions += [await spend(second, user_id) for _ in range(3)]
    assert {decision.decided_at_ms for decision in decisions} == {ahead_us // 1_000}
    assert [decision.credits for decision in decisions] == [9, 8, 7, 6, 5, 4]
    await first.aclose()
    await second.aclose()


async def test_a_void_does_not_undo_the_charge_of_an_earlier_call(ledger: RedisLedger) -> None:
    """A client that repeats a served request, and hangs up, does not get its credits back."""
    user_id = await install(ledger)
    given = CreditTransactionId.mint(ledger.now_ms())
    served = await charged(ledger, attempt_of(user_id, transaction_id=given))
    await asyncio.sleep(0.01)
    await ledger.read(user_id)
    now_ms = ledger.now_ms()
    void = replace(served.void(), asked_at_ms=now_ms, first_deadline_ms=now_ms, deadline_ms=now_ms)
    outcome = VoidOutcome.TOO_EARLY
    while outcome is VoidOutcome.TOO_EARLY:
        outcome = await ledger.void(void)
    assert outcome is VoidOutcome.KEPT
    assert await balance(ledger, user_id) == 9
    assert (await spend(ledger, user_id, transaction_id=given)).repeated


async def test_an_id_beyond_its_window_is_refused(ledger: RedisLedger, client: Redis) -> None:
    """A caller needs a new one; one of ours is as good as late, and is made anew."""
    user_id = await install(ledger)
    attempt = await charged(ledger, attempt_of(user_id))
    client.set(KEYS.state, replace(state(client), oldest_ms=ledger.now_ms()).pack())
    with pytest.raises(AttemptError) as caught:
        await ledger.decide(retry_of(attempt))
    assert caught.value.event is Event.LATE
    old = CreditTransactionId.mint(ledger.now_ms() - 100_000)
    with pytest.raises(TransactionIdError, match="new id"):
        await spend(ledger, user_id, transaction_id=old)
    assert await balance(ledger, user_id) == 9


async def test_no_refund_is_made_while_records_are_older_than_its_memory(
    ledger: RedisLedger, client: Redis
) -> None:
    """A refund that is neither a row nor remembered could be paid twice, so it has to wait."""
    user_id = await install(ledger)
    attempt = await charged(ledger, attempt_of(user_id))
    refund = refund_of(attempt, 1)
    ((position, payload),) = entries(client)
    client.delete(KEYS.stream)
    client.xadd(KEYS.stream, {"r": payload}, id="1-1")
    client.xadd(KEYS.stream, {"r": payload}, id=position)
    assert (await ledger.refund(refund)).verdict is Verdict.BACKLOG
    assert await balance(ledger, user_id) == 9
    client.xdel(KEYS.stream, "1-1")
    assert (await ledger.refund(refund)).allowed


async def test_saved_ids_expire_after_a_day(ledger: RedisLedger, client: Redis) -> None:
    """The memory of refunds and voids is bounded in time."""
    user_id = await install(ledger)
    refunded = await charged(ledger, attempt_of(user_id))
    await ledger.refund(refund_of(refunded))
    voided = attempt_of(user_id)
    voided.note_sent(CreditTransactionId.mint(ledger.now_ms()), 1, 1)
    assert await ledger.void(voided.void()) is VoidOutcome.REFUSED
    for attempt in (refunded, voided):
        assert attempt.transaction_id is not None
        left_ms = client.pttl(KEYS.deduct(attempt.transaction_id))
        assert DAY_MS - 60_000 < left_ms <= DAY_MS


async def test_no_user_is_refunded_the_charge_of_another_user(ledger: RedisLedger) -> None:
    """The position of a record says whose it is."""
    payer, other = await install(ledger), await install(ledger)
    attempt = attempt_of(payer)
    decision = await ledger.decide(attempt)
    theft = replace(refund_of(attempt), user_id=other, position=decision.position)
    assert (await ledger.refund(theft)).verdict is Verdict.UNKNOWN_DEDUCT
    assert await balance(ledger, other) == 10
