"""The gate on nodes of a cluster: each call goes where its shard is, and a node fails alone."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from cluster_rig import Cluster, node_id, running_cluster, slots_of
from faregate import Gate
from faregate.adapters.memory.store import MemoryStore
from faregate.adapters.redis import keys
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.link import Link
from faregate.adapters.redis.topology import read_topology
from faregate.cli.servers import Binaries
from faregate.domain.attempt import AttemptError, Event
from faregate.domain.errors import FaregateError, LedgerUnavailableError
from faregate.domain.health import BreakerState
from faregate.domain.policy import BreakerOptions, CreditPolicy, GateOptions
from faregate.domain.redis_url import RedisUrl
from redis_ledger import IDENTITY, TIMEOUT_MS, attempt_of, balance, install, make_ledger, spend
from sentinel_rig import running_sentinels
from slot_moves import add_primary, move_slots, remove_primary
from tcp_redis import HOST, TcpRedis
from waiting import WAIT_S_MAX, until

pytestmark = [pytest.mark.redis, pytest.mark.cluster]

SHARD_COUNT = 6
SHARDS = keys.shards(SHARD_COUNT)
SHORT_MS = 300
POLICY = CreditPolicy(starting_credits=1_000)


@pytest.fixture(scope="module")
def shared_cluster(binaries: Binaries) -> Iterator[Cluster]:
    with running_cluster(binaries.redis, replicas=0) as running:
        yield running


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Cluster:
    """An empty cluster."""
    for node in shared_cluster.primaries():
        node.client.flushall()
        node.client.function_flush()
    return shared_cluster


@asynccontextmanager
async def ledger_on(url: str, timeout_ms: int = TIMEOUT_MS) -> AsyncIterator[RedisLedger]:
    ledger = make_ledger(url, shard_count=SHARD_COUNT, timeout_ms=timeout_ms)
    await ledger.attach(replace(IDENTITY, shard_count=SHARD_COUNT))
    try:
        yield ledger
    finally:
        await ledger.aclose()


@asynccontextmanager
async def gate_on(url: str) -> AsyncIterator[Gate]:
    """Open a gate whose breakers open at the third missing answer, and stay open."""
    store = MemoryStore(starting_credits=POLICY.starting_credits, shard_count=SHARD_COUNT)
    ledger = make_ledger(url, shard_count=SHARD_COUNT, timeout_ms=SHORT_MS)
    breaker = BreakerOptions(failures_max=3, delay_ms_min=60_000, delay_ms_max=60_000)
    options = GateOptions(
        decision_timeout_ms=SHORT_MS, provision_users=True, breaker=breaker, close_timeout_s=0.1
    )
    gate = Gate(ledger, store, POLICY, options)
    try:
        yield gate
    finally:
        await gate.aclose()


def user_in(shard: int) -> UUID:
    """Return a new user of a shard."""
    while keys.shard_of(user_id := uuid4(), SHARD_COUNT) != shard:
        pass
    return user_id


def shards_of(node: TcpRedis) -> Sequence[int]:
    """Return the numbers of the shards of a node, at least one."""
    slots = slots_of(node)
    found = [shard.number for shard in SHARDS if shard.slot in slots]
    assert found
    return found


async def test_all_calls_of_a_turn_leave_in_one_write_a_node(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each shard has a call of its own, and each caller its own answer."""
    async with ledger_on(cluster.url) as ledger:
        users = [await install(ledger, 10 + n, user_in(n % SHARD_COUNT)) for n in range(30)]
        counts: list[int] = []
        send = Link.send

        def noting(link: Link, packed: bytes, *takes: object) -> None:
            counts.append(len(takes))
            send(link, packed, *takes)  # type: ignore[arg-type]

        monkeypatch.setattr(Link, "send", noting)
        decisions = await asyncio.gather(*(spend(ledger, user_id) for user_id in users))
        assert [one.user_id for one in decisions] == users
        assert [one.credits for one in decisions] == [9 + n for n in range(30)]
        assert sorted(counts) == sorted(len(shards_of(node)) for node in cluster.primaries())


