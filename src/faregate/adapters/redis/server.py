"""Facts about a Redis server, for operators: settings, memory, clock, queue."""

import time
from collections.abc import Mapping
from typing import Final, Self

from redis import Redis

from faregate.adapters.redis.client import Client, checked
from faregate.adapters.redis.urls import LEDGER_SETTING, check_url
from faregate.domain.errors import LedgerUnavailableError
from faregate.domain.server import LiveServer, Queue

_SECTIONS: Final = "server", "memory", "persistence", "replication"


def _replica(text: str) -> dict[str, str]:
    """Read the line of INFO about a replica."""
    return dict(part.split("=", 1) for part in text.split(","))


def _replicas(info: Mapping[str, str]) -> int:
    return int(info["connected_slaves"])


class RedisServer:
    """Reads facts about one server. It connects at first use."""

    def __init__(self, client: Redis) -> None:
        self._client = Client(client)

    @classmethod
    def from_url(cls, url: str, setting: str = LEDGER_SETTING) -> Self:
        """Connect at first use, and never repeat a command."""
        return cls(Redis.from_url(check_url(url, setting)))

    def inspect(self) -> LiveServer:
        """Return the facts.

        Raises:
            LedgerUnavailableError: It does not answer.
        """
        before_ms = time.time() * 1_000
        seconds, microseconds = self._client.ask("TIME")
        now_ms = (before_ms + time.time() * 1_000) / 2
        info = self._client.info(*_SECTIONS)
        replicas = [_replica(info[f"slave{n}"]) for n in range(_replicas(info))]
        return LiveServer(
            version=info["redis_version"],
            role=info["role"],
            memory_used=int(info["used_memory"]),
            memory_max=int(info["maxmemory"]),
            eviction_policy=info["maxmemory_policy"],
            append_only=info["aof_enabled"] == "1",
            append_failed=info.get("aof_last_write_status", "ok") != "ok",
            append_fsync=self._append_fsync(),
            replicas=_replicas(info),
            needs_replicas="min_slaves_good_slaves" in info,
            replica_lag_bytes=max(
                (int(info["master_repl_offset"]) - int(one["offset"]) for one in replicas),
                default=0,
            ),
            replica_lag_s=max((int(one["lag"]) for one in replicas), default=0),
            clock_ahead_ms=round(int(seconds) * 1_000 + int(microseconds) / 1_000 - now_ms),
        )

    def _append_fsync(self) -> str | None:
        """Return how often writes are flushed; None if the user may not read settings."""
        try:
            reply = self._client.ask("CONFIG", "GET", "appendfsync")
        except LedgerUnavailableError:
            return None
        return str(reply[1].decode()) if reply else None

    def inspect_queue(self, name: str) -> Queue:
        """Return the state of a queue of RQ and its workers; raises as `inspect` does.

        The key of a dead worker expires, but RQ leaves its name in the set of workers.
        """
        names = self._client.ask("SMEMBERS", f"rq:workers:{name}")
        replies = self._client.ask_all([("EXISTS", one) for one in names])
        return Queue(
            workers=sum(map(checked, replies)),
            suspended=bool(self._client.ask("EXISTS", "rq:suspended")),
        )

    def close(self) -> None:
        """Close all connections."""
        self._client.close()
