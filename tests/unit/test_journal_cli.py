"""`faregate journal`: what it says, and by which code it exits."""

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from typer.testing import CliRunner

from faregate.adapters.journal.writer import SUFFIX, FileJournal
from faregate.cli.commands import journal as command
from faregate.domain.errors import ConfigurationError
from faregate.domain.journal import Collection
from faregate.ops.journal import JournalImport, JournalProblem
from faregate.ports import JournalFile
from journals import USER, entry, refund_of


def run(*arguments: str) -> tuple[int, str]:
    """Run `faregate journal`; raise what it raises."""
    result = CliRunner().invoke(command.journal, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a reader's settings."""
    monkeypatch.setenv("FAREGATE_JOURNAL_DIR", str(tmp_path))
    return tmp_path


def test_show_counts_the_entries(folder: Path) -> None:
    """Requests, voids, changes, and what cannot be read; nothing is changed by looking."""
    journal = FileJournal(folder, bytes_max=10_000)
    for line in (entry(1), entry(2), refund_of(entry(2)), entry(3, is_served=False)):
        journal.write(line)
    journal.close()
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes() + b"damaged\n")
    status, said = run("show", "--json")
    assert status == 0
    (row,) = json.loads(said)
    counts = [row[name] for name in ("requests", "voids", "changes", "unreadable")]
    assert (row["file"], row["bytes"], counts) == (str(path), path.stat().st_size, [2, 1, 1, 1])
    shown = run("show", str(path))[1].split()
    assert shown[-5:] == [f"{path.stat().st_size:,}", "2", "1", "1", "1"]
    assert path.exists()


def test_show_says_that_there_is_nothing(folder: Path) -> None:
    """An empty folder is no error."""
    assert run("show") == (0, "nothing found\n")
    assert run("show", "--json") == (0, "[]\n")
    assert folder.exists()


def test_a_place_must_be_named(tmp_path: Path) -> None:
    """By an argument or by the settings, and it must be one of journals."""
    with pytest.raises(ConfigurationError, match="FAREGATE_JOURNAL_DIR"):
        run("show")
    with pytest.raises(ConfigurationError, match="no journal at"):
        run("import", str(tmp_path / f"none{SUFFIX}"))


@pytest.mark.parametrize("as_json", [True, False])
def test_an_import_prints_its_result(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, as_json: bool
) -> None:
    """Exit 1 where a line is left over that somebody must look at."""
    result = JournalImport(charged=4, shortfall=2, files_done=["a"], files_left=["b"])
    result.outcomes.update({Collection.COLLECTED: 3, Collection.UNKNOWN_USER: 1})

    def imported(*_: object) -> JournalImport:
        return result

    def opened(paths: list[Path]) -> AbstractContextManager[list[JournalFile]]:
        assert paths == [folder]
        return nullcontext([])

    monkeypatch.setattr(command, "ask", imported)
    monkeypatch.setattr(command, "open_journals", opened)
    options = ["--json"] if as_json else []
    assert run("import", *options)[0] == 0
    problem = JournalProblem(file="a", line=7, detail="no such user", user_id=USER, cost=1)
    result.problems.append(problem)
    status, said = run("import", *options)
    assert status == 1
    if as_json:
        report = json.loads(said)
        assert (report["collected"], report["credits_taken"], report["credits_short"]) == (3, 4, 2)
        assert report["problems"][0]["user_id"] == str(USER)
        assert (report["files_done"], report["files_left"]) == (["a"], ["b"])
    else:
        assert "a line 7: no such user" in said
        assert "import again later: b" in said
