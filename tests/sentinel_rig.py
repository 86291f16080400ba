"""A primary with replicas, and sentinels that name another primary when it dies."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from cluster_rig import Failover
from tcp_redis import HOST, TcpRedis
from waiting import wait_for

SERVICE = "faregate"
#: After this time without an answer a sentinel takes a server for dead. The machine may be busy.
DOWN_AFTER_MS = 2_000
#: How long a failover may take before another sentinel tries.
_FAILOVER_MS_MAX = 20_000
_OPTIONS = {
    "appendonly": "yes",
    "appendfsync": "no",
    "repl-diskless-sync-delay": 0,
    "repl-ping-replica-period": 1,
}
#: Sentinels keep their state in this file, and write it anew.
_SENTINEL = """\
port {port}
bind {host}
dir {folder}
sentinel monitor {service} {host} {primary} {quorum}
sentinel down-after-milliseconds {service} {down_after}
sentinel failover-timeout {service} {failover}
"""


@dataclass(slots=True)
class Sentinels:
    """The servers, dead ones included, and the sentinels that watch them."""

    servers: Sequence[TcpRedis]
    sentinels: Sequence[TcpRedis]

    @property
    def url(self) -> str:
        """The address of the ledger."""
        hosts = ",".join(one.address for one in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    def primary(self) -> TcpRedis:
        """Return the server that all sentinels name, and that says the same of itself."""
        found: list[TcpRedis] = []

        def is_named() -> bool:
            found[:] = self._named()
            return len(found) == 1 and found[0].is_alive and _role(found[0]) == b"master"

        wait_for(is_named, "all sentinels name one primary")
        return found[0]

    def replicas(self, primary: TcpRedis) -> Sequence[TcpRedis]:
        """Return the servers that follow a primary, or would, if its link were not cut."""
        return [one for one in self.servers if one.is_alive and _link(one, primary) is not None]

    def kill_primary(self, primary: TcpRedis) -> Failover:
        """Kill the primary; return when the sentinels have made a replica primary."""
        assert self.replicas(primary)
        primary.kill()
        wait_for(lambda: primary not in self._named(), "the sentinels name another primary")
        successor = self.primary()
        others = [one for one in self.servers if one.is_alive and one is not successor]
        wait_for(
            lambda: all(_link(one, successor) is not None for one in others),
            "all follow the new primary",
        )
        return Failover(dead=primary, successor=successor)

    def revive(self, failover: Failover) -> None:
        """Start a killed server; return when it follows its successor, and is in sync."""
        failover.dead.start()
        self.wait_until_agreed(len(self.servers) - 1)

    def wait_until_agreed(self, replicas_count: int) -> None:
        """Wait until so many replicas are in sync, and each sentinel knows them and the others."""
        primary = self.primary()
        wait_for(
            lambda: sum(_is_in_sync(one, primary) for one in self.servers) == replicas_count,
            "replicas are in sync",
        )
        wait_for(lambda: all(self._knows_all(one) for one in self.sentinels), "sentinels agree")

    def _named(self) -> list[TcpRedis]:
        """Return the servers that sentinels name: one, unless they are of two minds."""
        asked = [one for one in self.sentinels if one.is_alive]
        ports = {int(one.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1]) for one in asked}
        return [one for one in self.servers if one.port in ports]

    def _knows_all(self, sentinel: TcpRedis) -> bool:
        told = _pairs(sentinel.ask("SENTINEL", "MASTER", SERVICE))
        others = len(self.sentinels) - 1, len(self.servers) - 1
        counts = int(told[b"num-other-sentinels"]), int(told[b"num-slaves"])
        return told[b"flags"] == b"master" and counts == others


@contextmanager
def running_sentinels(
    program: Path, *, replicas: int = 2, watchers: int = 3
) -> Iterator[Sentinels]:
    """Run a primary, its replicas and sentinels; end all their processes."""
    with tempfile.TemporaryDirectory(prefix="fg-se-", dir="/tmp") as name, ExitStack() as ends:
        folder = Path(name)
        servers: list[TcpRedis] = []
        for number in range(1 + replicas):
            link = {"replicaof": f"{HOST} {servers[0].port}"} if servers else {}
            servers.append(TcpRedis(program, folder / f"r{number}", {**_OPTIONS, **link}))
            ends.callback(servers[-1].stop)
            servers[-1].start()
        sentinels = [
            _sentinel(program, folder / f"s{number}", servers[0], watchers // 2 + 1)
            for number in range(watchers)
        ]
        for one in sentinels:
            ends.callback(one.stop)
            one.start()
        running = Sentinels(servers, sentinels)
        running.wait_until_agreed(replicas)
        yield running


def _sentinel(program: Path, folder: Path, primary: TcpRedis, quorum: int) -> TcpRedis:
    sentinel = TcpRedis(program, folder, {}, arguments=(str(folder / "conf"), "--sentinel"))
    folder.mkdir()
    text = _SENTINEL.format(
        port=sentinel.port,
        host=HOST,
        folder=folder,
        service=SERVICE,
        primary=primary.port,
        quorum=quorum,
        down_after=DOWN_AFTER_MS,
        failover=_FAILOVER_MS_MAX,
    )
    (folder / "conf").write_text(text, encoding="utf-8")
    return sentinel


def _role(server: TcpRedis) -> bytes:
    try:
        return bytes(server.ask("ROLE")[0])
    except RedisError:
        return b""


def _link(server: TcpRedis, primary: TcpRedis) -> bytes | None:
    """Return the state of the link of a server that follows a primary."""
    try:
        role = server.ask("ROLE")
    except RedisError:
        return None
    return bytes(role[3]) if role[0] == b"slave" and role[2] == primary.port else None


def _is_in_sync(server: TcpRedis, primary: TcpRedis) -> bool:
    return _link(server, primary) == b"connected"


def _pairs(told: Any) -> dict[bytes, bytes]:
    return dict(told) if isinstance(told, dict) else dict(zip(told[::2], told[1::2], strict=True))
