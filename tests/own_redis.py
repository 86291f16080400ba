"""A Redis of one test, to be paused, killed and started in unusual ways."""

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

START_S_MAX = 30


@dataclass(slots=True)
class OwnRedis:
    """A server on a unix socket, without a disk."""

    program: Path
    folder: Path
    options: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None
    password: str | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.folder}/s"

    def start(self) -> None:
        command = [str(self.program), "--port", "0", "--unixsocket", f"{self.folder}/s"]
        command += ["--dir", str(self.folder), "--save", "", "--logfile", f"{self.folder}/log"]
        self.process = subprocess.Popen([*command, *self.options])
        ends_at_s = time.monotonic() + START_S_MAX
        with Redis.from_url(self.url, password=self.password) as client:
            while time.monotonic() < ends_at_s:
                try:
                    client.ping()
                except RedisError:
                    time.sleep(0.01)
                else:
                    return
        raise AssertionError("the server does not start")

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it, and all that it knew."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@contextmanager
def own_redis(program: Path, *options: str, password: str | None = None) -> Iterator[OwnRedis]:
    """Run a server, and end it."""
    with tempfile.TemporaryDirectory(prefix="fg-redis-") as folder:
        server = OwnRedis(program, Path(folder), options, password=password)
        server.start()
        try:
            yield server
        finally:
            server.kill()