async def test_a_shard_is_found_where_it_moves_to(cluster: Cluster) -> None:
    """Under load, on a node that has no scripts yet; each spend is charged once, or not at all."""
    async with ledger_on(cluster.url) as ledger:
        users = [await install(ledger, 100_000, user_in(n)) for n in range(SHARD_COUNT)]
        allowed, undecided = Counter[UUID](), Counter[UUID]()
        is_over = asyncio.Event()

        async def charge(user_id: UUID) -> None:
            while not is_over.is_set():
                try:
                    assert (await spend(ledger, user_id)).allowed
                    allowed[user_id] += 1
                except AttemptError as error:
                    undecided[user_id] += error.event in {Event.LOST, Event.TIMED_OUT}
                    await asyncio.sleep(0.001)

        charging = [asyncio.create_task(charge(user_id)) for user_id in users for _ in range(3)]
        source = cluster.owner(SHARDS[0].slot)
        target = next(node for node in cluster.primaries() if node is not source)
        slots = [SHARDS[number].slot for number in shards_of(source)]
        for to in (target, source):
            await until_more(allowed, users)
            await asyncio.to_thread(to.client.function_flush)
            await asyncio.to_thread(move_slots, cluster, slots, to)
            await until_more(allowed, users)
        is_over.set()
        await asyncio.gather(*charging)
        for user_id in users:
            charged = 100_000 - await balance(ledger, user_id)
            assert allowed[user_id] <= charged <= allowed[user_id] + undecided[user_id]


async def test_a_shard_that_moves_key_by_key_is_refused_as_a_whole(cluster: Cluster) -> None:
    """A script would find some of its keys here and some there; so it does not begin."""
    shard = SHARDS[0]
    source = cluster.owner(shard.slot)
    target = next(node for node in cluster.primaries() if node is not source)
    async with ledger_on(cluster.url, SHORT_MS) as ledger:
        user_id = await install(ledger, 10, user_in(0))
        assert (await spend(ledger, user_id)).credits == 9
        target.ask("CLUSTER", "SETSLOT", shard.slot, "IMPORTING", node_id(source))
        source.ask("CLUSTER", "SETSLOT", shard.slot, "MIGRATING", node_id(target))
        found = source.ask("CLUSTER", "GETKEYSINSLOT", shard.slot, 100)
        # All keys that a call names stay; others, which it may need, go.
        named = {shard.state, shard.stream, shard.account(user_id.bytes)}
        assert named <= set(found)
        for moved in (set(found) - named, named):
            if moved:
                source.ask("MIGRATE", HOST, target.port, "", 0, 5_000, "KEYS", *moved)
            attempt = attempt_of(user_id)
            with pytest.raises(AttemptError, match=r"ASK|TRYAGAIN") as caught:
                await ledger.decide(attempt)
            assert caught.value.event is Event.NOT_SENT
            with pytest.raises(LedgerUnavailableError, match=r"ASK|TRYAGAIN"):
                await ledger.read(user_id)
        for node in (target, source):
            node.ask("CLUSTER", "SETSLOT", shard.slot, "NODE", node_id(target))
        assert (await spend(ledger, user_id)).credits == 8
        await asyncio.to_thread(move_slots, cluster, [shard.slot], source)
        assert (await spend(ledger, user_id)).credits == 7


def test_nodes_that_tell_no_address_are_at_the_host_that_was_asked(cluster: Cluster) -> None:
    """Behind a translator of addresses only ports differ; no address would be this machine."""
    kind = "cluster-preferred-endpoint-type"
    for node in cluster.nodes:
        node.ask("CONFIG", "SET", kind, "unknown-endpoint")
    try:
        assert {owner[0] for *_, owner in cluster.nodes[0].ask("CLUSTER", "SLOTS")} == {None}
        found = read_topology(RedisUrl.parse(cluster.url))
        expected = {(HOST, node.port) for node in cluster.nodes}
        assert {(one.host, one.port) for one in found.primaries} == expected
    finally:
        for node in cluster.nodes:
            node.ask("CONFIG", "SET", kind, "ip")


