"""A Redis that hangs, dies, is full, is a replica or a cluster: what its callers are told."""

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
from redis import Redis

from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.wire import Wire
from faregate.cli.servers import Binaries
from faregate.domain.attempt import Attempt, AttemptError, Event, Phase
from faregate.domain.errors import (
    ConfigurationError,
    LedgerUnavailableError,
    LedgerUninitialisedError,
    OutcomeUnknownError,
)
from faregate.domain.request import VoidOutcome
from lossy_proxy import lossy_proxy
from own_redis import OwnRedis, own_redis
from redis_ledger import IDENTITY, KEYS, attempt_of, balance, install, make_ledger, spend
from waiting import until

pytestmark = pytest.mark.redis

SHORT_MS = 100
NEVER_S = 1_000.0


@pytest.fixture
def server(binaries: Binaries) -> Iterator[OwnRedis]:
    with own_redis(binaries.redis) as running:
        yield running


def wire_of(ledger: RedisLedger) -> Wire:
    """Return the wire to the only server."""
    (endpoint,) = ledger._session.nodes.endpoints
    return endpoint.wire


async def outcome_of(ledger: RedisLedger, attempt: Attempt) -> Event | None:
    """Return what happened to an attempt; None if it was decided."""
    try:
        await ledger.decide(attempt)
    except AttemptError as error:
        return error.event
    return None


async def test_more_than_can_be_decided_in_time_is_refused_at_once(ledger_redis: str) -> None:
    """While Redis is silent: a few calls are sent and time out, all others are sent nothing."""
    async with lossy_proxy(ledger_redis) as (proxy, url):
        ledger = make_ledger(url, timeout_ms=SHORT_MS)
        await ledger.attach(IDENTITY)
        users = [await install(ledger) for _ in range(100)]
        proxy.hold()
        attempts = [attempt_of(users[n % 100]) for n in range(2_000)]
        events = await asyncio.gather(*(outcome_of(ledger, attempt) for attempt in attempts))
        told = Counter(events)
        assert set(told) == {Event.SHED, Event.TIMED_OUT}
        # The queue holds 512, and three calls hold 128 each.
        assert 0 < told[Event.TIMED_OUT] <= 384
        phases = Counter(
            (attempt.phase, event) for attempt, event in zip(attempts, events, strict=True)
        )
        assert set(phases) == {(Phase.QUEUED, Event.SHED), (Phase.SENT, Event.TIMED_OUT)}
        proxy.release()
        await until(lambda: wire_of(ledger).silence_s == 0)
        charged = 1_000 - sum([await balance(ledger, user_id) for user_id in users])
        assert charged <= told[Event.TIMED_OUT]
        assert (await spend(ledger, users[0])).user_id == users[0]
        await ledger.aclose()


async def test_a_link_that_answers_nothing_is_left(ledger_redis: str) -> None:
    """Attempts get a new connection long before the silent one is given up for good."""
    async with lossy_proxy(ledger_redis) as (proxy, url):
        ledger = make_ledger(url, timeout_ms=SHORT_MS)
        wire_of(ledger)._silence_s_max = NEVER_S
        await ledger.attach(IDENTITY)
        user_id = await install(ledger)
        proxy.hold()
        assert await outcome_of(ledger, attempt_of(user_id)) is Event.TIMED_OUT
        events = []
        while proxy.connections == 1:
            events.append(await outcome_of(ledger, attempt_of(user_id)))
        assert set(events) <= {Event.TIMED_OUT, Event.NOT_SENT}
        proxy.release()
        await until(lambda: wire_of(ledger).open_link)
        assert (await spend(ledger, user_id)).allowed
        await ledger.aclose()


async def test_a_link_that_is_silent_for_long_is_closed(ledger_redis: str) -> None:
    """Even where nobody asks any more; the next one finds a new connection."""
    async with lossy_proxy(ledger_redis) as (proxy, url):
        ledger = make_ledger(url, timeout_ms=SHORT_MS)
        await ledger.attach(IDENTITY)
        user_id = await install(ledger)
        proxy.hold()
        assert await outcome_of(ledger, attempt_of(user_id)) is Event.TIMED_OUT
        await until(lambda: not wire_of(ledger).open_link)
        proxy.release()
        assert (await spend(ledger, user_id)).allowed
        assert proxy.connections == 2
        await ledger.aclose()


