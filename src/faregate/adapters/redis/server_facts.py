"""Reads what servers say of themselves: INFO, CLUSTER INFO and CLUSTER NODES."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from faregate.domain.replication import Replica
from faregate.domain.server import LiveServer

#: The sections of INFO that are read.
SECTIONS: Final = ("server", "memory", "persistence", "replication")
#: The settings that are read.
SETTINGS: Final = (
    "appendfsync",
    "min-replicas-to-write",
    "cluster-require-full-coverage",
    "cluster-node-timeout",
)
#: A slot that is on its way to or from another node: `[93->-4f1c...]`.
_MOVING: Final = "["


def fields(reply: bytes) -> dict[str, str]:
    """Return the fields of INFO or CLUSTER INFO."""
    lines = (line.partition(":") for line in reply.decode().splitlines())
    return {name: value for name, separator, value in lines if separator}


def settings(reply: Any) -> dict[str, str]:
    """Return the settings of a reply to CONFIG GET; none of an error, such as a missing right."""
    if not isinstance(reply, list):
        return {}
    words = [word.decode() for word in reply]
    return dict(zip(words[::2], words[1::2], strict=True))


def live_server(
    info: Mapping[str, str], given: Mapping[str, str], *, clock_ahead_ms: int
) -> LiveServer:
    """Return the facts about a server from its INFO and its settings."""
    followers = replicas(info)
    return LiveServer(
        version=info["redis_version"],
        role=info["role"],
        memory_used=int(info["used_memory"]),
        memory_max=int(info["maxmemory"]),
        eviction_policy=info["maxmemory_policy"],
        append_only=info["aof_enabled"] == "1",
        append_failed=info.get("aof_last_write_status", "ok") != "ok",
        append_fsync=given.get("appendfsync"),
        replicas=len(followers),
        # The field is there only if replicas are needed.
        needs_replicas="min_slaves_good_slaves" in info,
        refuses_writes=_refuses_writes(info, given),
        replica_lag_bytes=max((one.lag_bytes for one in followers), default=0),
        replica_lag_s=max((one.lag_s for one in followers), default=0),
        clock_ahead_ms=clock_ahead_ms,
    )


def _refuses_writes(info: Mapping[str, str], given: Mapping[str, str]) -> bool:
    """Return whether fewer replicas follow than are needed: one, if the user may not read it."""
    good = info.get("min_slaves_good_slaves")
    return good is not None and int(good) < int(given.get("min-replicas-to-write", 1))


def replicas(info: Mapping[str, str]) -> tuple[Replica, ...]:
    """Return the replicas that are connected to a server, from its INFO."""
    written = int(info["master_repl_offset"])
    return tuple(
        Replica(
            name=f"{one['ip']}:{one['port']}",
            is_online=one["state"] == "online",
            lag_bytes=max(0, written - int(one["offset"])),
            lag_s=max(0, int(one["lag"])),
        )
        for one in _replica_lines(info)
    )


def _replica_lines(info: Mapping[str, str]) -> Iterator[dict[str, str]]:
    for number in range(int(info["connected_slaves"])):
        text = info[f"slave{number}"]
        yield dict(part.split("=", 1) for part in text.split(","))


def slots_moving(nodes: bytes) -> int:
    """Return how many slots a node gives to others, from its CLUSTER NODES."""
    own = [line for line in nodes.decode().splitlines() if "myself" in line.split()[2]]
    return sum(
        word.startswith(_MOVING) and "->-" in word for line in own for word in line.split()[8:]
    )
