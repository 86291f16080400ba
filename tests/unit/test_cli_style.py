"""The one style of all commands: help with an example, schemas, version, completion, tables."""

import shlex
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from jsonschema import Draft202012Validator
from rich.console import Console

from commands import COMMANDS, SCHEMA, CommandLine, options_of
from faregate.cli import conventions
from faregate.cli.conventions import print_tables, show_verdict

#: What prints lines of JSON by itself.
LINES = {"export", "users export"}


def test_there_are_commands() -> None:
    """A walk that finds nothing would make all of this pass."""
    assert {"migrate", "users show", "keys create"} < set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_an_example_that_it_takes(command_line: CommandLine, name: str) -> None:
    """It names the command, and no option that there is not."""
    said = command_line.run(*name.split(), "--help")
    assert said.code == 0
    shown = " ".join(said.out.split())
    _, _, example = shown.partition("Example: faregate ")
    assert example.startswith(name), shown
    text = COMMANDS[name].help.partition("Example: faregate ")[2]
    words = shlex.split(text.partition("|")[0].partition(">")[0])
    given = {word for word in words if word.startswith("--")}
    assert given <= options_of(name)


def test_every_command_that_prints_json_has_a_schema() -> None:
    """And each schema is that of a command, or is named with an underscore."""
    Draft202012Validator.check_schema(SCHEMA)
    with_json = {name for name in COMMANDS if "--json" in options_of(name)}
    assert {name for name in SCHEMA["$defs"] if name[0] != "_"} == with_json | LINES


def test_the_version_is_printed(command_line: CommandLine) -> None:
    assert command_line.run("--version").out.startswith("faregate 0.")


def test_a_shell_completes_commands_and_options(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what `--show-completion` prints for it."""
    monkeypatch.setenv("_FAREGATE_COMPLETE", "complete_bash")
    for typed, offered in (("faregate us", "users"), ("faregate grant --ac", "--actor")):
        monkeypatch.setenv("COMP_WORDS", typed)
        monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
        assert offered in command_line.run().out.split()


def test_an_unknown_command_or_option_is_wrong_use(command_line: CommandLine) -> None:
    for words in (["nothing"], ["balance"], ["grant", "--nothing"], ["balance", "no-id"]):
        assert command_line.run(*words).code == 2


def test_tables_align_numbers_and_show_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers to the right, with their thousands; times to the second; nothing is `-`."""
    time = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    print_tables(
        {
            "name": "a",
            "none": None,
            "items": [
                {"credits": 5, "at": time, "is_open": True},
                {"credits": 12_345, "at": None, "is_open": False},
            ],
            "others": [],
        }
    )
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert [line.split() for line in lines[:2]] == [["name", "a"], ["none", "-"]]
    first, second = (line for line in lines if line.endswith(("yes", "no")) and "-" in line)
    assert first == "5   2026-01-02 03:04:05   yes"
    assert second == "12,345   -                     no"
    assert lines[-1] == "no others"


def test_ids_stay_whole_in_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row is shown upright, so that an id can be copied."""
    monkeypatch.setattr(conventions, "_console", lambda: Console(width=60))
    ids = [uuid4(), uuid4()]
    print_tables([{"id": one, "refund_of": one, "credits": 5} for one in ids], "rows")
    shown = capsys.readouterr().out
    assert [shown.count(str(one)) for one in ids] == [2, 2]
    assert shown.count("rows") == 1


def test_texts_of_users_do_not_control_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Descriptions and names come from outside: escapes are shown, and markup is text."""
    print_tables([{"description": "\x1b[2Jgone [red]x[/red]\nnew"}])
    said = capsys.readouterr().out
    assert "\\x1b[2Jgone [red]x[/red]\\nnew" in said
    assert "\x1b" not in said


@pytest.mark.parametrize("is_exact", [True, False])
def test_a_verdict_is_read_with_and_without_colour(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, is_exact: bool
) -> None:
    """The words alone tell it; a terminal has them in colour, too."""
    words = "exact" if is_exact else "not exact"
    show_verdict(is_exact, ", except for [2] dead letters")
    assert capsys.readouterr().out == f"{words}, except for [2] dead letters\n"
    monkeypatch.setenv("FORCE_COLOR", "1")
    show_verdict(is_exact)
    assert ("[1;32mexact" if is_exact else "[1;31mnot exact") in capsys.readouterr().out
