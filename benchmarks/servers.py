"""The servers of a benchmark: Debian's redis-server with a log on disk, and a migrated Postgres."""

import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
from psycopg import sql
from redis import Redis
from redis.exceptions import RedisError

from benchmarks.errors import BenchError
from faregate.adapters.postgres.migrations import Migrator
from faregate.cli.servers import Binaries, EmbeddedServers

#: What every user has: more than any run can spend.
CREDITS = 2_000_000_000
START_S_MAX = 20
STOP_S_MAX = 60
_POLL_S = 0.02
#: The number of shards of a ledger, unless another one is asked for.
SHARDS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An empty ledger, and the Redis that everything else is measured on, too."""

    redis_url: str
    postgres_url: str


def redis_program() -> Path:
    """Return the `redis-server` to measure on.

    Raises:
        BenchError: There is none, or it is of another kind than those in use: the Valkey of
            `faregate[embedded]` is built with libc's malloc, and takes twice the time.
    """
    found = shutil.which("redis-server")
    if found is None:
        raise BenchError("redis-server is not on PATH; on Debian and Ubuntu: apt-get install redis")
    said = redis_version(Path(found))
    if not re.search(r"Redis server v=\S+ .*malloc=jemalloc", said):
        raise BenchError(f"{found} is no Redis with jemalloc, such as Debian's: {said}")
    return Path(found)


def redis_version(program: Path) -> str:
    """Return what a `redis-server` says about itself."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


class Servers:
    """Makes empty places. Postgres runs all the time, a Redis as long as its place."""

    def __init__(self, postgres: EmbeddedServers, program: Path) -> None:
        self._postgres = postgres
        #: The `redis-server`.
        self.program = program
        self._count = 0
        self._migrated: set[int] = set()

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Start a Redis and make a ledger for it; stop and delete both at the end."""
        with self.database() as url, running_redis(self.program) as redis_url:
            yield Place(redis_url=redis_url, postgres_url=url)

    @contextmanager
    def database(self, shards: int = SHARDS) -> Iterator[str]:
        """Make a database of a ledger with some shards, and yield its URL; drop it at the end."""
        self._count += 1
        name = f"bench_{self._count}"
        self._administer("CREATE DATABASE {} TEMPLATE {}", name, self._template(shards))
        try:
            yield self._postgres.postgres.database_url(name)
        finally:
            self._administer("DROP DATABASE {} WITH (FORCE)", name)

    def _template(self, shards: int) -> str:
        """Return the migrated database of which others are copies; make it where it is missing."""
        name = f"bench_template_{shards}"
        if shards not in self._migrated:
            self._administer("CREATE DATABASE {}", name)
            url = self._postgres.postgres.database_url(name)
            Migrator(url).apply(shard_count=shards, starting_credits=CREDITS)
            self._migrated.add(shards)
        return name

    def _administer(self, statement: str, *names: str) -> None:
        with psycopg.connect(self._postgres.postgres_url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@contextmanager
def open_servers() -> Iterator[Servers]:
    """Start Postgres, from the wheel: it takes no part in anything that is measured.

    Raises:
        BenchError: There is no fitting `redis-server`.
    """
    program = redis_program()
    binaries = replace(Binaries.from_wheels(), redis=program)
    with EmbeddedServers(durable=False, binaries=binaries) as postgres:
        yield Servers(postgres, program)


@contextmanager
def running_redis(program: Path, **more: object) -> Iterator[str]:
    """Start a Redis with a log on disk, and yield its URL.

    Args:
        program: The `redis-server`.
        more: Further options, with underscores for hyphens.

    Raises:
        BenchError: It does not start.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="faregate-bench-") as folder:
        options = {
            "bind": "127.0.0.1",
            "port": port,
            "dir": folder,
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory_policy": "noeviction",
            "save": "",
            **more,
        }
        words = [
            str(word)
            for name, value in options.items()
            for word in (f"--{name.replace('_', '-')}", value)
        ]
        with subprocess.Popen([program, *words], stdout=subprocess.DEVNULL) as process:
            try:
                url = f"redis://127.0.0.1:{port}/0"
                _await_redis(url, process)
                yield url
            finally:
                process.terminate()
                try:
                    process.wait(STOP_S_MAX)
                except subprocess.TimeoutExpired:
                    process.kill()


def free_port() -> int:
    """Return a port that nobody listened on just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def _await_redis(url: str, process: subprocess.Popen[bytes]) -> None:
    ends_at_s = time.monotonic() + START_S_MAX
    with Redis.from_url(url) as client:
        while process.poll() is None and time.monotonic() < ends_at_s:
            try:
                client.ping()
            except RedisError:
                time.sleep(_POLL_S)
            else:
                return
    raise BenchError(f"redis-server does not start (exit status {process.poll()})")
