"""Slots that move to other nodes while the cluster serves, and nodes that come and go."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from redis.exceptions import ResponseError

from cluster_rig import SLOTS, Cluster, follow, meet, node_id, slots_of
from tcp_redis import HOST, TcpRedis
from waiting import WAIT_S_MAX, wait_for

_KEYS_AT_ONCE = 100
_MIGRATE_MS_MAX = int(WAIT_S_MAX * 1_000)


def move_slots(cluster: Cluster, slots: Collection[int], target: TcpRedis) -> None:
    """Move slots to a primary; return when all nodes agree that it has them.

    A server that can moves them whole by itself (CLUSTER MIGRATESLOTS, Valkey 9); others are told
    key by key, as redis-cli does, and answer ASK and TRYAGAIN meanwhile.
    """
    for source in cluster.primaries():
        mine = slots_of(source) & frozenset(slots)
        if not mine or source is target:
            continue
        if moves_whole(source):
            _move_whole(source, target, sorted(mine))
        else:
            _move_by_keys(cluster, sorted(mine), source, target)
    wait_for(lambda: frozenset(slots) <= slots_of(target), "the target has the slots")
    cluster.wait_until_agreed()


def moves_whole(node: TcpRedis) -> bool:
    """Say whether a server moves slots by itself."""
    lines = node.ask("CLUSTER", "HELP")
    return any(bytes(line).upper().startswith(b"MIGRATESLOTS") for line in lines)


def add_primary(cluster: Cluster) -> TcpRedis:
    """Start a primary and a replica of it, and give it its part of the slots."""
    node, replica = cluster.add(), cluster.add()
    for newcomer in (node, replica):
        known = [one for one in cluster.alive if one not in {node, replica}]
        meet(newcomer, known if newcomer is node else [*known, node])
    follow(replica, node)
    primaries = [one for one in cluster.primaries() if slots_of(one)]
    part = SLOTS // (len(primaries) + 1)
    moved: list[int] = []
    for one in primaries:
        # Spread over all that it has, so that shards move from each.
        moved += sorted(slots_of(one))[:: len(primaries) + 1]
    move_slots(cluster, moved[:part], node)
    return node


def remove_primary(cluster: Cluster, leaving: TcpRedis) -> None:
    """Give all slots of a primary to the others; then forget and stop it and its replicas."""
    others = [one for one in cluster.primaries() if one is not leaving and slots_of(one)]
    slots = sorted(slots_of(leaving))
    for number, target in enumerate(others):
        move_slots(cluster, slots[number :: len(others)], target)
    assert not slots_of(leaving)
    gone = [leaving, *cluster.replicas(leaving)]
    ids = [node_id(one) for one in gone]
    for one in reversed(gone):
        one.stop()
    for node in cluster.alive:
        for forgotten in reversed(ids):
            node.ask("CLUSTER", "FORGET", forgotten)
    cluster.wait_until_agreed()


def _move_whole(source: TcpRedis, target: TcpRedis, slots: Sequence[int]) -> None:
    words = [word for first, last in _ranges(slots) for word in (first, last)]
    source.ask("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", *words, "NODE", node_id(target))
    states: list[bytes] = []

    def is_over() -> bool:
        states[:] = [_pairs(job)[b"state"] for job in source.ask("CLUSTER", "GETSLOTMIGRATIONS")]
        return states[0] in {b"success", b"failed", b"cancelled"}

    wait_for(is_over, "slots are moved")
    assert states[0] == b"success", states


def _move_by_keys(
    cluster: Cluster, slots: Sequence[int], source: TcpRedis, target: TcpRedis
) -> None:
    counts = _ask_all(source, [("CLUSTER", "COUNTKEYSINSLOT", slot) for slot in slots])
    filled = [slot for slot, count in zip(slots, counts, strict=True) if count]
    # Each slot with keys alone, so that no other answers ASK meanwhile.
    for slot in filled:
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(source))
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(target))
        to = HOST, target.port, "", 0, _MIGRATE_MS_MAX
        while names := source.ask("CLUSTER", "GETKEYSINSLOT", slot, _KEYS_AT_ONCE):
            _migrate(source, *to, "KEYS", *names)
        _assign(cluster, [slot], source, target)
    empty = [slot for slot in slots if slot not in set(filled)]
    # Without this its claim would have the epoch of before, and the old owner's would win.
    _ask_all(target, [("CLUSTER", "SETSLOT", one, "IMPORTING", node_id(source)) for one in empty])
    _assign(cluster, empty, source, target)


def _migrate(source: TcpRedis, *words: object) -> None:
    """Move keys; again while the target takes the cluster for down, as a new primary may."""

    def is_done() -> bool:
        try:
            source.ask("MIGRATE", *words)
        except ResponseError as error:
            if "CLUSTERDOWN" not in str(error):
                raise
            return False
        return True

    wait_for(is_done, "the target takes the keys")


def _assign(cluster: Cluster, slots: Sequence[int], source: TcpRedis, target: TcpRedis) -> None:
    """Tell all primaries who has slots, the new one first: no slot is without an owner."""
    others = [one for one in cluster.primaries() if one not in {source, target}]
    for node in (target, source, *others):
        _ask_all(node, [("CLUSTER", "SETSLOT", slot, "NODE", node_id(target)) for slot in slots])


def _ask_all(node: TcpRedis, commands: Sequence[Sequence[object]]) -> Sequence[Any]:
    with node.client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        return list(pipeline.execute())


def _ranges(slots: Sequence[int]) -> Iterator[tuple[int, int]]:
    first = last = slots[0]
    for slot in slots[1:]:
        if slot != last + 1:
            yield first, last
            first = slot
        last = slot
    yield first, last


def _pairs(job: Any) -> dict[bytes, Any]:
    return dict(job) if isinstance(job, dict) else dict(zip(job[::2], job[1::2], strict=True))
