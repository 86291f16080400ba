"""A Postgres of one test, with settings of its own or as a standby of another one."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT

import psycopg
from psycopg.conninfo import make_conninfo

from faregate.cli.servers import EmbeddedServers
from faregate.cli.servers.places import Places
from faregate.cli.servers.postgres import PORT, SUPERUSER, EmbeddedPostgres
from faregate.cli.servers.process import SERVER_ENVIRONMENT, Launch, SupervisedProcess
from waiting import wait_for


@dataclass(frozen=True, slots=True)
class OwnPostgres:
    """A cluster in temporary directories, as the account that Postgres runs as."""

    programs: Path
    places: Places
    port: int = PORT

    @property
    def data(self) -> Path:
        return self.places.base / "postgres" / "data"

    @property
    def url(self) -> str:
        """The URL of database `postgres`, as superuser, by a socket file."""
        server = EmbeddedPostgres(self.places, programs=self.programs, durable=False)
        return make_conninfo(server.url, port=str(self.port))

    def write(self, name: str, content: bytes) -> Path:
        """Write a file for the server, which nobody else may read."""
        path = self.data / name
        path.write_bytes(content)
        path.chmod(0o600)
        if self.places.account is not None:
            os.chown(path, self.places.account.uid, self.places.account.gid)
        return path

    def run(self, program: str, *arguments: str) -> None:
        """Run one of Postgres' programs to its end."""
        account = self.places.account
        subprocess.run(
            [self.programs / program, *arguments],
            check=True,
            cwd="/",
            env=SERVER_ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )

    @contextmanager
    def running(self, *settings: str) -> Iterator[None]:
        """Run the server with settings, and end it."""
        given = ("listen_addresses=", f"unix_socket_directories={self.places.run}", "fsync=off")
        flags = [word for each in (*given, f"port={self.port}", *settings) for word in ("-c", each)]
        log = self.places.base / "postgres" / "log"
        launch = Launch(
            command=(str(self.programs / "postgres"), "-D", str(self.data), *flags),
            account=self.places.account,
            log=log,
            stop_signal=SIGINT,
            trees=(self.places.base,),
        )
        with (self.places.base / "lock").open("w") as lock:
            process = SupervisedProcess(launch, lock=lock.fileno())
        try:
            wait_for(lambda: not process.alive or answers(self.url), "the server starts")
            assert process.alive, log.read_text("utf-8")
            yield
        finally:
            process.stop()


def answers(url: str) -> bool:
    """Whether a server takes connections."""
    with suppress(psycopg.OperationalError), closing(psycopg.connect(url)):
        return True
    return False


@contextmanager
def own_postgres(programs: Path, port: int) -> Iterator[OwnPostgres]:
    """Make an empty cluster, and delete it at the end."""
    with _places(programs, port) as made:
        made.run("initdb", "-D", str(made.data), "-U", SUPERUSER, "-A", "trust", "-E", "UTF8")
        yield made


@contextmanager
def standby_of(servers: EmbeddedServers) -> Iterator[OwnPostgres]:
    """Make and run a standby of a running server."""
    with _places(servers.postgres._programs) as made:
        made.run(
            "pg_basebackup", "-d", servers.postgres_url, "-D", str(made.data), "-R", "-c", "fast"
        )
        with made.running():
            yield made


@contextmanager
def _places(programs: Path, port: int = PORT) -> Iterator[OwnPostgres]:
    places = Places.prepare(None)
    try:
        yield OwnPostgres(programs, places, port)
    finally:
        places.clear()
