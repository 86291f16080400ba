"""docker-compose.yml: valid, safe by default, and every command of ours in it runs for real."""

import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import distribution
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import yaml
from jsonschema import Draft202012Validator
from psycopg import sql
from redis import Redis

from faregate.cli.servers import Binaries
from faregate.config import Settings
from installed import built, locked, new_environment
from own_postgres import own_postgres
from own_redis import own_redis
from waiting import WAIT_S_MAX, wait_for
from wire_client import free_port

ROOT = Path(__file__).resolve().parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ["migrate", "api", "worker"]
REDIS = ["valkey", "queue"]
LASTING = [*REDIS, "postgres", "api", "worker"]


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    """The published Compose schema, as a development dependency carries it."""
    carried = "check_jsonschema/builtin_schemas/vendor/compose-spec.json"
    schema = json.loads(
        Path(str(distribution("check-jsonschema").locate_file(carried))).read_text("utf-8")
    )
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_the_file_follows_the_published_schema(validator: Draft202012Validator) -> None:
    """Compose would accept the file."""
    assert [error.message for error in validator.iter_errors(COMPOSE)] == []


def test_the_schema_would_notice_a_mistake(validator: Draft202012Validator) -> None:
    """The schema is the real one: a misspelt key in a service is an error."""
    broken = {"services": {"api": {**SERVICES["api"], "healtcheck": {}}}}
    assert not validator.is_valid(broken)


def test_there_is_everything_that_the_path_of_a_request_needs() -> None:
    """Two Redis, Postgres, migrations, API, worker; nothing else."""
    assert set(SERVICES) == {*LASTING, "migrate"}


@pytest.mark.parametrize("name", LASTING)
def test_services_that_last_are_checked_and_started_again(name: str) -> None:
    """What should run all the time has a health check and a restart policy."""
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert SERVICES[name]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_is_open_to_the_network_and_no_secret_is_in_the_file(name: str) -> None:
    """Ports are published on the loopback address; passwords come from the environment."""
    ports = SERVICES[name].get("ports", [])
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
    environment = SERVICES[name].get("environment", {})
    secrets = {key: value for key, value in environment.items() if "PASSWORD" in key}
    assert [key for key, value in secrets.items() if not value.startswith("${POST")] == []
    urls = [urlsplit(value) for value in environment.values() if "://" in value]
    assert [url.hostname for url in urls if url.password] == []


def options_of(name: str) -> dict[str, str]:
    """The options of a Valkey."""
    command = SERVICES[name]["command"]
    return dict(zip(command[1::2], command[2::2], strict=True))


def test_the_ledger_is_kept_and_the_queue_is_not() -> None:
    """Each change of a balance is written down; a job that is lost is made again."""
    assert options_of("valkey")["--appendonly"] == "yes"
    assert "valkey:/data" in SERVICES["valkey"]["volumes"]
    assert options_of("queue")["--appendonly"] == "no"
    assert options_of("queue")["--save"] == ""
    assert SERVICES["queue"]["tmpfs"] == ["/data"]


@pytest.mark.parametrize("name", REDIS)
def test_nothing_is_evicted_and_memory_has_a_bound(name: str) -> None:
    """Redis refuses rather than to evict a balance or a job."""
    assert options_of(name)["--maxmemory-policy"] == "noeviction"
    assert options_of(name)["--maxmemory"].endswith("mb")


@pytest.mark.parametrize("name", OURS)
def test_services_start_after_their_dependencies(name: str) -> None:
    """Migrations wait for Postgres; the API and the worker wait for the migrations."""
    needs = {key: value["condition"] for key, value in SERVICES[name]["depends_on"].items()}
    healthy = {"postgres": "service_healthy"}
    if name != "migrate":
        healthy |= {"valkey": "service_healthy", "migrate": "service_completed_successfully"}
    if name == "worker":
        healthy |= {"queue": "service_healthy"}
    assert needs == healthy


