"""Workers and operators on a cluster of which nodes hang and die, and slots move."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event
from uuid import UUID

import pytest
from redis.exceptions import AskError, MovedError, TryAgainError

from billing import Billing, add, let_it_be_due
from cluster_rig import Cluster, node_id
from durable import Database
from faregate import Settings
from faregate.adapters.redis import keys, routes
from faregate.adapters.redis.topology import Node
from faregate.bootstrap import (
    open_stream,
)
from faregate.domain.decision import Decision
from faregate.domain.errors import NodeUnavailableError
from integration.test_scripts import ARGUMENTS
from moved import assert_exact, working
from on_cluster import (
    credit,
    credit_all,
    ledger_with_users,
    opened,
    owner,
    stored_of,
)
from operated import drain
from slot_moves import move_slots
from tcp_redis import HOST
from waiting import wait_for

#: How long a node may be silent, in seconds.
SILENCE_S_MAX = 2.0
#: The longest time of a job that first finds out which nodes are silent, in seconds.
LONG_JOB_S = 8.0

pytestmark = [pytest.mark.redis, pytest.mark.postgres, pytest.mark.cluster, pytest.mark.long]


@pytest.fixture
def settings(cluster: Cluster, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A ledger on the cluster, which the environment names."""
    monkeypatch.setenv("FAREGATE_REDIS_URL", cluster.url)
    monkeypatch.setenv("FAREGATE_POSTGRES_URL", database_url)
    return Settings(redis_url=cluster.url, postgres_url=database_url)


@pytest.fixture
def users(settings: Settings, tables: Database) -> Sequence[UUID]:
    """Users of a new ledger, who lie in all of its shards."""
    return ledger_with_users(settings, tables)


def are_stored(
    settings: Settings, tables: Database, users: Sequence[UUID], expected: Sequence[int]
) -> bool:
    return stored_of(settings, users, tables, LONG_JOB_S) == expected


