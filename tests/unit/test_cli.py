"""The command line's exit codes: 1 means "not exact", and nothing else does."""

import importlib.util
import sys
from collections.abc import Callable

import pytest

from faregate.cli import conventions, main
from faregate.cli.commands import checks
from faregate.domain.errors import ArchiveUnavailableError, ConfigurationError

Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command line in this process; returns the exit code."""

    def run_it(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["faregate", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        assert isinstance(caught.value.code, int)
        return caught.value.code

    return run_it


def test_without_the_extra_of_the_command_line_one_line_says_how_to_install_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "faregate.cli.app", raising=False)
    monkeypatch.setitem(sys.modules, "typer", None)
    assert run("--help") == 2
    said = capsys.readouterr().err
    assert said == "faregate: typer is not installed: pip install 'faregate[cli]'\n"


def test_a_worker_without_its_extra_is_told_how_to_install_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert run("worker") == 2
    said = capsys.readouterr().err
    assert said == "faregate: rq is not installed: pip install 'faregate[worker]'\n"


def test_a_url_without_a_readable_port_is_wrong_use(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line names the setting and the form, and repeats no part of what may be a password."""
    monkeypatch.setenv("FAREGATE_REDIS_URL", "redis://:sec/ret@127.0.0.1:6379/0")
    assert run("reconcile") == 2
    said = capsys.readouterr().err
    assert said.startswith("faregate: FAREGATE_REDIS_URL: ")
    assert "redis://host:port/number" in said
    assert "sec" not in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("error", "code", "has_traceback"),
    [
        (RuntimeError("unforeseen"), 3, True),
        (ArchiveUnavailableError("unforeseen"), 3, False),
        (ConfigurationError("unforeseen"), 2, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_error_is_never_reported_as_an_inexact_ledger(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    error: Exception,
    code: int,
    has_traceback: bool,
) -> None:
    """What is unforeseen comes with a traceback, since that is a bug; the rest is one line."""

    def fail() -> None:
        raise error

    monkeypatch.setattr(checks, "read_settings", fail)
    assert run("verify") == code
    said = capsys.readouterr().err
    assert "unforeseen" in said
    assert ("Traceback" in said) == has_traceback


def test_dead_letters_of_an_exact_ledger_are_reported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What waits for an operator is in no row, though the sums agree."""
    checks._print_findings({"dead_letters": 2}, [], [], as_json=False)
    assert "exact, except for 2 dead letters" in capsys.readouterr().out
    checks._print_findings({"dead_letters": 0}, [], [], as_json=False)
    assert capsys.readouterr().out.splitlines()[-1] == "exact"


def test_a_digest_is_printed_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is to be kept, and a terminal may be narrow."""
    monkeypatch.setattr(conventions, "_WIDTH_OF_FILES", 40)
    checks._print_findings({"dead_letters": 0, "digest": "e3" * 32}, [], [], as_json=False)
    assert "e3" * 32 in "".join(capsys.readouterr().out.split())
