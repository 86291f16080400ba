"""deploy/kubernetes and deploy/systemd: they parse, agree with each other, and name what exists."""

import configparser
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from uvicorn.main import main as uvicorn

from faregate.adapters.postgres.archive import _BOUNDS
from faregate.cli.app import app as commands
from faregate.config import PREFIX, Settings
from faregate.domain.policy import GateOptions

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
OBJECTS: list[dict[str, Any]] = [
    one
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for one in yaml.safe_load_all(path.read_text("utf-8"))
]
#: Kinds, each with the version of the API that has it.
VERSIONS = {
    "Job": "batch/v1",
    "Deployment": "apps/v1",
    "Service": "v1",
    "PodDisruptionBudget": "policy/v1",
}
PODS = {
    one["metadata"]["name"]: one["spec"]["template"] for one in OBJECTS if "template" in one["spec"]
}
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
API, WORKER = "myapp", "faregate-worker"
#: From which file or secret each program takes the URLs that it needs, and no other.
URLS = {
    "faregate-migrate": {"POSTGRES_URL": "faregate-owner"},
    API: {"REDIS_URL": "faregate-api", "POSTGRES_URL": "faregate-api"},
    WORKER: {
        "REDIS_URL": "faregate-worker",
        "QUEUE_URL": "faregate-worker",
        "POSTGRES_URL": "faregate-worker",
    },
}


def container(name: str) -> dict[str, Any]:
    (found,) = PODS[name]["spec"]["containers"]
    return dict(found)


def unit(path: Path) -> dict[str, str]:
    """The settings of a service."""
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text("utf-8"))
    assert {"Unit", "Service", "Install"} == set(parser.sections())
    return dict(parser["Service"])


def programs() -> Iterator[tuple[str, list[str]]]:
    """Every command that is run, with the name of its place."""
    for name in PODS:
        yield name, container(name)["command"]
        for probe in ("readinessProbe", "livenessProbe"):
            if "exec" in (found := container(name).get(probe, {})):
                yield f"{name} {probe}", found["exec"]["command"]
    for path in UNITS:
        program, *words = shlex.split(unit(path)["ExecStart"])
        yield path.name, [Path(program).name, *words]


def seconds_after(option: str, words: list[str]) -> int:
    """The value of an option of uvicorn."""
    joined = " ".join(words).replace("=", " ").split()
    return int(joined[joined.index(option) + 1])


def test_kinds_and_names_equal_those_of_the_api() -> None:
    """Each object has a kind that exists in that version, and a name of its own in its kind."""
    assert [(one["kind"], one["apiVersion"]) for one in OBJECTS] == [
        (one["kind"], VERSIONS[one["kind"]]) for one in OBJECTS
    ]
    names = [(one["kind"], one["metadata"]["name"]) for one in OBJECTS]
    assert len(names) == len(set(names))
    assert set(PODS) == set(URLS)


def test_selectors_choose_the_pods_that_they_mean() -> None:
    """Of a deployment its own pods, and of the service and the budget those of the API."""
    for one in OBJECTS:
        spec = one["spec"]
        chosen = spec.get("selector", {})
        chosen = chosen.get("matchLabels", chosen)
        found = [
            name
            for name, pod in PODS.items()
            if chosen and chosen.items() <= pod["metadata"]["labels"].items()
        ]
        expected = [] if one["kind"] == "Job" else [one["metadata"]["name"]]
        assert found == expected, one["kind"]
        for port in spec.get("ports", ()):
            assert port["targetPort"] in {p["name"] for p in container(API)["ports"]}


@pytest.mark.parametrize(("place", "command"), list(programs()), ids=[n for n, _ in programs()])
def test_every_command_and_option_exists(place: str, command: list[str]) -> None:
    """The parser of each program takes its options and values."""
    program, *words = command
    if program == "faregate":
        name, *words = words
        typer.main.get_group(commands).commands[name].make_context(name, words)
    elif program == "uvicorn":
        uvicorn.make_context(program, words)
    else:
        assert command == ["python", "-m", "faregate_worker", "--check"], place


@pytest.mark.parametrize("name", PODS)
def test_every_variable_is_a_setting_and_each_password_is_of_a_secret(name: str) -> None:
    """With values that the settings take; and a program has the URLs of its role alone."""
    given = {
        one["name"].removeprefix(PREFIX).lower(): one.get("value") for one in container(name)["env"]
    }
    urls = {
        one["name"].removeprefix(PREFIX): one["valueFrom"]["secretKeyRef"]
        for one in container(name)["env"]
        if "valueFrom" in one
    }
    assert given.keys() <= Settings.model_fields.keys()
    Settings(**{key: value for key, value in given.items() if value is not None})
    assert given["environment"] == "production"
    assert {key: ref["name"] for key, ref in urls.items()} == URLS[name]
    assert {key: ref["key"] for key, ref in urls.items()} == {
        key: key.lower().replace("_", "-") for key in URLS[name]
    }


@pytest.mark.parametrize("name", PODS)
def test_pods_have_no_rights_that_they_do_not_need(name: str) -> None:
    """As the restricted Pod Security Standard asks, on a root that is only read, within bounds."""
    pod, of_container = PODS[name]["spec"], container(name)["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert of_container == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} == container(name)["resources"]["requests"].keys()
    assert "memory" in container(name)["resources"]["limits"]


def test_each_process_has_the_time_that_its_end_may_take() -> None:
    """An API its requests and the close of its gate; a worker the longest statement of a batch."""
    (_, sleep_s) = container(API)["lifecycle"]["preStop"]["exec"]["command"]
    requests_s = seconds_after("--timeout-graceful-shutdown", container(API)["command"])
    close_s = GateOptions().close_timeout_s
    batch_s = _BOUNDS.statement_ms_max / 1000
    assert PODS[API]["spec"]["terminationGracePeriodSeconds"] >= int(sleep_s) + requests_s + close_s
    assert PODS[WORKER]["spec"]["terminationGracePeriodSeconds"] > batch_s
    units = {path.stem: unit(path) for path in UNITS}
    requests_s = seconds_after("--timeout-graceful-shutdown", shlex.split(units[API]["ExecStart"]))
    assert int(units[API]["TimeoutStopSec"]) >= requests_s + close_s
    assert int(units[WORKER]["TimeoutStopSec"]) > batch_s


def test_the_path_of_the_probes_is_exempt_in_the_app_of_the_tutorial() -> None:
    """So they need no identity, and cost nothing."""
    probes = [container(API)[f"{name}Probe"] for name in ("startup", "readiness", "liveness")]
    (path,) = {probe["httpGet"]["path"] for probe in probes}
    assert f'exempt("{path}")' in (ROOT / "docs/tutorial.md").read_text("utf-8")


@pytest.mark.parametrize("path", UNITS, ids=lambda path: str(path.name))
def test_units_are_started_again_and_read_their_passwords_from_a_file(path: Path) -> None:
    """Which belongs to one program; nothing else of the system is to be written."""
    found = unit(path)
    assert found["Restart"] == "always"
    assert found["EnvironmentFile"].startswith("/etc/faregate/")
    assert "Environment" not in found
    assert found["ProtectSystem"] == "strict"
    assert Path(found["ExecStart"].split()[0]).parent == Path("/opt/myapp/bin")
