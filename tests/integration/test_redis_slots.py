"""A shard lies in one slot: the scripts touch no key of another, as a cluster asks for."""

from collections.abc import Iterator
from uuid import UUID

import pytest
from redis import Redis

from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.stream import RedisStream
from faregate.adapters.redis.sweeper import RedisSweeper
from faregate.cli.servers import Binaries
from faregate.domain.attempt import Phase
from faregate.domain.decision import Verdict
from faregate.domain.hold import Settlement
from faregate.domain.idempotency import Completion, IdempotencyKey
from faregate.domain.limit import LimitKind, RateLimit
from faregate.domain.period import Period, PeriodKind
from faregate.domain.policy import Allowance, CreditPolicy
from faregate.domain.request import Credit, Refund, VoidOutcome
from faregate.domain.spend import HoldOptions
from faregate.domain.transaction import CreditTransactionId, TransactionType
from own_redis import own_redis
from redis_ledger import IDENTITY, attempt_of, install, make_ledger, spend

pytestmark = pytest.mark.redis

DAILY = Allowance(amount=9, period=Period(kind=PeriodKind.DAY))


@pytest.fixture
def cluster_url(binaries: Binaries) -> Iterator[str]:
    """A server in cluster mode that has all slots: it refuses keys of slots not declared."""
    with own_redis(binaries.redis, "--cluster-enabled", "yes") as server:
        with Redis.from_url(server.url) as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            while b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):
                pass
        yield server.url


async def test_every_key_lies_in_the_slot_of_the_declared_keys(cluster_url: str) -> None:
    """Those that a script names itself, too: a server in cluster mode would refuse it."""
    ledger = make_ledger(cluster_url)
    await ledger.attach(IDENTITY)
    user_id = await install(ledger, 1_000)
    given = await spend_in_all_ways(ledger, user_id)
    await change_in_all_ways(ledger, user_id, given)
    stream, sweeper = RedisStream.from_url(cluster_url, 1), RedisSweeper.from_url(cluster_url, 1)
    batch = stream.read(0, None, 100)
    assert batch is not None
    assert batch.count > 6
    assert (stream.note_stored(0, batch.end), sweeper.sweep(0)) == (0, 0)
    stream.close()
    sweeper.close()
    await ledger.aclose()


async def spend_in_all_ways(ledger: RedisLedger, user_id: UUID) -> CreditTransactionId:
    """Use every kind of key that a spend may have; return the id that a caller gave."""
    limits = tuple(
        RateLimit(name=f"{kind} {by_key}", count=99, period_ms=60_000, kind=kind, is_by_key=by_key)
        for kind in LimitKind
        for by_key in (False, True)
    )
    policy = CreditPolicy(allowance=DAILY, limits=limits)
    shadow = CreditPolicy(name="shadow", is_shadow=True, limits=limits)
    keyed = await spend(ledger, user_id, 1, policy, key=IdempotencyKey(key="k"), limit_key="m")
    done = Completion(user_id=user_id, transaction_id=keyed.transaction_id, response=b"r")
    assert await ledger.complete(done)
    assert await ledger.response(user_id, keyed.transaction_id) == b"r"
    await spend(ledger, user_id, 1, shadow)
    await ledger.correct_shadow(user_id, shadow, 1)
    assert sum((await ledger.shadow_counts("shadow")).values()) == 1
    held = await spend(ledger, user_id, 1, policy, hold=HoldOptions(ttl_ms=60_000))
    assert (await ledger.extend(user_id, held.transaction_id, 90_000)).allowed
    settlement = Settlement(user_id=user_id, hold_id=held.transaction_id, actual=0)
    assert (await ledger.settle(settlement)).allowed
    given = CreditTransactionId.mint(ledger.now_ms())
    assert (await spend(ledger, user_id, 1, policy, transaction_id=given)).allowed
    return given


async def change_in_all_ways(
    ledger: RedisLedger, user_id: UUID, deduct_id: CreditTransactionId
) -> None:
    """Void, retry, refund, credit and begin a period."""
    attempt = attempt_of(user_id)
    attempt.note_sent(CreditTransactionId.mint(ledger.now_ms()), 1, 1)
    assert await ledger.void(attempt.void()) is VoidOutcome.REFUSED
    attempt.phase = Phase.SENT_AGAIN
    assert (await ledger.decide(attempt)).verdict is Verdict.VOIDED
    refund = Refund(
        user_id=user_id,
        deduct_id=deduct_id,
        transaction_id=CreditTransactionId.derive("refund", deduct_id.value),
        amount=None,
        description="d",
    )
    assert (await ledger.refund(refund)).allowed
    credit = Credit(
        user_id=user_id,
        transaction_id=CreditTransactionId.mint(ledger.now_ms()),
        type=TransactionType.ADD,
        amount=1,
        description="d",
    )
    assert (await ledger.credit(credit)).allowed
    assert await ledger.renew(user_id, DAILY) == 0
