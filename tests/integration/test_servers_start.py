"""The embedded servers start as any user, from any directory, or say why they cannot."""

import importlib.util
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from faregate.cli.servers import Binaries, EmbeddedServers
from faregate.domain.errors import ConfigurationError, EmbeddedServerError
from owner_process import NOTE, read_note, write_note

OWNER = Path(__file__).parents[1] / "owner_process.py"
NORMAL_USER = 65534
CHILD_S_MAX = 120

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="shows what holds for root")


def modes(path: Path) -> list[tuple[Path, int, int]]:
    """The mode and the owner of a directory and of all above it."""
    found = [(each, each.stat()) for each in (path, *path.parents)]
    return [(each, stat.S_IMODE(status.st_mode), status.st_uid) for each, status in found]


def child_environment(python: Path) -> dict[str, str]:
    """What another Python needs to import what this one does, and no stray settings."""
    return {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        # A copied Python would look for its library where the original one lies.
        "LD_LIBRARY_PATH": str(python.parents[1] / "lib"),
    }


def can_import(python: Path, uid: int) -> bool:
    """Whether the user can run this Python and import Faregate with it."""
    try:
        tried = subprocess.run(
            [python, "-c", "import faregate.cli.servers, psycopg, redis"],
            user=uid,
            group=uid,
            extra_groups=[],
            env=child_environment(python),
            cwd="/",
            capture_output=True,
            check=False,
            timeout=CHILD_S_MAX,
        )
    except OSError:
        return False
    return tried.returncode == 0


def reachable_python(uid: int, directory: Path) -> Path | None:
    """This Python, or a copy of it in `directory` if it lies where the user cannot reach it."""
    if can_import(Path(sys.executable), uid):
        return Path(sys.executable)
    base = Path(sys.base_prefix)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    unused = shutil.ignore_patterns("site-packages", "test", "tests", "config-*", "idlelib")
    shutil.copytree(base / "lib" / version, directory / "lib" / version, ignore=unused)
    for library in (base / "lib").glob("libpython*.so*"):
        shutil.copy2(library, directory / "lib")
    (directory / "bin").mkdir()
    copy = Path(shutil.copy2(base / "bin" / version, directory / "bin"))
    return copy if can_import(copy, uid) else None