async def test_a_question_without_an_answer_is_asked_twice(ledger_redis: str) -> None:
    """And then its outcome is told to be unknown: whoever asked knows how to ask again."""
    async with lossy_proxy(ledger_redis) as (proxy, url):
        ledger = make_ledger(url)
        await ledger.attach(IDENTITY)
        user_id = await install(ledger)
        proxy.replies_to_lose = 1
        assert await balance(ledger, user_id) == 10
        assert (proxy.lost, proxy.connections) == (1, 2)
        proxy.replies_to_lose = 2
        with pytest.raises(OutcomeUnknownError):
            await ledger.read(user_id)
        assert proxy.lost == 3
        await ledger.aclose()


async def test_a_spend_after_its_deadline_is_not_charged(server: OwnRedis) -> None:
    """A Redis that hung and goes on refuses what its callers have given up."""
    ledger = make_ledger(server.url, timeout_ms=SHORT_MS)
    await ledger.attach(IDENTITY)
    user_id = await install(ledger)
    server.send(signal.SIGSTOP)
    try:
        attempts = [attempt_of(user_id) for _ in range(4)]
        events = [await outcome_of(ledger, attempt) for attempt in attempts]
    finally:
        server.send(signal.SIGCONT)
    assert events[0] is Event.TIMED_OUT
    assert None not in events
    sent = [attempt for attempt in attempts if attempt.phase is Phase.SENT]
    assert {await ledger.void(attempt.void()) for attempt in sent} == {VoidOutcome.REFUSED}
    assert await balance(ledger, user_id) == 10
    await ledger.aclose()


async def test_a_server_that_came_back_is_found_again(server: OwnRedis) -> None:
    """The next use connects. What the server has lost is not taken for a new ledger."""
    ledger = make_ledger(server.url)
    await ledger.attach(IDENTITY)
    user_id = await install(ledger)
    server.kill()
    assert await outcome_of(ledger, attempt_of(user_id)) in {Event.LOST, Event.NOT_SENT}
    assert await outcome_of(ledger, attempt_of(user_id)) is Event.NOT_SENT
    with pytest.raises(LedgerUnavailableError) as caught:
        await ledger.read(user_id)
    assert not isinstance(caught.value, OutcomeUnknownError)
    server.start()
    with pytest.raises(LedgerUninitialisedError):
        await _retried(ledger, attempt_of(user_id))
    with pytest.raises(LedgerUninitialisedError):
        await ledger.attach(replace(IDENTITY, installed=True))
    await ledger.attach(IDENTITY)
    user_id = await install(ledger)
    assert (await spend(ledger, user_id)).credits == 9
    await ledger.aclose()


async def _retried(ledger: RedisLedger, attempt: Attempt) -> None:
    """Ask until there is a connection."""
    event: Event | None = Event.NOT_SENT
    while event is Event.NOT_SENT:
        event = await outcome_of(ledger, attempt)


async def test_connections_that_are_closed_by_the_server_cost_nothing(
    ledger: RedisLedger, client: Redis
) -> None:
    """An idle one that is closed is made anew before anything is sent."""
    user_id = await install(ledger)
    for _ in range(3):
        client.client_kill_filter(_type="normal", skipme=True)
        await until(lambda: not wire_of(ledger).open_link)
        assert (await spend(ledger, user_id)).allowed
    assert await balance(ledger, user_id) == 7


@pytest.mark.parametrize("setting", ["maxmemory", "min-replicas-to-write"])
async def test_a_server_that_refuses_scripts_charges_nothing(
    ledger: RedisLedger, client: Redis, setting: str
) -> None:
    """It says so before the script runs, so the attempt is as good as not sent."""
    user_id = await install(ledger)
    client.config_set(setting, "1")
    try:
        with pytest.raises(AttemptError, match="Redis refused") as caught:
            await spend(ledger, user_id)
        assert caught.value.event is Event.NOT_SENT
        with pytest.raises(LedgerUnavailableError, match="Redis refused") as refused:
            await install(ledger)
        assert not isinstance(refused.value, OutcomeUnknownError)
        assert await balance(ledger, user_id) == 10
    finally:
        client.config_set(setting, "0")
    assert (await spend(ledger, user_id)).credits == 9
    assert client.xlen(KEYS.stream) == 1