def test_a_node_that_hangs_keeps_only_its_own_records_pending(
    cluster: Cluster,
    settings: Settings,
    users: Sequence[UUID],
    tables: Database,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Those of all others become rows meanwhile; its own do when it answers again."""
    caplog.set_level(logging.WARNING)
    monkeypatch.setitem(routes._OPTIONS, "socket_timeout", SILENCE_S_MAX)
    node = owner(cluster, settings, users[0])
    others = [user for user in users if owner(cluster, settings, user) is not node]
    credit_all(settings, users)
    (replica,) = cluster.replicas(node)
    # Without its replica, nobody succeeds it.
    with replica.hanging(), node.hanging():
        for count in (1, 2):
            expected = [count if user in others else 0 for user in users]
            wait_for(partial(are_stored, settings, tables, users, expected), "others are rows")
            answers = credit(settings, users)
            refused = [one for one in answers if isinstance(one, NodeUnavailableError)]
            assert len(refused) == len(users) - len(others)
            assert node.address in str(refused[0])
    assert {node.address in record.getMessage() for record in caplog.records} == {True}
    cluster.wait_until_agreed()
    drain(settings)
    assert_exact(settings)


def test_shards_that_move_while_they_are_drained_lose_nothing(
    cluster: Cluster, settings: Settings, users: Sequence[UUID]
) -> None:
    """To another primary and back, while credits are given and records become rows."""
    slots = [shard.slot for shard in keys.shards(settings.shard_count)]
    homes = [cluster.owner(slot) for slot in slots]
    is_over, given = Event(), [0]

    def give() -> None:
        while not is_over.is_set():
            given[0] += sum(isinstance(one, Decision) for one in credit(settings, users, 1))

    with working(settings), ThreadPoolExecutor(1) as pool:
        giving = pool.submit(give)
        for target in cluster.primaries():
            move_slots(cluster, slots, target)
        for slot, home in zip(slots, homes, strict=True):
            move_slots(cluster, [slot], home)
        is_over.set()
        giving.result()
    drain(settings)
    assert_exact(settings)
    with open_stream(settings) as stream:
        live = stream.read_many(users).values()
    assert sum(user.credits for user in live) == 3 * len(users) + given[0]


def test_redirects_of_a_moving_slot_are_followed(
    cluster: Cluster, settings: Settings, users: Sequence[UUID]
) -> None:
    """ASK, to keys that have moved; TRYAGAIN, until all keys have; then MOVED, to the new owner."""
    user = users[3]
    shard = keys.shard_for(user, keys.shards(settings.shard_count))
    source = cluster.owner(shard.slot)
    target = next(node for node in cluster.primaries() if node is not source)
    with opened(settings) as client:
        client.ask(shard, "GET", shard.state)
        target.ask("CLUSTER", "SETSLOT", shard.slot, "IMPORTING", node_id(source))
        source.ask("CLUSTER", "SETSLOT", shard.slot, "MIGRATING", node_id(target))
        source.ask("MIGRATE", HOST, target.port, "", 0, 5_000, "KEYS", shard.state)
        with pytest.raises(AskError):
            source.ask("GET", shard.state)
        assert client.ask(shard, "GET", shard.state)
        account = shard.account(user.bytes)
        with pytest.raises(TryAgainError):
            source.ask("MGET", shard.state, account)
        with pytest.raises(NodeUnavailableError, match=f"TRYAGAIN for shard {shard.number}"):
            client.ask(shard, "MGET", shard.state, account)
        source.ask("MIGRATE", HOST, target.port, "", 0, 5_000, "KEYS", shard.ledger, account)
        assert None not in client.ask(shard, "MGET", shard.state, account)
        for node in (target, source):
            node.ask("CLUSTER", "SETSLOT", shard.slot, "NODE", node_id(target))
        with pytest.raises(MovedError):
            source.ask("GET", shard.state)
        assert client.node(shard) == Node(HOST, source.port)
        assert client.ask(shard, "GET", shard.state)
        assert client.node(shard) == Node(HOST, target.port)
    cluster.wait_until_agreed()
    move_slots(cluster, [shard.slot], source)
    assert_exact(settings)


def test_a_worker_goes_on_with_the_successor_of_a_killed_primary(
    cluster: Cluster, settings: Settings, users: Sequence[UUID]
) -> None:
    """What the replica had got becomes rows; later credits are given by it, once each."""
    primary = owner(cluster, settings, users[0])
    credit_all(settings, users)
    with open_stream(settings) as stream:
        assert stream.pending_count() == len(users)
        assert primary.client.wait(1, 5_000) == 1
        failover = cluster.kill_primary(primary)
        assert stream.pending_count() == len(users)
        assert stream.read(0, None, 10) is not None
    credit_all(settings, users)
    drain(settings)
    assert_exact(settings)
    cluster.revive(failover)


def test_a_script_writes_nothing_while_its_slot_moves_key_by_key(
    cluster: Cluster, settings: Settings, users: Sequence[UUID], tables: Database
) -> None:
    """Since a key that it would make might be refused after others were written.

    The id of an order is such a key: without it the order would be made twice.
    """
    user = users[3]
    shard = keys.shard_for(user, keys.shards(settings.shard_count))
    source = cluster.owner(shard.slot)
    target = next(node for node in cluster.primaries() if node is not source)
    billing = Billing(settings, tables)
    credit_all(settings, users)
    add(tables, user, 5, "payment")
    target.ask("CLUSTER", "SETSLOT", shard.slot, "IMPORTING", node_id(source))
    source.ask("CLUSTER", "SETSLOT", shard.slot, "MIGRATING", node_id(target))
    before = source.client.dump(shard.stream), source.ask("GET", shard.state)
    with pytest.raises(NodeUnavailableError, match="TRYAGAIN"):
        billing.step()
    names = shard.state, shard.stream, shard.account(user.bytes)
    for name in set(ARGUMENTS) - {"allowed", "erase"}:
        with opened(settings) as client, pytest.raises(NodeUnavailableError, match="TRYAGAIN"):
            client.run(name, shard, names, *ARGUMENTS[name][0])
    assert (source.client.dump(shard.stream), source.ask("GET", shard.state)) == before
    for node in (target, source):
        node.ask("CLUSTER", "SETSLOT", shard.slot, "STABLE")
    for _ in range(2):
        let_it_be_due(tables)
        billing.step()
    drain(settings)
    assert [row["amount"] for row in tables.rows(user)] == [5, 5]
    assert_exact(settings)
