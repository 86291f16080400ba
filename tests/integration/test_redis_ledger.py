"""The ledger on a real Redis, and what may happen to it on the way."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from lossy_proxy import lossy_proxy
from redis import Redis
from redis.exceptions import ResponseError

from faregate.adapters.redis import keys
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.runner import ScriptRunner
from faregate.adapters.redis.scripts import load, names
from faregate.adapters.redis.stream import RedisStream
from faregate.cli.servers import EmbeddedServers
from faregate.domain.decision import Verdict
from faregate.domain.errors import (
    ConfigurationError,
    InvalidArgumentError,
    LedgerError,
    LedgerUnavailableError,
    LedgerUninitialisedError,
    OutcomeUnknownError,
)
from faregate.domain.transaction import CreditTransactionId
from faregate.domain.user import User
from faregate.ports import Charge, LedgerIdentity, VoidOutcome

IDENTITY = LedgerIdentity(shard_count=1, starting_credits=10, epoch=3, installed=False)
SHARD = 0


def make_ledger(url: str, *, shard_count: int = 1, stream_length_max: int = 1000) -> RedisLedger:
    runner = ScriptRunner.from_url(url, 1.0)
    return RedisLedger(runner, shard_count=shard_count, stream_length_max=stream_length_max)


@pytest.fixture
async def ledger(ledger_redis: str) -> AsyncIterator[RedisLedger]:
    made = make_ledger(ledger_redis)
    await made.attach(IDENTITY)
    yield made
    await made.aclose()


@pytest.fixture
def client(ledger_redis: str) -> Redis:
    with Redis.from_url(ledger_redis) as made:
        yield made


async def install(ledger: RedisLedger, credits_: int = 10) -> UUID:
    user_id = uuid4()
    assert await ledger.install(User(id=user_id, credits=credits_, sequence=1, epoch=3))
    return user_id


def charge_of(ledger: RedisLedger, user_id: UUID, *, within_ms: int = 1000) -> Charge:
    now_ms = ledger.now_ms()
    return Charge(
        user_id=user_id,
        transaction_id=CreditTransactionId.mint(now_ms),
        cost=1,
        deadline_ms=now_ms + within_ms,
        description="request",
        fresh=True,
    )


async def balance(ledger: RedisLedger, user_id: UUID) -> int:
    user = await ledger.read(user_id)
    assert user is not None
    return user.credits


async def test_a_lost_reply_is_asked_for_again_and_charges_once(ledger_redis: str) -> None:
    """The retry with the same id gets the answer that was lost."""
    async with lossy_proxy(ledger_redis) as (proxy, url):
        ledger = make_ledger(url)
        await ledger.attach(IDENTITY)
        user_id = await install(ledger)
        await ledger.charge(charge_of(ledger, user_id))
        proxy.replies_to_lose = 1
        decision = await ledger.charge(charge_of(ledger, user_id))
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
        decision = await ledger.charge(charge_of(ledger, user_id))
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
    own_servers: EmbeddedServers,
) -> None:
    """A stopped Redis that goes on refuses what its clients have given up."""
    ledger = make_ledger(own_servers.redis_url)
    await ledger.attach(IDENTITY)
    user_id = await install(ledger)
    await ledger.charge(charge_of(ledger, user_id))
    pid = own_servers.redis.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        lost = [charge_of(ledger, user_id, within_ms=200) for _ in range(4)]
        outcomes = await asyncio.gather(*map(ledger.charge, lost), return_exceptions=True)
        assert all(isinstance(outcome, OutcomeUnknownError) for outcome in outcomes), outcomes
    finally:
        os.kill(pid, signal.SIGCONT)
    assert await balance(ledger, user_id) == 9
    assert {await ledger.void(charge) for charge in lost} == {VoidOutcome.REFUSED}
    assert await balance(ledger, user_id) == 9
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
    before = {found: client.dump(found) for found in client.scan_iter()}
    with pytest.raises(LedgerError):
        await ledger.charge(charge_of(ledger, user_id))
    assert {found: client.dump(found) for found in client.scan_iter()} == before


V7 = CreditTransactionId.mint(1_800_000_000_000).value.bytes
USER = uuid4().bytes
BAD_NUMBERS = ["", "-1", "1.5", "nan", "inf", "0x10", "1e3", " 1", "2147483648", "9" * 30]
BAD_ARGUMENTS = [
    *[("charge", [V7, USER, bad, "9", "1", "9", "d", ""]) for bad in BAD_NUMBERS],
    *[("charge", [V7, USER, "1", bad, "1", "9", "d", ""]) for bad in ["", "-1", "nan", "9" * 30]],
    ("charge", [b"short", USER, "1", "9", "1", "9", "d", ""]),
    ("charge", [uuid4().bytes, USER, "1", "9", "1", "9", "d", ""]),
    ("charge", [V7, b"short", "1", "9", "1", "9", "d", ""]),
    *[("credit", [V7, USER, "add", bad, "0", "d", ""]) for bad in [*BAD_NUMBERS, "0"]],
    *[("credit", [V7, USER, kind, "1", "0", "d", ""]) for kind in ["deduct", "refund", "gift", ""]],
    ("credit", [V7, USER, "admin_adjustment", "0", "0", "d", ""]),
    ("credit", [V7, b"short", "add", "1", "0", "d", ""]),
    *[
        ("refund", [V7, USER, V7, bad, "", "", "", "d", ""])
        for bad in BAD_NUMBERS
        if bad  # An empty amount asks for all that is left.
    ],
    ("refund", [V7, USER, b"short", "1", "", "", "", "d", ""]),
    ("void", [V7, USER, b"short", "9", "d"]),
    ("void", [V7, USER, V7, "soon", "d"]),
    ("install", ["1.5", "1", "3"]),
    ("install", ["1", "-1", "3"]),
]


@pytest.mark.parametrize(("name", "arguments"), BAD_ARGUMENTS)
async def test_arguments_that_are_ill_formed_write_nothing(
    ledger: RedisLedger, client: Redis, ledger_redis: str, name: str, arguments: list[bytes | str]
) -> None:
    """Whoever calls a script past the checks of Python gets a typed error."""
    user_id = UUID(bytes=USER)
    assert await ledger.install(User(id=user_id, credits=10, sequence=1, epoch=3))
    before = {found: client.dump(found) for found in client.scan_iter()}
    user, epoch = keys.user(SHARD, user_id), keys.epoch(SHARD)
    extra = keys.refunds(SHARD, CreditTransactionId(UUID(bytes=V7)))
    where = [user, epoch] if name == "install" else [user, keys.stream(SHARD), epoch, extra]
    runner = ScriptRunner.from_url(ledger_redis, 1.0)
    with pytest.raises(InvalidArgumentError):
        await runner.run(name, where, arguments, 1.0)
    await runner.aclose()
    assert {found: client.dump(found) for found in client.scan_iter()} == before


def test_every_script_declares_its_keys(client: Redis) -> None:
    """A script that reaches for an undeclared key is refused by a server in cluster mode only.

    So it is shown here that none builds a key: all are read from KEYS.
    """
    for name in names():
        source = load(name).source
        assert source.startswith("#!lua")
        assert "fg:" not in source
        client.script_load(source)


async def test_only_acknowledged_and_old_records_are_trimmed(
    ledger: RedisLedger, client: Redis
) -> None:
    """Unread, pending and recent records stay, whatever the trim is told."""
    user_id = await install(ledger, credits_=2_000)
    for _ in range(900):
        await ledger.charge(charge_of(ledger, user_id))
    keep = RedisStream(client_of(client), 1, retention_ms=60_000)
    all_at_once = RedisStream(client_of(client), 1, retention_ms=0)
    assert all_at_once.trim(SHARD) == 0, "nothing has been read"
    delivered = all_at_once.read(SHARD, 800)
    assert all_at_once.trim(SHARD) == 0, "nothing has been acknowledged"
    all_at_once.acknowledge(SHARD, [entry.stream_id for entry in delivered[100:]])
    assert all_at_once.trim(SHARD) == 0, "the oldest is pending"
    assert keep.pending_count() == 200
    all_at_once.acknowledge(SHARD, [entry.stream_id for entry in delivered])
    assert keep.trim(SHARD) == 0, "all are recent"
    trimmed = all_at_once.trim(SHARD)
    assert 600 <= trimmed < 800
    assert client.xlen(keys.stream(SHARD)) == 900 - trimmed
    assert keep.pending_count() == 100
    assert [e.transaction.sequence for e in keep.read(SHARD, 500) if e.transaction] == list(
        range(802, 902)
    )


def client_of(client: Redis) -> Redis:
    """Connect as the stream does."""
    return Redis.from_pool(client.connection_pool)


async def test_what_was_delivered_and_not_acknowledged_comes_again(
    ledger: RedisLedger, ledger_redis: str
) -> None:
    """A drain that died after reading loses nothing."""
    user_id = await install(ledger)
    for _ in range(3):
        await ledger.charge(charge_of(ledger, user_id))
    first, second = (RedisStream.from_url(ledger_redis, 1) for _ in range(2))
    taken = first.read(SHARD, 2)
    again = second.read(SHARD, 10)
    assert [entry.stream_id for entry in again] == [entry.stream_id for entry in taken]
    assert second.shards_pending() == [SHARD]
    assert len(list(second.unacknowledged(SHARD))) == second.pending_count() == 3
    second.acknowledge(SHARD, [entry.stream_id for entry in again])
    assert [entry.transaction.sequence for entry in second.read(SHARD, 10) if entry.transaction]
    assert second.pending_count() == 1
    first.close()
    second.close()


async def test_a_record_that_is_gone_or_cannot_be_read_is_told(
    ledger: RedisLedger, client: Redis, ledger_redis: str
) -> None:
    """Neither stops the drain: each comes as an entry with its problem."""
    user_id = await install(ledger)
    await ledger.charge(charge_of(ledger, user_id))
    client.xadd(keys.stream(SHARD), {"r": b"\x63garbage"})
    stream = RedisStream.from_url(ledger_redis, 1)
    entries = stream.read(SHARD, 10)
    assert [entry.transaction is None for entry in entries] == [False, True]
    assert "version" in entries[1].problem
    client.xdel(keys.stream(SHARD), entries[0].stream_id)
    again = stream.read(SHARD, 10)
    assert "missing" in again[0].problem
    stream.close()


async def test_the_group_is_made_anew_after_it_was_lost(
    ledger: RedisLedger, client: Redis, ledger_redis: str
) -> None:
    """It starts from the first record: reading twice is harmless, skipping is not."""
    user_id = await install(ledger)
    await ledger.charge(charge_of(ledger, user_id))
    stream = RedisStream.from_url(ledger_redis, 1)
    assert len(stream.read(SHARD, 10)) == 1
    client.xgroup_destroy(keys.stream(SHARD), keys.GROUP)
    assert len(stream.read(SHARD, 10)) == 1
    stream.close()


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


def test_no_script_reads_a_clock_of_its_caller() -> None:
    """TIME is the only clock."""
    for name in names():
        source = load(name).source
        assert "os.time" not in source
        assert "pcall" not in source


def test_an_unknown_script_name_is_an_error(client: Redis) -> None:
    """The loader does not invent scripts."""
    with pytest.raises(FileNotFoundError):
        load("nothing")
    with pytest.raises(ResponseError):
        client.evalsha("0" * 40, 0)
