"""Allowances and limits on a real Redis: races, wrong clocks, and refusals that leave no trace."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from faregate.adapters.redis.encoding import SpendPacker
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.stream import RedisStream
from faregate.adapters.redis.values import Account
from faregate.domain.decision import Verdict
from faregate.domain.limit import LimitKind, RateLimit
from faregate.domain.period import Period, PeriodKind
from faregate.domain.policy import Allowance, CreditPolicy
from faregate.domain.request import DurableDeduct, Refund
from faregate.domain.transaction import CreditTransaction, CreditTransactionId, TransactionType
from redis_ledger import (
    IDENTITY,
    KEYS,
    SHARD,
    attempt_of,
    entries,
    everything,
    install,
    make_ledger,
    records_after,
    spend,
    value,
)

pytestmark = pytest.mark.redis

DAILY = Allowance(amount=100, period=Period(kind=PeriodKind.DAY))
#: A rolling period begins with the first request, and so never ends in the middle of a test.
ROLLING = Allowance(amount=100, period=Period(kind=PeriodKind.ROLLING, length_ms=3_600_000))
STEADY = RateLimit(name="steady", count=1, period_ms=600_000)
WINDOW = RateLimit(name="window", count=1, period_ms=600_000, kind=LimitKind.WINDOW)
OTHER = RateLimit(name="other", count=5, period_ms=600_000)


def records(stream: RedisStream) -> list[CreditTransaction]:
    """Return all records of the stream."""
    return [entry.transaction for entry in records_after(stream) if entry.transaction]


async def test_a_period_that_begins_under_load_is_begun_once(
    ledger: RedisLedger, stream: RedisStream
) -> None:
    """Fifty first charges at once: one top-up."""
    user_id = await install(ledger)
    policy = CreditPolicy(allowance=ROLLING)
    decisions = await asyncio.gather(*(spend(ledger, user_id, 1, policy) for _ in range(50)))
    assert all(decision.allowed for decision in decisions)
    kinds = [record.type for record in records(stream)]
    assert kinds.count(TransactionType.ADD) == 1
    assert min(decision.credits for decision in decisions) == 10 + 100 - 50
    top_up = records(stream)[0]
    assert (top_up.amount, top_up.allowance_after, top_up.id.value.version) == (100, 100, 5)
    assert top_up.description == "allowance"


async def test_all_processes_begin_the_same_period(ledger_redis: str, stream: RedisStream) -> None:
    """The clock of Redis decides when."""
    ledgers = [make_ledger(ledger_redis) for _ in range(2)]
    for ledger in ledgers:
        await ledger.attach(IDENTITY)
    user_id = await install(ledgers[0])
    policy = CreditPolicy(allowance=ROLLING)
    decisions = [await spend(ledgers[n % 2], user_id, 1, policy) for n in range(4)]
    assert all(decision.allowed for decision in decisions)
    assert len({decision.resets_at_ms for decision in decisions}) == 1
    assert [record.type for record in records(stream)].count(TransactionType.ADD) == 1
    for ledger in ledgers:
        await ledger.aclose()


@pytest.mark.parametrize("limit", [STEADY, WINDOW], ids=["gcra", "window"])
async def test_a_refusal_leaves_everything_as_it_was(
    ledger: RedisLedger, client: Any, limit: RateLimit
) -> None:
    """Every counter, balance and stream, compared byte by byte."""
    user_id = await install(ledger)
    policy = CreditPolicy(limits=(OTHER, limit))
    assert (await spend(ledger, user_id, 1, policy)).allowed
    before = everything(client)
    refused = await spend(ledger, user_id, 1, replace(policy, allowance=DAILY))
    assert (refused.verdict, refused.limited_by) == (Verdict.RATE_LIMITED, limit.name)
    assert 0 < refused.retry_after_ms <= 600_000
    assert [state.remaining for state in refused.limits] == [4, 0]
    wide = CreditPolicy(limits=(OTHER,), allowance=DAILY)
    assert (await spend(ledger, user_id, 999, wide)).verdict is Verdict.OUT_OF_CREDITS
    assert (await spend(ledger, user_id, 0, wide)).credits == 109
    assert everything(client) == before


async def test_the_states_of_limits_are_bounded(ledger: RedisLedger, client: Any) -> None:
    """In time by their periods; and those of a user's own lie in its account."""
    user_id = await install(ledger)
    by_key = replace(STEADY, name="by key", is_by_key=True)
    policy = CreditPolicy(limits=(STEADY, WINDOW, by_key))
    attempt = attempt_of(user_id, 1, policy, limit_key="k")
    await ledger.decide(attempt)
    _, _, sections = SpendPacker().pack(attempt)
    digests = [sections[at : at + 16] for at in range(0, len(sections), 16)]
    assert len(digests) == 2
    for digest in digests:
        assert 0 < client.pttl(KEYS.limit(digest)) <= 600_000
    account = Account.unpack(value(client, KEYS.account(user_id.bytes)))
    assert len(account.arrivals) == 1
    ahead_us = account.arrivals[0][1] - ledger.now_ms() * 1_000
    assert 0 < ahead_us <= 600_000_000


async def test_a_limit_that_changes_its_kind_begins_anew(ledger: RedisLedger) -> None:
    """Its name is the same, its state is not: nobody is turned away with an error."""
    user_id = await install(ledger)
    for kind in (LimitKind.GCRA, LimitKind.WINDOW, LimitKind.GCRA):
        limit = RateLimit(name="same", count=5, period_ms=60_000, kind=kind)
        assert (await spend(ledger, user_id, 1, CreditPolicy(limits=(limit,)))).allowed


async def test_spends_of_many_policies_share_a_call(ledger: RedisLedger, client: Any) -> None:
    """Each is decided by its own, and a spend that is not limited by none of its limits."""
    users = [await install(ledger, 1_000) for _ in range(6)]
    policies = [
        CreditPolicy(name=str(n), allowance=replace(ROLLING, amount=n + 1), limits=(STEADY,))
        for n in range(len(users))
    ]
    asked = [
        spend(ledger, user_id, 1, policy, is_limited=is_limited)
        for user_id, policy in zip(users, policies, strict=True)
        for is_limited in (True, False, True)
    ]
    decisions = await asyncio.gather(*asked)
    assert len(entries(client)) <= 2
    for number, policy in enumerate(policies):
        limited, free, refused = decisions[3 * number : 3 * number + 3]
        assert limited.credits == 1_000 + number
        assert (limited.policy, [state.name for state in limited.limits]) == (policy, ["steady"])
        assert (free.allowed, free.limits) == (True, ())
        assert (refused.verdict, refused.limited_by) == (Verdict.RATE_LIMITED, "steady")


async def test_a_quiet_shard_still_grants_and_refunds(
    ledger: RedisLedger, client: Any, stream: RedisStream
) -> None:
    """Records that are rows since a day do not stand in the way, however few they are."""
    user_id = await install(ledger)
    deduct_id = (await spend(ledger, user_id)).transaction_id
    ((_, payload),) = entries(client)
    client.delete(KEYS.stream)
    client.xadd(KEYS.stream, {"r": payload}, id="1-1")
    refund = Refund(
        user_id=user_id,
        deduct_id=deduct_id,
        transaction_id=CreditTransactionId.derive("refund", deduct_id.value),
        amount=None,
        description="refund",
        durable=DurableDeduct(amount=1, refunded=0),
    )
    assert (await ledger.refund(refund)).verdict is Verdict.BACKLOG
    batch = stream.read(SHARD, None, 10)
    assert batch is not None
    stream.note_stored(SHARD, batch.end)
    assert (await ledger.refund(refund)).allowed