def exercise(binaries: Binaries, python: Path, uid: int | None) -> dict[str, object]:
    """Have a child process own servers, kill and restart them; return what it found."""
    wish = {
        "redis": str(binaries.redis),
        "postgres": str(binaries.postgres),
        "task": "exercise",
    }
    done = subprocess.run(
        [python, OWNER, json.dumps(wish)],
        user=uid,
        group=uid,
        extra_groups=None if uid is None else [],
        env=child_environment(python),
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=CHILD_S_MAX,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.long
def test_a_normal_user_owns_kills_and_restarts_servers(
    binaries: Binaries, open_directory: Path
) -> None:
    """Everything works without any privilege; all of it belongs to that user."""
    uid = NORMAL_USER if os.geteuid() == 0 else None
    python = Path(sys.executable) if uid is None else reachable_python(uid, open_directory)
    if python is None:
        pytest.skip("root alone can reach this checkout or its environment")
    found = exercise(binaries, python, uid)
    assert found["uid"] == (os.geteuid() if uid is None else uid) != 0
    assert found["postgres_uid"] == found["uid"]
    assert found["restarted"] == ["redis", "postgres"]
    assert found["note"] == [NOTE, NOTE]
    assert not Path(str(found["directory"])).exists()


@pytest.mark.long
@as_root
def test_root_owns_servers_while_postgres_runs_as_another_user(binaries: Binaries) -> None:
    """Postgres refuses root; the account it gets instead owns its data and the sockets."""
    found = exercise(binaries, Path(sys.executable), None)
    assert found["uid"] == 0
    assert found["postgres_uid"] != 0
    assert found["restarted"] == ["redis", "postgres"]
    assert found["note"] == [NOTE, NOTE]


def test_no_directory_that_existed_changes_its_mode_or_its_owner(
    binaries: Binaries, open_directory: Path
) -> None:
    """Neither the chosen directory nor any above it is opened up for the servers."""
    before = modes(open_directory)
    with EmbeddedServers(open_directory, binaries=binaries, durable=False):
        assert modes(open_directory) == before
    assert modes(open_directory) == before


@as_root
def test_a_directory_that_postgres_account_cannot_reach_is_refused_as_it_is(
    binaries: Binaries, open_directory: Path
) -> None:
    """Root's private directory stays private, and the error says who cannot reach what."""
    private = open_directory / "private"
    private.mkdir(mode=0o700)
    before = modes(private)
    chosen = private / "data"
    with pytest.raises(EmbeddedServerError, match=rf"cannot reach {chosen}/postgres: choose"):
        EmbeddedServers(chosen, binaries=binaries).start()
    assert modes(private) == before


@pytest.mark.long
@as_root
def test_programs_that_postgres_account_cannot_reach_are_copied(open_directory: Path) -> None:
    """An environment below root's home works; nothing above the programs is opened up."""
    wheels = Binaries.from_wheels()
    private = open_directory / "private"
    private.mkdir(mode=0o700)
    package = wheels.postgres.parents[1]
    for tree in (package, package.with_name(f"{package.name}.libs")):
        if tree.is_dir():
            shutil.copytree(tree, private / tree.name, symlinks=True)
    before = modes(private)
    hidden = Binaries(
        redis=wheels.redis,
        postgres=private / package.name / wheels.postgres.relative_to(package),
    )
    with EmbeddedServers(binaries=hidden, durable=False) as servers:
        write_note(servers)
        running = Path(f"/proc/{servers.postgres.pid}/exe").readlink()
        assert running.is_relative_to(servers.directory)
        assert read_note(servers) == (NOTE, NOTE)
    assert modes(private) == before


def test_a_directory_too_deep_for_a_socket_gets_its_sockets_elsewhere(
    binaries: Binaries, open_directory: Path
) -> None:
    """A long path costs nothing: the sockets are in a short directory, deleted at the end."""
    deep = open_directory / ("d" * 60) / ("e" * 60)
    with EmbeddedServers(deep, binaries=binaries, durable=False) as servers:
        write_note(servers)
        sockets = Path(servers.redis_url.removeprefix("unix://")).parent
        assert not sockets.is_relative_to(deep)
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert not sockets.exists()
    with EmbeddedServers(deep, binaries=binaries, durable=False) as servers:
        assert read_note(servers) == (NOTE, NOTE)


def test_the_environment_of_the_owner_does_not_reach_the_servers(
    binaries: Binaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A developer's own PGDATA, PGPORT or language changes nothing."""
    stray = {"PGDATA": "/nowhere", "PGPORT": "1", "LC_ALL": "xx_XX.UTF-8", "TZ": "Asia/Tokyo"}
    for name, value in stray.items():
        monkeypatch.setenv(name, value)
    with (
        EmbeddedServers(binaries=binaries, durable=False) as servers,
        psycopg.connect(servers.postgres_url) as connection,
    ):
        shown = connection.execute(
            "SELECT current_setting('port'), current_setting('log_timezone')"
        ).fetchone()
    assert shown == ("5432", "UTC")


def test_a_missing_wheel_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the extra, the error tells how to get it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'faregate\[embedded\]'"):
        EmbeddedServers()


@pytest.mark.parametrize("fault", ["redis_missing", "redis_ends", "initdb_fails"])
def test_a_failed_start_says_why_and_leaves_nothing(
    binaries: Binaries, open_directory: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The error carries the program's own words, and no server or directory stays."""
    monkeypatch.setattr("faregate.cli.servers.places._short_directory", lambda: str(open_directory))
    broken = open_directory / "bin"
    broken.mkdir()
    for name in ("redis-server", "initdb", "postgres"):
        (broken / name).write_text("#!/bin/sh\necho out of cheese\nexit 3\n", encoding="utf-8")
        (broken / name).chmod(0o755)
    chosen, message = {
        "redis_missing": (Binaries(redis=broken / "no", postgres=binaries.postgres), "No such"),
        "redis_ends": (
            Binaries(redis=broken / "redis-server", postgres=binaries.postgres),
            r"status 3; [\s\S]*out of cheese",
        ),
        "initdb_fails": (Binaries(redis=binaries.redis, postgres=broken), "out of cheese"),
    }[fault]
    with pytest.raises(EmbeddedServerError, match=message):
        EmbeddedServers(binaries=chosen).start()
    assert list(open_directory.iterdir()) == [broken]
