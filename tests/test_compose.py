"""docker-compose.yml: valid, safe by default, and every command of ours in it runs for real."""

import json
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from importlib.metadata import distribution
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from jsonschema import Draft202012Validator
from redis import Redis

from compose_rig import (
    COMPOSE,
    NODES,
    ROOT,
    SERVICES,
    Containers,
    ending,
    options_of,
    postgres_of,
    valkey_of,
)
from faregate.cli.servers import Binaries
from faregate.config import Settings
from installed import built, locked, new_environment
from waiting import WAIT_S_MAX, wait_for
from wire_client import free_port

OURS = ["migrate", "api", "worker"]
#: The servers of the default profile, with keys in them.
SERVERS = ["valkey", "queue"]
REDIS = [*SERVERS, *NODES]
LASTING = [*REDIS, "postgres", "api", "worker"]
#: What runs once.
ONCE = ["migrate", "cluster-create"]


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
    """Two Redis, Postgres, migrations, API, worker; the nodes of a cluster if asked for."""
    assert set(SERVICES) == {*LASTING, *ONCE}
    profiles = {name: SERVICES[name].get("profiles", []) for name in SERVICES}
    asked_for = {name for name, chosen in profiles.items() if chosen == ["cluster"]}
    assert asked_for == {*NODES, "cluster-create"}
    assert all(not chosen for name, chosen in profiles.items() if name not in asked_for)


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
        healthy |= {"cluster-create": "service_completed_successfully"}
        assert SERVICES[name]["depends_on"]["cluster-create"]["required"] is False
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
    kinds = {name: kinds_of(containers.addresses[f"{name}:6379"]) for name in SERVERS}
    assert kinds == {"valkey": {"fg"}, "queue": {"rq"}}


def kinds_of(address: str) -> set[str]:
    """What the keys of a server begin with."""
    with Redis.from_url(f"redis://{address}/0") as client:
        return {key.partition(b":")[0].decode() for key in client.scan_iter()}
