"""A Redis Cluster of real servers: primaries and their replicas on ports of this machine."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis.exceptions import RedisError

from tcp_redis import HOST, TcpRedis, free_port
from waiting import wait_for

SLOTS = 16_384
#: After this time without an answer a node counts as failed. The machine may be busy.
NODE_TIMEOUT_MS = 2_000
_OPTIONS = {
    "cluster-enabled": "yes",
    "cluster-node-timeout": NODE_TIMEOUT_MS,
    # One dead primary stops its own slots, and no others.
    "cluster-require-full-coverage": "no",
    # A replica may be elected however long its link has been down: tests cut it.
    "cluster-replica-validity-factor": 0,
    # Each primary keeps its replicas, even one that has no slots any more.
    "cluster-allow-replica-migration": "no",
    "appendonly": "yes",
    # What was answered is in the file even if the process is killed, and no write waits for a disk.
    "appendfsync": "no",
    "repl-diskless-sync-delay": 0,
    "repl-ping-replica-period": 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover:
    """A primary that was killed, and the replica that became primary in its place."""

    dead: TcpRedis
    successor: TcpRedis


@dataclass(slots=True)
class Cluster:
    """The nodes of a cluster, dead ones included, and what a test does to them."""

    program: Path
    folder: Path
    nodes: list[TcpRedis]

    @property
    def url(self) -> str:
        """The address of the ledger: all nodes that were there at first."""
        return f"redis+cluster://{','.join(node.address for node in self.nodes)}"

    @property
    def alive(self) -> Sequence[TcpRedis]:
        return [node for node in self.nodes if node.is_alive]

    def primaries(self) -> Sequence[TcpRedis]:
        """Return the nodes that say of themselves that they are primaries, without failed ones."""
        return [node for node in self.alive if node.ask("ROLE")[0] == b"master"]

    def replicas(self, primary: TcpRedis) -> Sequence[TcpRedis]:
        """Return the nodes that say that they are replicas of a primary."""
        roles = [(node, node.ask("ROLE")) for node in self.alive]
        return [node for node, role in roles if role[0] == b"slave" and role[2] == primary.port]

    def owner(self, slot: int) -> TcpRedis:
        """Return the primary that has a slot, as it says itself."""
        (found,) = [node for node in self.primaries() if slot in slots_of(node)]
        return found

    def add(self) -> TcpRedis:
        """Start one more node that knows no other yet."""
        node = TcpRedis(
            self.program,
            self.folder / str(len(self.nodes)),
            {**_OPTIONS, "cluster-port": free_port()},
        )
        self.nodes.append(node)
        node.start()
        return node

    def stop(self) -> None:
        """End all nodes."""
        for node in self.nodes:
            node.stop()

    def kill_primary(self, primary: TcpRedis) -> Failover:
        """Kill a primary by SIGKILL; return when a replica has its slots, as all others see."""
        heirs, slots = self.replicas(primary), slots_of(primary)
        assert heirs
        assert slots
        primary.kill()
        successor: list[TcpRedis] = []

        def is_elected() -> bool:
            successor[:] = [heir for heir in heirs if slots_of(heir) == slots]
            return bool(successor)

        wait_for(is_elected, "a replica is elected")
        self.wait_until_agreed()
        assert successor[0].ask("ROLE")[0] == b"master"
        return Failover(dead=primary, successor=successor[0])

    def revive(self, failover: Failover) -> None:
        """Start a killed primary; return when it follows its successor, and is in sync."""
        failover.dead.start()
        wait_for(
            lambda: failover.dead in self.replicas(failover.successor), "the killed one is replica"
        )
        self.wait_until_agreed()

    def wait_until_agreed(self) -> None:
        """Wait until all live nodes see the same owners of all slots, and replicas are in sync."""
        wait_for(lambda: _is_agreed(self.alive), "the cluster is of one mind, and in sync")


def slots_of(node: TcpRedis) -> frozenset[int]:
    """Return the slots that a node says are its own."""
    return owners_seen_by(node).get(node.port, frozenset())


def owners_seen_by(node: TcpRedis) -> dict[int, frozenset[int]]:
    """Return the slots of each primary, by its port, as a node sees it."""
    found: dict[int, set[int]] = {}
    for first, last, owner, *_ in node.ask("CLUSTER", "SLOTS"):
        found.setdefault(int(owner[1]), set()).update(range(first, last + 1))
    return {port: frozenset(slots) for port, slots in found.items()}


def node_id(node: TcpRedis) -> str:
    """Return the id of a node."""
    return str(node.ask("CLUSTER", "MYID"), "ascii")


@contextmanager
def running_cluster(program: Path, *, primaries: int = 3, replicas: int = 1) -> Iterator[Cluster]:
    """Run a cluster whose primaries have as many slots each; end all its processes."""
    with tempfile.TemporaryDirectory(prefix="fg-cl-", dir="/tmp") as name, ExitStack() as ends:
        cluster = Cluster(program, Path(name), [])
        ends.callback(cluster.stop)
        for _ in range(primaries * (1 + replicas)):
            cluster.add()
        _join(cluster.nodes)
        _divide(cluster.nodes[:primaries])
        for number, node in enumerate(cluster.nodes[primaries:]):
            follow(node, cluster.nodes[number % primaries])
        cluster.wait_until_agreed()
        yield cluster


def follow(replica: TcpRedis, primary: TcpRedis) -> None:
    """Make a node, which knows the primary, its replica."""
    replica.ask("CLUSTER", "REPLICATE", node_id(primary))


def meet(node: TcpRedis, others: Sequence[TcpRedis]) -> None:
    """Let nodes get to know each other; return when each knows all."""
    for other in others:
        bus = other.options["cluster-port"]
        node.ask("CLUSTER", "MEET", HOST, other.port, bus)
    wanted = {node_id(one) for one in (node, *others)}
    wait_for(
        lambda: all(wanted <= known_by(one) for one in (node, *others)), "the nodes know each other"
    )


def known_by(node: TcpRedis) -> set[str]:
    """Return the ids of the nodes that a node has shaken hands with, itself included."""
    told = node.ask("CLUSTER NODES")
    return {
        one["node_id"]
        for one in told.values()
        if "handshake" not in one["flags"] and "noaddr" not in one["flags"]
    }


def _join(nodes: Sequence[TcpRedis]) -> None:
    for number, node in enumerate(nodes, start=1):
        node.ask("CLUSTER", "SET-CONFIG-EPOCH", number)
    first, *others = nodes
    meet(first, others)


def _divide(primaries: Sequence[TcpRedis]) -> None:
    count = len(primaries)
    for number, node in enumerate(primaries):
        first, end = SLOTS * number // count, SLOTS * (number + 1) // count
        node.ask("CLUSTER", "ADDSLOTSRANGE", first, end - 1)


def _is_agreed(nodes: Sequence[TcpRedis]) -> bool:
    try:
        seen = [owners_seen_by(node) for node in nodes]
        is_ok = all(node.ask("CLUSTER INFO")["cluster_state"] == "ok" for node in nodes)
        return is_ok and _is_whole(seen) and all(_is_in_sync(node) for node in nodes)
    except RedisError:
        return False


def _is_whole(seen: Sequence[dict[int, frozenset[int]]]) -> bool:
    is_alike = all(one == seen[0] for one in seen)
    return is_alike and sum(map(len, seen[0].values())) == SLOTS


def _is_in_sync(node: TcpRedis) -> bool:
    role = node.ask("ROLE")
    return bool(role[0] == b"master" or role[3] == b"connected")
