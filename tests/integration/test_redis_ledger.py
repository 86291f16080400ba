"""The ledger on a real Redis: how it begins, what it refuses, and what it never mixes up."""

from dataclasses import replace
from uuid import uuid4

import pytest
from redis import Redis

from faregate.adapters.redis.ledger import RedisLedger
from faregate.domain.decision import Verdict
from faregate.domain.errors import (
    ConfigurationError,
    LedgerCorruptError,
    LedgerUninitialisedError,
)
from faregate.domain.user import User
from redis_ledger import (
    IDENTITY,
    KEYS,
    balance,
    everything,
    install,
    make_ledger,
    spend,
    state,
)

pytestmark = pytest.mark.redis


async def test_an_empty_redis_becomes_the_ledger_once(ledger_redis: str, client: Redis) -> None:
    """Whoever attaches next finds the same, and changes nothing."""
    ledgers = [make_ledger(ledger_redis, shard_count=16) for _ in range(2)]
    identity = replace(IDENTITY, shard_count=16)
    await ledgers[0].attach(identity)
    before = everything(client)
    # Its state and its copy of the identity, in each shard.
    assert len(before) == 2 * 16
    await ledgers[1].attach(identity)
    await ledgers[1].attach(replace(identity, installed=True))
    assert everything(client) == before
    for ledger in ledgers:
        await ledger.aclose()


@pytest.mark.parametrize(("epoch", "is_whole"), [(1, True), (2, False)])
async def test_a_rebuilt_ledger_knows_of_no_earlier_record(
    ledger_redis: str, client: Redis, *, epoch: int, is_whole: bool
) -> None:
    """What was charged before cannot be found in its streams, unless nothing was."""
    ledger = make_ledger(ledger_redis)
    await ledger.attach(replace(IDENTITY, epoch=epoch))
    made = state(client)
    assert (made.epoch, made.ordinal, made.stored) == (epoch, 0, 0)
    assert (made.oldest_ms == 0) is is_whole
    assert made.oldest_ms <= ledger.now_ms()
    await ledger.aclose()


async def test_a_wiped_redis_serves_no_user(ledger: RedisLedger, client: Redis) -> None:
    """Neither a spend nor a new start takes an empty Redis for a new ledger."""
    user_id = await install(ledger)
    client.flushall()
    with pytest.raises(LedgerUninitialisedError):
        await spend(ledger, user_id)
    with pytest.raises(LedgerUninitialisedError):
        await install(ledger)
    with pytest.raises(LedgerUninitialisedError):
        await ledger.attach(replace(IDENTITY, installed=True))
    assert client.dbsize() == 0


async def test_a_ledger_that_lost_a_shard_is_not_attached(
    ledger: RedisLedger, client: Redis
) -> None:
    """It must be rebuilt, whatever else of it is there."""
    client.delete(KEYS.state)
    with pytest.raises(LedgerUninitialisedError, match="rebuilt"):
        await ledger.attach(replace(IDENTITY, installed=True))


async def test_a_user_of_another_epoch_is_not_installed(ledger: RedisLedger) -> None:
    """A balance from another history would bring spent credits back."""
    user_id = uuid4()
    with pytest.raises(LedgerUninitialisedError, match="epoch"):
        await ledger.install(User(id=user_id, credits=10, sequence=1, epoch=2))
    assert await ledger.read(user_id) is None


async def test_a_user_is_installed_once(ledger: RedisLedger) -> None:
    """A second first sight does not undo what was charged since."""
    user_id = await install(ledger)
    await spend(ledger, user_id)
    assert not await ledger.install(User(id=user_id, credits=10, sequence=1, epoch=1))
    assert await balance(ledger, user_id) == 9


async def test_another_shard_count_or_ledger_is_refused(ledger: RedisLedger) -> None:
    """The settings must be those that the ledger was created with."""
    with pytest.raises(ConfigurationError, match="shards"):
        await ledger.attach(replace(IDENTITY, shard_count=2))
    with pytest.raises(LedgerUninitialisedError, match="ledger_id"):
        await ledger.attach(replace(IDENTITY, ledger_id=uuid4()))


async def test_a_backlog_refuses_spends_and_deletes_nothing(
    ledger_redis: str, client: Redis
) -> None:
    """The cap counts pending records; credits still come back."""
    ledger = make_ledger(ledger_redis, pending_max=3)
    await ledger.attach(IDENTITY)
    user_id = await install(ledger)
    verdicts = [(await spend(ledger, user_id)).verdict for _ in range(5)]
    assert verdicts == [Verdict.ALLOWED] * 3 + [Verdict.BACKLOG] * 2
    assert client.xlen(KEYS.stream) == 3
    assert await balance(ledger, user_id) == 7
    await ledger.aclose()


@pytest.mark.parametrize("key", ["account", "stream", "state"])
async def test_a_key_of_a_wrong_type_changes_nothing(
    ledger: RedisLedger, client: Redis, key: str
) -> None:
    """Lua has no rollback: whatever fails, fails before the first write."""
    user_id = await install(ledger)
    name = {
        "account": KEYS.account(user_id.bytes),
        "stream": KEYS.stream,
        "state": KEYS.state,
    }[key]
    client.delete(name)
    client.hset(name, "something", "else")
    before = everything(client)
    with pytest.raises(LedgerCorruptError):
        await spend(ledger, user_id)
    assert everything(client) == before


async def test_one_ledger_is_one_connection(ledger_redis: str, client: Redis) -> None:
    """However much is asked, and by whatever way."""
    before = client.info("clients")["connected_clients"]
    ledger = make_ledger(ledger_redis)
    await ledger.attach(IDENTITY)
    user_id = await install(ledger)
    await spend(ledger, user_id)
    assert client.info("clients")["connected_clients"] == before + 1
    await ledger.aclose()