async def test_a_replica_charges_nothing(server: OwnRedis) -> None:
    """As after a failover, when the old primary comes back."""
    ledger = make_ledger(server.url)
    await ledger.attach(IDENTITY)
    user_id = await install(ledger)
    with Redis.from_url(server.url) as client:
        client.replicaof("127.0.0.1", "1")
        assert await outcome_of(ledger, attempt_of(user_id)) is Event.NOT_SENT
        client.replicaof("NO", "ONE")
    assert (await spend(ledger, user_id)).credits == 9
    await ledger.aclose()


async def test_a_redis_user_without_rights_gets_an_error(server: OwnRedis) -> None:
    """A password that is missing is an outage for requests, and named as such."""
    ledger = make_ledger(server.url)
    await ledger.attach(IDENTITY)
    user_id = await install(ledger)
    with Redis.from_url(server.url) as client:
        client.acl_setuser("default", enabled=True, nopass=True, commands=["-fcall"])
        with pytest.raises(AttemptError, match="fcall") as caught:
            await spend(ledger, user_id)
        assert caught.value.event is Event.NOT_SENT
        client.config_set("requirepass", "secret")
        client.client_kill_filter(_type="normal", skipme=True)
        await until(lambda: not wire_of(ledger).open_link)
        with pytest.raises(AttemptError, match=r"(?i)auth") as unknown:
            await spend(ledger, user_id)
        assert unknown.value.event is Event.NOT_SENT
    await ledger.aclose()


async def test_a_script_that_cannot_be_loaded_is_refused_with_the_reason(server: OwnRedis) -> None:
    """That it is unknown, too, says nothing about what is to be done."""
    ledger = make_ledger(server.url)
    await ledger.attach(IDENTITY)
    user_id = await install(ledger)
    with Redis.from_url(server.url) as client:
        client.function_flush()
        client.acl_setuser("default", enabled=True, nopass=True, commands=["-function|load"])
        with pytest.raises(AttemptError, match=r"function\|load") as caught:
            await spend(ledger, user_id)
        assert caught.value.event is Event.NOT_SENT
        client.acl_setuser("default", enabled=True, nopass=True, commands=["+function|load"])
    assert (await spend(ledger, user_id)).credits == 9
    await ledger.aclose()


async def test_the_rights_that_are_documented_are_enough(server: OwnRedis) -> None:
    """docs/operate.md says which commands a user of Redis needs beside those on keys."""
    with Redis.from_url(server.url) as client:
        loaders = ["fcall", "function|load", "function|list", "evalsha", "script|load"]
        rights = ["+@all", "-@dangerous", "-@scripting"]
        rights += [f"+{command}" for command in [*loaders, "script|exists"]]
        client.acl_setuser("few", enabled=True, passwords=["+pw"], keys=["*"], commands=rights)
    ledger = make_ledger(server.url.replace("unix://", "unix://few:pw@"))
    await ledger.attach(IDENTITY)
    user_id = await install(ledger)
    assert (await spend(ledger, user_id)).credits == 9
    assert await balance(ledger, user_id) == 9
    await ledger.aclose()


async def test_a_cluster_is_refused_by_name(binaries: Binaries) -> None:
    """Where the URL says that there is one server, which is better said than found out."""
    with own_redis(binaries.redis, "--cluster-enabled", "yes", "--port", "0") as server:
        ledger = make_ledger(server.url)
        with pytest.raises(ConfigurationError, match="a node of a Redis Cluster"):
            await ledger.attach(IDENTITY)
        with pytest.raises(ConfigurationError, match="a node of a Redis Cluster"):
            await spend(ledger, IDENTITY.ledger_id)
        await ledger.aclose()