async def test_nodes_come_and_go(cluster: Cluster) -> None:
    """The gate talks to a node as long as it has shards."""
    async with ledger_on(cluster.url) as ledger:
        users = [await install(ledger, 100, user_in(n)) for n in range(SHARD_COUNT)]
        added = await asyncio.to_thread(add_primary, cluster)
        await asyncio.to_thread(move_slots, cluster, [SHARDS[0].slot], added)
        assert (await spend(ledger, users[0])).credits == 99
        assert added.address in {lane.name for lane in ledger.lanes}
        await asyncio.to_thread(remove_primary, cluster, added)
        await until(lambda: added.address not in {lane.name for lane in ledger.lanes})
        assert [(await spend(ledger, one)).allowed for one in users] == [True] * SHARD_COUNT


async def test_a_node_that_hangs_stops_its_own_shards(cluster: Cluster) -> None:
    """Its breaker opens; all other users are charged, and no other breaker opens."""
    hanging = cluster.owner(SHARDS[-1].slot)
    stopped = shards_of(hanging)
    async with gate_on(cluster.url) as gate:
        users = {number: user_in(number) for number in range(SHARD_COUNT)}
        for user_id in users.values():
            assert (await gate.charge(user_id)).allowed
        with hanging.hanging():
            mine = [users[number] for number in stopped]

            async def fail() -> None:
                with pytest.raises(FaregateError):
                    await gate.charge(mine[0])

            while gate.health().lanes[hanging.address].breaker is BreakerState.CLOSED:
                await fail()
            for number, user_id in users.items():
                if number not in stopped:
                    assert (await gate.charge(user_id)).allowed
            health = gate.health()
            assert health.breaker is BreakerState.OPEN
            assert (health.breaker_opened, len(health.lanes)) == (1, 3)
            states = [lane.breaker for lane in health.lanes.values()]
            assert states.count(BreakerState.CLOSED) == 2


@pytest.mark.parametrize("hanging_shard", [0, SHARD_COUNT - 1])
async def test_a_gate_starts_while_a_node_hangs(cluster: Cluster, hanging_shard: int) -> None:
    """Be it the node of the first shard; its shards are served as soon as it answers."""
    serving_shard = SHARD_COUNT - 1 - hanging_shard
    async with ledger_on(cluster.url) as first:
        late = await install(first, 10, user_in(hanging_shard))
        user_id = await install(first, 10, user_in(serving_shard))
    hanging = cluster.owner(SHARDS[hanging_shard].slot)
    assert serving_shard not in shards_of(hanging)
    ledger = make_ledger(cluster.url, shard_count=SHARD_COUNT, timeout_ms=TIMEOUT_MS)
    with hanging.hanging():
        identity = replace(IDENTITY, shard_count=SHARD_COUNT, installed=True)
        await asyncio.wait_for(ledger.attach(identity), WAIT_S_MAX)
        assert (await spend(ledger, user_id)).credits == 9
    await until_served(ledger, late)
    assert await balance(ledger, late) <= 9
    await ledger.aclose()


async def test_the_primary_that_sentinels_name_next_is_found(binaries: Binaries) -> None:
    """The old one becomes a replica, which refuses; its link is left for one to the new one."""
    with running_sentinels(binaries.redis) as sentinels:
        async with ledger_on(sentinels.url) as ledger:
            user_id = await install(ledger, 100)
            assert (await spend(ledger, user_id)).credits == 99
            before = sentinels.primary()
            assert before.client.wait(1, int(WAIT_S_MAX * 1_000)) >= 1
            await asyncio.to_thread(sentinels.kill_primary, before)
            await until_served(ledger, user_id)
            assert sentinels.primary() is not before


async def until_more(allowed: Counter[UUID], users: Sequence[UUID]) -> None:
    """Wait until each user was charged once more."""
    before = allowed.copy()
    await until(lambda: all(allowed[one] > before[one] for one in users), "all are charged")


async def until_served(ledger: RedisLedger, user_id: UUID) -> None:
    """Wait until a user can be charged."""

    async def tries() -> None:
        while True:
            try:
                await ledger.decide(attempt_of(user_id))
            except AttemptError:
                await asyncio.sleep(0.05)
            else:
                return

    await asyncio.wait_for(tries(), WAIT_S_MAX)
