"""docker-compose.yml: valid, safe by default, and every command of ours in it runs for real."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from importlib.metadata import distribution
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import yaml
from jsonschema import Draft202012Validator

from faregate.config import Settings

ROOT = Path(__file__).resolve().parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ["migrate", "api", "worker"]
LASTING = ["valkey", "postgres", "api", "worker"]
COMMAND_S_MAX = 120
HEALTHY_S_MAX = 120
STOP_S_MAX = 120
SERVED_S_MAX = 120
POLL_S = 0.1

#: What the image's entry point runs.
FAREGATE = [sys.executable, "-c", "import sys; from faregate.cli import main; sys.exit(main())"]


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
    """Redis, Postgres, migrations, API, worker; nothing else."""
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


def test_the_ledger_is_kept_and_never_evicted() -> None:
    """Redis is told to write every change down and to refuse rather than evict."""
    command = SERVICES["valkey"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    assert "valkey:/data" in SERVICES["valkey"]["volumes"]


@pytest.mark.parametrize("name", OURS)
def test_our_services_start_after_what_they_need(name: str) -> None:
    """Migrations wait for Postgres; the API and the worker wait for the migrations."""
    needs = {key: value["condition"] for key, value in SERVICES[name]["depends_on"].items()}
    healthy = {"postgres": "service_healthy"}
    if name != "migrate":
        healthy |= {"valkey": "service_healthy", "migrate": "service_completed_successfully"}
    assert needs == healthy


@pytest.mark.parametrize("name", OURS)
def test_every_setting_is_one(name: str) -> None:
    """A variable that Faregate does not read would be a silent mistake."""
    known = {f"FAREGATE_{field}".upper() for field in Settings.model_fields}
    given = {key for key in SERVICES[name]["environment"] if key.startswith("FAREGATE_")}
    assert given - known == set()
    assert given


def environment(name: str, redis_url: str, postgres_url: str) -> dict[str, str]:
    """A service's environment, with the servers of this session in place of the containers."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    urls = {
        "FAREGATE_REDIS_URL": redis_url,
        "FAREGATE_QUEUE_URL": redis_url,
        "FAREGATE_POSTGRES_URL": postgres_url,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "worker")]),
    }
    given: dict[str, str] = SERVICES[name]["environment"]
    return kept | given | urls


@pytest.mark.parametrize("name", OURS)
def test_every_command_and_option_exists(name: str) -> None:
    """The command line knows the command of each service with its options."""
    command = [*FAREGATE, *SERVICES[name]["command"], "--help"]
    done = subprocess.run(
        command,
        env=environment(name, "redis://127.0.0.1:1", "postgresql://127.0.0.1:1/none"),
        timeout=COMMAND_S_MAX,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "usage" in done.stdout.lower()


@contextmanager
def running(command: list[str], env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is stopped at the end, by its id, however the test went."""
    process = subprocess.Popen(command, env=env)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(STOP_S_MAX)


def healthy(
    process: subprocess.Popen[bytes], name: str, here: Callable[[str], str], env: dict[str, str]
) -> bool:
    """Whether a service's health check succeeds within the bound, while the service runs."""
    program, *arguments = SERVICES[name]["healthcheck"]["test"][1:]
    assert program == "python"
    command = [sys.executable, *map(here, arguments)]
    deadline = time.monotonic() + HEALTHY_S_MAX
    while process.poll() is None and time.monotonic() < deadline:
        done = subprocess.run(
            command, env=env, capture_output=True, check=False, timeout=COMMAND_S_MAX
        )
        if done.returncode == 0:
            return True
        time.sleep(POLL_S)
    return False


def served(process: subprocess.Popen[bytes], port: str) -> bool:
    """Whether somebody new, as in the README, gets a 200; a busy machine may need some tries."""
    deadline = time.monotonic() + SERVED_S_MAX
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=SERVED_S_MAX)
        connection.request("GET", "/", headers={"authorization": f"Bearer {uuid4()}"})
        response = connection.getresponse()
        body = response.read()
        connection.close()
        if response.status != HTTPStatus.SERVICE_UNAVAILABLE:
            assert response.status == HTTPStatus.OK, body
            return True
    return False


@pytest.mark.redis
@pytest.mark.postgres
def test_the_migrations_run_on_an_empty_database(
    ledger_redis: str, empty_database_url: str
) -> None:
    """The one-shot service succeeds on a new database, and again on a migrated one."""
    env = environment("migrate", ledger_redis, empty_database_url)
    for _ in range(2):
        command = [*FAREGATE, *SERVICES["migrate"]["command"]]
        done = subprocess.run(
            command, env=env, capture_output=True, check=False, timeout=COMMAND_S_MAX
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.redis
@pytest.mark.postgres
@pytest.mark.parametrize("name", ["api", "worker"])
def test_services_become_healthy_and_stop_cleanly(
    name: str, ledger_redis: str, database_url: str
) -> None:
    """The command runs, its health check succeeds, and it stops when Docker would ask it to."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])

    def here(argument: str) -> str:
        return argument.replace("8000", port).replace("0.0.0.0", "127.0.0.1")  # noqa: S104

    env = environment(name, ledger_redis, database_url)
    command = [*FAREGATE, *map(here, SERVICES[name]["command"])]
    with running(command, env) as process:
        assert healthy(process, name, here, env)
        if name == "api":
            assert served(process, port)
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_S_MAX) in (0, -signal.SIGTERM)
