"""A Redis on a TCP port of this machine, to be killed, stopped and started again on its data."""

import os
import random
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from faregate.cli.servers.process import Launch, SupervisedProcess
from faregate.cli.servers.server import lock_of
from processes import runs, stopped
from waiting import WAIT_S_MAX, wait_for

HOST = "127.0.0.1"
#: Below those that the kernel gives to clients, so that a server gets its own back.
_PORTS = range(12_000, 32_000)
_KILLED = 128 + signal.SIGKILL
#: A node that hangs is a fault that tests make, so asking it must end.
_ASK_S_MAX = 5.0


def free_port() -> int:
    """Find a port that nothing listens on."""
    while True:
        port = random.choice(_PORTS)  # noqa: S311 - no secret.
        with socket.socket() as tried:
            try:
                tried.bind((HOST, port))
            except OSError:
                continue
            return port


@dataclass(slots=True, eq=False)
class TcpRedis:
    """A server in a folder of its own. Nothing of it outlives its owner."""

    program: Path
    folder: Path
    options: Mapping[str, object]
    #: What stands for the usual options, for a server that has a file of them.
    arguments: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    _process: SupervisedProcess | None = None
    _client: Any = None

    @property
    def url(self) -> str:
        return f"redis://{self.address}"

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.alive

    @property
    def client(self) -> Any:
        """A client of this server alone, which tries nothing twice."""
        if self._client is None:
            retry = Retry(NoBackoff(), 0)
            self._client = Redis(HOST, self.port, socket_timeout=_ASK_S_MAX, retry=retry)
        return self._client

    def ask(self, *command: object) -> Any:
        """Send a command; the reply is whatever redis-py makes of it."""
        return self.client.execute_command(*command)

    def start(self) -> None:
        """Start on the data of the folder, and wait until it answers."""
        self.folder.mkdir(exist_ok=True)
        lock = lock_of(self.folder)
        launch = Launch(
            command=self._command(),
            account=None,
            log=self.folder / "log",
            stop_signal=signal.SIGTERM,
            trees=(self.folder,),
        )
        try:
            self._process = SupervisedProcess(launch, lock=lock)
        finally:
            os.close(lock)
        wait_for(lambda: self._is_ready() or not self.is_alive, f"{self.address} serves")
        assert self.is_alive, (self.folder / "log").read_text(encoding="utf-8")[-2_000:]

    def kill(self) -> None:
        """End it by SIGKILL, and prove that this was its end."""
        assert self._process is not None
        pid = self.pid
        self._process.signal(signal.SIGKILL)
        self._process.join(timeout_ms=int(WAIT_S_MAX * 1_000))
        assert self._process.exit_status == _KILLED
        assert not runs(pid)
        self._disconnect()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Stop its process during the block: connections stay, and nothing is answered."""
        with stopped(self.pid):
            yield

    def stop(self) -> None:
        """End it, if it runs."""
        self._disconnect()
        if self._process is not None:
            self._process.signal(signal.SIGKILL)
            self._process.stop()
            self._process = None

    def _disconnect(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _is_ready(self) -> bool:
        try:
            return bool(self.ask("PING"))
        except RedisError:
            return False

    def _command(self) -> tuple[str, ...]:
        if self.arguments:
            return (os.fspath(self.program), *self.arguments)
        options = {
            "bind": HOST,
            "port": self.port,
            "dir": self.folder,
            "logfile": self.folder / "log",
            "save": "",
            "daemonize": "no",
            **self.options,
        }
        flags = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
        return (os.fspath(self.program), *flags)
