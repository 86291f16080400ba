"""The ledger on a real Redis, and what may happen to it on the way."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest
from redis import Redis

from faregate.adapters.redis import keys
from faregate.adapters.redis.ledger import RedisLedger
from faregate.cli.servers import ValkeyServer
from faregate.domain.decision import Verdict
from faregate.domain.errors import (
    ConfigurationError,
    LedgerError,
    LedgerUnavailableError,
    LedgerUninitialisedError,
    OutcomeUnknownError,
)
from faregate.domain.request import VoidOutcome
from faregate.domain.user import User
from lossy_proxy import lossy_proxy
from processes import stopped
from redis_ledger import IDENTITY, SHARD, balance, charge_of, everything, install, make_ledger


async def test_a_lost_reply_is_asked_for_again_and_charges_once(ledger_redis: str) -> None:
    """The retry with the same id gets the answer that was lost."""
    async with lossy_proxy(ledger_redis) as (proxy, url):
        ledger = make_ledger(url)
        await ledger.attach(IDENTITY)
        user_id = await install(ledger)
        await ledger.charge(charge_of(ledger, user_id))
        proxy.replies_to_lose = 1
        decision = await ledger.charge(charge_of(ledger, user_id, within_ms=1_000))
        assert proxy.lost == 1
        assert (decision.verdict, decision.repeated) == (Verdict.ALLOWED, True)
        assert await balance(ledger, user_id) == decision.credits == 8
        await ledger.aclose()


async def test_a_lost_request_is_sent_again(ledger_redis: str) -> None:
    """What never arrived is charged by the second attempt."""
    async with lossy_proxy(ledger_redis) as (proxy, url):
        ledger = make_ledger(url)
        await ledger.attach(IDENTITY)
        user_id = await install(ledger)
        await ledger.charge(charge_of(ledger, user_id))
        proxy.requests_to_lose = 1
        decision = await ledger.charge(charge_of(ledger, user_id, within_ms=1_000))
        assert proxy.lost == 1
        assert (decision.verdict, decision.repeated) == (Verdict.ALLOWED, False)
        assert await balance(ledger, user_id) == 8
        await ledger.aclose()


async def test_a_charge_without_any_reply_is_voided_by_its_id(ledger_redis: str) -> None:
    """Both replies lost: the outcome is unknown, too early to void, then given back."""
    async with lossy_proxy(ledger_redis) as (proxy, url):
        ledger = make_ledger(url)
        await ledger.attach(IDENTITY)
        user_id = await install(ledger)
        await ledger.charge(charge_of(ledger, user_id))
        proxy.replies_to_lose = 2
        lost = charge_of(ledger, user_id, within_ms=300)
        with pytest.raises(OutcomeUnknownError):
            await ledger.charge(lost)
        assert proxy.lost == 2
        assert await balance(ledger, user_id) == 8
        later = replace(lost, deadline_ms=ledger.now_ms() + 5_000)
        assert await ledger.void(later) is VoidOutcome.TOO_EARLY
        assert await ledger.void(lost) is VoidOutcome.REFUNDED
        assert await ledger.void(lost) is VoidOutcome.REFUNDED
        assert await balance(ledger, user_id) == 9
        await ledger.aclose()


async def test_what_arrives_after_its_deadline_is_not_charged(
    own_redis: ValkeyServer,
) -> None:
    """A stopped Redis that goes on refuses what its clients have given up."""
    ledger = make_ledger(own_redis.url)
    await ledger.attach(IDENTITY)
    user_id = await install(ledger)
    # Four connections that are ready: without one, nothing would be sent.
    await asyncio.gather(*(ledger.charge(charge_of(ledger, user_id)) for _ in range(4)))
    with stopped(own_redis.pid):
        lost = [charge_of(ledger, user_id, within_ms=500) for _ in range(4)]
        outcomes = await asyncio.gather(*map(ledger.charge, lost), return_exceptions=True)
        assert all(isinstance(outcome, OutcomeUnknownError) for outcome in outcomes), outcomes
    assert await balance(ledger, user_id) == 6
    assert {await ledger.void(charge) for charge in lost} == {VoidOutcome.REFUSED}
    assert await balance(ledger, user_id) == 6
    await ledger.aclose()


async def test_a_server_that_cannot_be_reached_leaves_nothing_unknown(tmp_path: object) -> None:
    """Nothing was sent, so nothing needs to be voided."""
    ledger = make_ledger(f"unix://{tmp_path}/none")
    with pytest.raises(LedgerUnavailableError) as caught:
        await ledger.read(uuid4())
    assert not isinstance(caught.value, OutcomeUnknownError)


async def test_cancelled_callers_leave_no_reply_to_others(
    ledger: RedisLedger, client: Redis
) -> None:
    """After a storm of cancellations everybody still gets the answer to its own question."""
    users = [await install(ledger, credits_=1_000 + number) for number in range(20)]
    tasks = [
        asyncio.create_task(ledger.charge(charge_of(ledger, users[n % 20]))) for n in range(200)
    ]
    await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    cancelled = [result for result in results if isinstance(result, asyncio.CancelledError)]
    assert cancelled
    live = await asyncio.gather(*(ledger.read(user_id) for user_id in users))
    assert [user.id for user in live if user] == users
    charged = sum(1_000 + n - user.credits for n, user in enumerate(live) if user)
    assert charged == client.xlen(keys.stream(SHARD))
    assert charged >= len(tasks) - len(cancelled)


async def test_scripts_that_the_server_has_forgotten_are_loaded_again(
    ledger: RedisLedger, client: Redis
) -> None:
    """NOSCRIPT means not executed, so the charge is made once."""
    user_id = await install(ledger)
    client.script_flush()
    await ledger.charge(charge_of(ledger, user_id))
    assert await balance(ledger, user_id) == 9


async def test_a_wiped_redis_serves_nobody(ledger: RedisLedger, client: Redis) -> None:
    """Neither the charge nor a new start takes an empty Redis for a new ledger."""
    user_id = await install(ledger)
    client.flushall()
    with pytest.raises(LedgerUninitialisedError):
        await ledger.charge(charge_of(ledger, user_id))
    with pytest.raises(LedgerUninitialisedError):
        await ledger.install(User(id=user_id, credits=10, sequence=1, epoch=3))
    with pytest.raises(LedgerUninitialisedError):
        await ledger.attach(replace(IDENTITY, installed=True))
    assert client.dbsize() == 0


async def test_a_user_of_another_epoch_is_not_installed(ledger: RedisLedger) -> None:
    """A balance from another history would bring spent credits back."""
    user_id = uuid4()
    with pytest.raises(LedgerUninitialisedError, match="epoch"):
        await ledger.install(User(id=user_id, credits=10, sequence=1, epoch=2))
    assert await ledger.read(user_id) is None


async def test_a_user_is_installed_once(ledger: RedisLedger) -> None:
    """A second first sight does not undo what was charged since."""
    user_id = await install(ledger)
    await ledger.charge(charge_of(ledger, user_id))
    assert not await ledger.install(User(id=user_id, credits=10, sequence=1, epoch=3))
    assert await balance(ledger, user_id) == 9


async def test_another_shard_count_or_ledger_is_refused(ledger_redis: str) -> None:
    """The settings must be those that the ledger was created with."""
    first = make_ledger(ledger_redis)
    await first.attach(IDENTITY)
    await first.aclose()
    other = make_ledger(ledger_redis, shard_count=2)
    with pytest.raises(ConfigurationError, match="shards"):
        await other.attach(IDENTITY)
    with pytest.raises(LedgerUninitialisedError):
        await other.attach(replace(IDENTITY, shard_count=2))
    await other.aclose()


async def test_a_full_stream_refuses_charges_and_trims_nothing(
    ledger_redis: str, client: Redis
) -> None:
    """The cap is a refusal, not a deletion; credits still come back."""
    ledger = make_ledger(ledger_redis, stream_length_max=3)
    await ledger.attach(IDENTITY)
    user_id = await install(ledger)
    verdicts = [(await ledger.charge(charge_of(ledger, user_id))).verdict for _ in range(5)]
    assert verdicts == [Verdict.ALLOWED] * 3 + [Verdict.BACKLOG] * 2
    assert client.xlen(keys.stream(SHARD)) == 3
    assert await balance(ledger, user_id) == 7
    await ledger.aclose()


@pytest.mark.parametrize("key", ["user", "stream"])
async def test_a_key_of_a_wrong_type_changes_nothing(
    ledger: RedisLedger, client: Redis, key: str
) -> None:
    """Lua has no rollback: whatever fails, fails before the first write."""
    user_id = await install(ledger)
    name = keys.user(SHARD, user_id) if key == "user" else keys.stream(SHARD)
    client.set(name, "something else")
    before = everything(client)
    with pytest.raises(LedgerError):
        await ledger.charge(charge_of(ledger, user_id))
    assert everything(client) == before


async def test_a_full_memory_refuses_whole_scripts(ledger: RedisLedger, client: Redis) -> None:
    """At maxmemory the server says no before the script starts, and the drain still reads."""
    user_id = await install(ledger)
    await ledger.charge(charge_of(ledger, user_id))
    client.config_set("maxmemory", "1")
    try:
        with pytest.raises(LedgerUnavailableError, match="maxmemory"):
            await ledger.charge(charge_of(ledger, user_id))
        assert await balance(ledger, user_id) == 9
    finally:
        client.config_set("maxmemory", "0")
    assert client.xlen(keys.stream(SHARD)) == 1
