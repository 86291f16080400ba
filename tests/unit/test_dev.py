"""Parts of `faregate dev` that need no server: settings, ports, the folder, sources."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from commands import CommandLine
from faregate.cli.child import Program
from faregate.cli.commands.dev import settings_for
from faregate.cli.dev.folder import DevFolder
from faregate.cli.dev.processes import App, Worker, sources
from faregate.cli.servers.server import lock_of
from faregate.cli.sockets import LOOPBACK, listen
from faregate.domain.errors import EmbeddedServerError
from waiting import wait_for

URLS = ("unix:///run/valkey.sock", "postgresql:///postgres")


def test_production_is_refused_before_anything_is_made(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Wrong use, and no folder is there afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FAREGATE_ENVIRONMENT", "production")
    said = command_line.run("dev", "app:app")
    assert said.code == 2
    assert "production" in said.err
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_named_before_anything_is_made(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with listen(LOOPBACK, 0) as taken:
        port = taken.getsockname()[1]
        said = command_line.run("dev", "app:app", "--port", port)
        also = command_line.run("dev", "app:app", "--port", 0, "--page-port", port)
    assert said.code == also.code == 2
    assert f"cannot listen on 127.0.0.1 port {port}, which is in use" in said.err
    assert said.err.endswith("choose another port by --port\n")
    assert also.err.endswith("choose another port by --page-port\n")
    assert list(tmp_path.iterdir()) == []


def test_an_app_without_an_attribute_is_refused_before_anything_is_made(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It could never be loaded, whatever changes in the folder."""
    monkeypatch.chdir(tmp_path)
    said = command_line.run("dev", "app.py")
    assert said.code == 2
    assert "module:attribute" in said.err
    assert list(tmp_path.iterdir()) == []


def test_the_defaults_forgive_and_a_variable_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users are provisioned, decisions may take longer, and servers are always its own."""
    monkeypatch.delenv("FAREGATE_DECISION_TIMEOUT_MS", raising=False)
    monkeypatch.setenv("FAREGATE_REDIS_URL", "redis://elsewhere.test")
    settings = settings_for(*URLS)
    assert (settings.provision_users, settings.decision_timeout_ms) == (True, 5_000)
    assert (settings.redis_url, settings.postgres_url) == URLS
    monkeypatch.setenv("FAREGATE_PROVISION_USERS", "false")
    monkeypatch.setenv("FAREGATE_DECISION_TIMEOUT_MS", "70")
    settings = settings_for(*URLS)
    assert (settings.provision_users, settings.decision_timeout_ms) == (False, 70)


def test_only_the_owner_can_read_the_file_of_variables(tmp_path: Path) -> None:
    folder = DevFolder(tmp_path)
    folder.write_variables({"TOKEN": "first"})
    folder.write_variables({"TOKEN": "it's $HOME", "DEMO_USER": "u"})
    script = f'. {folder.variables}; echo "$TOKEN $DEMO_USER"'
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout == "it's $HOME u\n"
    folder.save_token("kept")
    assert folder.token.startswith("kept")
    for file in (folder.variables, tmp_path / "token"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_emptying_deletes_data_and_token_and_nothing_else(tmp_path: Path) -> None:
    """A folder that is named by mistake loses no file of its own."""
    folder = DevFolder(tmp_path)
    for name in ("redis", "postgres"):
        (tmp_path / name / "data").mkdir(parents=True)
    folder.save_token("t")
    (tmp_path / "letter.txt").touch()
    folder.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    assert folder.token == ""


def test_data_in_use_is_not_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "redis").mkdir()
    monkeypatch.setattr("faregate.cli.servers.server.LOCK_MS_MAX", 0)
    lock = lock_of(tmp_path / "redis")
    with pytest.raises(EmbeddedServerError, match="in use"):
        DevFolder(tmp_path).clear()
    assert (tmp_path / "redis").is_dir()
    os.close(lock)


def test_sources_are_those_of_the_app(tmp_path: Path) -> None:
    """Not what others have written, and not the data."""
    for name in ("app.py", "api/users.py", ".venv/x.py", "venv/x.py", ".faregate/x.py", "a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = {path.relative_to(tmp_path).as_posix() for path in sources(tmp_path)}
    assert found == {"app.py", "api/users.py"}


def program(module: str, log: Path | None) -> Program:
    """A program of one line, in the folder of its log."""
    return Program(
        name="it", module=module, environment={"PYTHONPATH": ":".join(sys.path)}, log=log
    )


def test_an_app_that_ended_is_reported_once_and_restarted_by_a_change(tmp_path: Path) -> None:
    said: list[str] = []
    log = tmp_path / "log"
    app = App(program("this", log), tmp_path, said.append)

    def looked(words: str) -> bool:
        app.check()
        return any(words in line for line in said)

    wait_for(lambda: looked("the app ended with status 0"), "its end is told")
    app.check()
    assert len(said) == 1
    (tmp_path / "more.py").touch()
    wait_for(lambda: looked("more.py has changed"), "the change is told")
    wait_for(lambda: log.read_text("utf-8").count("Zen of Python") == 2, "it ran twice")
    (tmp_path / "more.py").unlink()
    said.clear()
    wait_for(lambda: looked("more.py has changed"), "a file that is gone is a change")
    app.stop()


def test_a_worker_that_ends_each_time_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the end of its log; until then it is started again."""
    monkeypatch.setattr("faregate.cli.dev.processes.WORKER_RESTARTS_MAX", 2)
    said: list[str] = []
    worker = Worker(program("no_such_module", tmp_path / "log"), said.append)

    def is_given_up() -> bool:
        try:
            worker.check()
        except EmbeddedServerError as error:
            return "No module named no_such_module" in str(error)
        return False

    wait_for(is_given_up, "it is given up")
    assert len(said) == 2
