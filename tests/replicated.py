"""A primary and its replica: stopped, cut off, killed, and followed by another primary.

One address leads to the primary, whichever it is, as a proxy or a name in DNS would.
"""

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis

from own_redis import OwnRedis, own_redis
from processes import stopped
from waiting import wait_for
from wire_client import free_port

_HOST = "127.0.0.1"
_OPTIONS = ("--bind", _HOST, "--repl-diskless-sync-delay", "0")


@dataclass(slots=True)
class Replicated:
    """A primary, the replica that follows it, and the address of the primary."""

    program: Path
    folder: Path
    options: tuple[str, ...]
    _servers: ExitStack
    primary: OwnRedis = field(init=False)
    replica: OwnRedis = field(init=False)
    _port: int = field(init=False)

    def __post_init__(self) -> None:
        self.primary, self._port = self._start()
        self._point_to_primary()
        self._follow()

    @property
    def url(self) -> str:
        """The address of the primary."""
        return f"unix://{self.folder}/primary"

    def _start(self, *options: str) -> tuple[OwnRedis, int]:
        port = free_port()
        made = own_redis(self.program, *_OPTIONS, "--port", str(port), *options, *self.options)
        return self._servers.enter_context(made), port

    def _point_to_primary(self) -> None:
        new = self.folder / "new"
        new.symlink_to(self.primary.folder / "s")
        new.rename(self.folder / "primary")

    def _follow(self) -> None:
        """Start a replica of the primary; return when it is in sync."""
        self.replica, self._replica_port = self._start("--replicaof", _HOST, str(self._port))
        wait_for(lambda: self._role(self.replica)[3] == b"connected", "the replica is in sync")
        # Redis 7 holds the stream of writes back until the first confirmation of a new replica.
        wait_for(self._is_confirmed, "the replica confirms what the primary sends")

    _replica_port: int = field(init=False, default=0)

    @staticmethod
    def _role(server: OwnRedis) -> Any:
        with closing(Redis.from_url(server.url)) as client:
            asking: Any = client
            return asking.execute_command("ROLE")

    def _is_confirmed(self) -> bool:
        with closing(Redis.from_url(self.primary.url)) as client:
            client.publish("a message", "is sent to replicas, and stored by none")
            confirmed: Any = client.wait(1, 1_000)
            return bool(confirmed)

    def wait_until_level(self) -> None:
        """Wait until the replica has all that the primary has now."""
        offset = self._role(self.primary)[1]
        wait_for(lambda: self._role(self.replica)[4] >= offset, "the replica has all")

    @contextmanager
    def stopped_replica(self) -> Iterator[None]:
        """Let the replica hang for the block. The primary takes it for connected."""
        assert self.replica.process is not None
        with stopped(self.replica.process.pid):
            assert len(self._role(self.primary)[2]) == 1
            yield

    def cut_off(self) -> None:
        """Make the replica a primary of its own: from now on the primary writes for nobody."""
        with closing(Redis.from_url(self.replica.url)) as client:
            client.replicaof("NO", "ONE")
        wait_for(lambda: not self._role(self.primary)[2], "the primary has no replica")

    def fail_over(self) -> None:
        """Kill the primary; let its replica, cut off or not, be the primary, with a new replica."""
        primary = self.primary
        primary.kill()
        assert primary.process is not None
        assert primary.process.returncode == -signal.SIGKILL
        self.primary, self._port = self.replica, self._replica_port
        with closing(Redis.from_url(self.primary.url)) as client:
            client.replicaof("NO", "ONE")
        assert self._role(self.primary)[0] == b"master"
        self._point_to_primary()
        self._follow()

    def entries(self, stream: bytes) -> bytes:
        """Return all bytes of a stream in the primary."""
        with closing(Redis.from_url(self.primary.url)) as client:
            asking: Any = client
            return b"".join(fields[b"r"] for _, fields in asking.xrange(stream))


@contextmanager
def replicated(program: Path, *options: str) -> Iterator[Replicated]:
    """Run a primary and its replica, and end all servers that became of them."""
    with (
        tempfile.TemporaryDirectory(prefix="fg-pair-", dir=os.environ.get("TMPDIR")) as folder,
        ExitStack() as servers,
    ):
        yield Replicated(program, Path(folder), options, servers)