@pytest.mark.parametrize("name", OURS)
def test_every_setting_is_one(name: str) -> None:
    """A variable that Faregate does not read would be a silent mistake."""
    known = {f"FAREGATE_{field}".upper() for field in Settings.model_fields}
    given = {key for key in SERVICES[name]["environment"] if key.startswith("FAREGATE_")}
    assert given - known == set()
    assert given


@dataclass(frozen=True, slots=True)
class Containers:
    """The services of ours, as processes on this machine."""

    #: The Python of an environment with what is in the image.
    python: Path
    folder: Path
    password: str
    #: Where each server is, and where the API is: by the address that it has among containers.
    addresses: Mapping[str, str]

    def here(self, text: str) -> str:
        """Return an argument or a variable with the addresses and the password of this machine."""
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
def valkey_of(name: str, program: Path) -> Iterator[str]:
    """A server with the options of a service, on a port of the loopback address."""
    port = str(free_port())
    options = SERVICES[name]["command"][1:]
    with own_redis(program, "--port", port, "--bind", "127.0.0.1", *options):
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


def readme_commands() -> list[list[str]]:
    """The commands of the README's block about Docker, each with the lines that must come."""
    text = (ROOT / "README.md").read_text("utf-8")
    blocks: list[str] = re.findall(r"^```console\n(.*?)^```", text, re.M | re.S)
    (block,) = (block for block in blocks if "docker compose up" in block)
    return [part.splitlines() for part in block.split("$ ")[1:]]


@pytest.fixture
def containers(binaries: Binaries, tmp_path: Path) -> Iterator[Containers]:
    """Empty servers as the file says, and an environment with what the image has."""
    wheel = built("wheel", tmp_path / "wheel")
    python = new_environment(wheel, tmp_path / "image", locked("requirements.txt"))
    (start, *_), *_ = readme_commands()
    (password,) = re.findall(r"^POSTGRES_PASSWORD=(\S+) docker compose up ", start)
    with (
        valkey_of("valkey", binaries.redis) as valkey,
        valkey_of("queue", binaries.redis) as queue,
        postgres_of(binaries.postgres, password) as postgres,
    ):
        port = str(free_port())
        addresses = {"valkey:6379": valkey, "queue:6379": queue, "postgres:5432": postgres}
        addresses |= {"8000": port, "0.0.0.0": "127.0.0.1"}  # noqa: S104
        (tmp_path / "work").mkdir()
        yield Containers(python, tmp_path / "work", password, addresses)


def test_the_readme_leads_from_nothing_to_a_charged_request(containers: Containers) -> None:
    """Each command of the file on empty servers, as in the image; then what the README shows."""
    _, (request, *expected), *looks = readme_commands()
    for _ in range(2):
        status, said = containers.run("migrate")
        assert status == 0, said
    with ending(containers.start("api")) as api, ending(containers.start("worker")) as worker:
        for name, process in (("api", api), ("worker", worker)):
            wait_for(partial(containers.is_healthy, name), f"{name} is healthy")
            assert process.poll() is None
        asked = ["bash", "-c", containers.here(request)]
        answer = subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=True)
        assert set(expected) <= set(answer.stdout.splitlines())
        history, reconcile = ([*shlex.split(look)[3:], *lines] for look, *lines in looks)
        name, *command = history
        wait_for(lambda: "deduct" in containers.run(name, *command)[1], "the row")
        name, *command, exact = reconcile
        status, said = containers.run(name, *command)
        assert (status, said.splitlines()[-1]) == (0, exact)
        for process in (api, worker):
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=WAIT_S_MAX)
            assert process.returncode in (0, -signal.SIGTERM)
    kinds = {name: kinds_of(containers.addresses[f"{name}:6379"]) for name in REDIS}
    assert kinds == {"valkey": {"fg"}, "queue": {"rq"}}


def kinds_of(address: str) -> set[str]:
    """What the keys of a server begin with."""
    with Redis.from_url(f"redis://{address}/0") as client:
        return {key.partition(b":")[0].decode() for key in client.scan_iter()}
