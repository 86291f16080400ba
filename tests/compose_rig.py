"""docker-compose.yml, and its services as processes on this machine."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import yaml
from psycopg import sql

from own_postgres import own_postgres
from own_redis import own_redis
from waiting import WAIT_S_MAX
from wire_client import free_port

ROOT = Path(__file__).resolve().parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
NODES = [f"cluster-{number}" for number in range(1, 7)]
#: A variable that has a default.
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


def options_of(name: str) -> dict[str, str]:
    """The options of a Valkey."""
    command = SERVICES[name]["command"]
    return dict(zip(command[1::2], command[2::2], strict=True))


@dataclass(frozen=True, slots=True)
class Containers:
    """The services of ours, as processes on this machine."""

    #: The Python of an environment with what is in the image.
    python: Path
    folder: Path
    password: str
    #: Where each server is, and where the API is: by the address that it has among containers.
    addresses: Mapping[str, str]
    #: The variables of whoever runs Compose.
    given: Mapping[str, str] = field(default_factory=dict)

    def here(self, text: str) -> str:
        """Return an argument or a variable with the addresses and the password of this machine."""
        text = VARIABLE.sub(lambda found: self.given.get(found[1], found[2]), text)
        for among_containers, address in self.addresses.items():
            text = text.replace(among_containers, address)
        return re.sub(r"\$\{POSTGRES_PASSWORD:\?[^}]*\}", self.password, text)

    def start(self, name: str, *command: str) -> subprocess.Popen[str]:
        """Start a command in a service's environment: its own, or another one."""
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
        given = SERVICES[name]["environment"]
        program, *arguments = command or ("faregate", *SERVICES[name]["command"])
        return subprocess.Popen(
            [self.python.parent / program, *map(self.here, arguments)],
            cwd=self.folder,
            env=kept | {key: self.here(value) for key, value in given.items()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, name: str, *command: str) -> tuple[int, str]:
        """Run a command to its end; return its status and what it said."""
        with ending(self.start(name, *command)) as process:
            said, _ = process.communicate(timeout=WAIT_S_MAX)
            return process.returncode, said

    def is_healthy(self, name: str) -> bool:
        """Whether a service's health check succeeds."""
        kind, *command = SERVICES[name]["healthcheck"]["test"]
        assert kind == "CMD"
        return self.run(name, *command)[0] == 0


@contextmanager
def ending(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that is ended, by its id, however the test went."""
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@contextmanager
def valkey_of(name: str, program: Path, *more: str) -> Iterator[str]:
    """A server with the options of a service, on a port of the loopback address."""
    port = str(free_port())
    options = SERVICES[name]["command"][1:]
    with own_redis(program, "--port", port, "--bind", "127.0.0.1", *options, *more):
        yield f"127.0.0.1:{port}"


@contextmanager
def postgres_of(programs: Path, password: str) -> Iterator[str]:
    """A server that asks for a password, with the user and the database that the image makes."""
    given = SERVICES["postgres"]["environment"]
    port = free_port()
    with own_postgres(programs, port) as server:
        server.write(
            "pg_hba.conf", b"local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        )
        with server.running("listen_addresses=127.0.0.1"):
            with psycopg.connect(server.url, autocommit=True) as connection:
                user, database = map(sql.Identifier, (given["POSTGRES_USER"], given["POSTGRES_DB"]))
                made = sql.SQL("create role {} superuser login password {}")
                connection.execute(made.format(user, sql.Literal(password)))
                connection.execute(sql.SQL("create database {} owner {}").format(database, user))
            yield f"127.0.0.1:{port}"
