"""An embedded Valkey (or Redis)."""

import os
import signal
import socket
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from faregate.cli.servers.places import Places
from faregate.cli.servers.server import Server

_PING_S_MAX = 1.0


class EmbeddedValkey(Server):
    """A Valkey with an append-only file, on a unix socket, without a port."""

    name: ClassVar[str] = "redis"
    #: Valkey writes and syncs its append-only file, then ends.
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, places: Places, *, program: Path, durable: bool) -> None:
        """Prepare to run `program`; unless `durable`, its file is never synced to the disk."""
        super().__init__(places, durable=durable)
        self._program = program
        self._socket = places.run / "valkey.sock"

    @property
    def url(self) -> str:
        """A URL for redis-py and RQ."""
        return f"unix://{quote(os.fspath(self._socket))}"

    def _prepare(self, lock: int) -> None:
        # Valkey replaces the socket of a killed one, but until then it would look alive here.
        self._socket.unlink(missing_ok=True)

    def _command(self) -> tuple[str, ...]:
        options = {
            "port": "0",
            "unixsocket": os.fspath(self._socket),
            "unixsocketperm": "700",
            "dir": os.fspath(self.directory),
            "appendonly": "yes",
            "appendfsync": "everysec" if self._durable else "no",
            "maxmemory-policy": "noeviction",
            "save": "",
            "daemonize": "no",
            "logfile": os.fspath(self.log),
        }
        flags = [word for name, value in options.items() for word in (f"--{name}", value)]
        return (os.fspath(self._program), *flags)

    def _ready(self, pid: int) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(_PING_S_MAX)
                client.connect(os.fspath(self._socket))
                client.sendall(b"PING\r\n")
                return client.recv(64).startswith(b"+PONG")
        except OSError:
            return False
