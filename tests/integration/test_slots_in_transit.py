"""A slot that is moved key by key: nothing is half done while its keys lie on two nodes."""

import time
from collections.abc import AsyncIterator, Iterator
from uuid import UUID

import pytest

from cluster_rig import Cluster, node_id, running_cluster
from faregate import Gate, Settings, build_gate
from faregate.adapters.redis import keys
from faregate.bootstrap import open_credits, open_stream
from faregate.cli.servers import Binaries
from faregate.domain.decision import Decision
from faregate.domain.errors import LedgerUnavailableError, NodeUnavailableError
from faregate.domain.request import Credit
from faregate.domain.transaction import CreditTransactionId, TransactionType
from tcp_redis import HOST, TcpRedis

pytestmark = [pytest.mark.redis, pytest.mark.postgres, pytest.mark.cluster]

USER = UUID(int=7)
CREDITS = 100
_MIGRATE_MS = 10_000


@pytest.fixture(scope="module")
def cluster(binaries: Binaries) -> Iterator[Cluster]:
    """Two primaries."""
    with running_cluster(binaries.redis, primaries=2, replicas=0) as running:
        yield running


@pytest.fixture
def settings(cluster: Cluster, database_url: str) -> Settings:
    """An empty ledger, and a short wait for what cannot be executed now."""
    for node in cluster.primaries():
        node.ask("FLUSHALL")
    return Settings(
        redis_url=cluster.url,
        postgres_url=database_url,
        provision_users=True,
        decision_timeout_ms=1_000,
    )


@pytest.fixture
async def gate(settings: Settings) -> AsyncIterator[Gate]:
    """A gate that knows the user."""
    gate = build_gate(settings)
    left = (await gate.charge(USER)).credits
    assert (await gate.grant(USER, CREDITS - left, transaction_id=new_id())).credits == CREDITS
    yield gate
    await gate.aclose()


def new_id() -> CreditTransactionId:
    return CreditTransactionId.mint(time.time_ns() // 1_000_000)


class Transit:
    """The slot of a user on its way from one node to the other."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self.shard = keys.shard_for(USER, keys.shards(settings.shard_count))
        self.source = cluster.owner(self.shard.slot)
        (self.target,) = [node for node in cluster.primaries() if node is not self.source]

    def begin(self) -> None:
        slot = self.shard.slot
        self.target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(self.source))
        self.source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(self.target))

    def move(self, *names: bytes) -> None:
        to = HOST, self.target.port, "", 0, _MIGRATE_MS
        assert self.source.ask("MIGRATE", *to, "KEYS", *names) == b"OK"

    def finish(self) -> None:
        """Move all that is left, and give the slot to the other node."""
        self.move(*keys_in(self.source, self.shard.slot))
        for node in (self.target, self.source):
            node.ask("CLUSTER", "SETSLOT", self.shard.slot, "NODE", node_id(self.target))

    def end(self) -> None:
        """Let the slot stay where it was."""
        for node in (self.source, self.target):
            node.ask("CLUSTER", "SETSLOT", self.shard.slot, "STABLE")

    def records_count(self) -> int:
        return int(self.source.ask("XLEN", self.shard.stream))


def keys_in(node: TcpRedis, slot: int) -> set[bytes]:
    return set(node.ask("CLUSTER", "GETKEYSINSLOT", slot, 1_000))


@pytest.fixture
def transit(cluster: Cluster, settings: Settings, gate: Gate) -> Iterator[Transit]:
    """A slot that is being given away, with all keys still there."""
    made = Transit(cluster, settings)
    made.begin()
    yield made
    made.end()


async def test_nothing_is_charged_until_the_slot_has_moved(gate: Gate, transit: Transit) -> None:
    """All keys that the call declares are still there; a hold would lose the one that it makes."""
    before = keys_in(transit.source, transit.shard.slot), transit.records_count()
    with pytest.raises(LedgerUnavailableError, match="TRYAGAIN"):
        await gate.charge(USER)
    with pytest.raises(LedgerUnavailableError):
        await gate.hold(USER, 10)
    with pytest.raises(LedgerUnavailableError):
        await gate.grant(USER, 5, transaction_id=new_id())
    after = keys_in(transit.source, transit.shard.slot), transit.records_count()
    assert after == before
    transit.end()
    hold = await gate.hold(USER, 10)
    assert hold.allowed
    assert (await gate.settle(hold, 4)).credits == CREDITS - 4


async def test_credits_are_added_once_though_their_note_has_not_moved_yet(
    gate: Gate, transit: Transit, settings: Settings
) -> None:
    """The account is on the new node already, and what tells a retry from a first try is not."""
    transit.end()
    credit = Credit(
        user_id=USER,
        transaction_id=new_id(),
        amount=50,
        type=TransactionType.ADD,
        description="order",
    )
    with open_credits(settings) as credits_:
        (first,) = credits_.add([credit])
        transit.begin()
        names = transit.shard.state, transit.shard.stream, transit.shard.account(USER.bytes)
        transit.move(*names)
        with pytest.raises(NodeUnavailableError, match=r"ASK|TRYAGAIN"):
            credits_.add([credit])
        transit.finish()
        (third,) = credits_.add([credit])
    assert isinstance(first, Decision)
    assert isinstance(third, Decision)
    assert [first.credits, third.credits] == [CREDITS + 50] * 2
    with open_stream(settings) as stream:
        assert stream.read_many([USER])[USER].credits == CREDITS + 50
