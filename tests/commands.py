"""Runs the command line in this process, and holds what it tells against its schema."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jsonschema
import pytest
import typer.main
from typer.core import TyperGroup

from faregate.cli import main
from faregate.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = json.loads((ROOT / "docs/commands.schema.json").read_text("utf-8"))


@dataclass(frozen=True, slots=True)
class Said:
    """What a command has said, and how it ended."""

    code: int
    out: str
    err: str


class CommandLine:
    """The command line."""

    def __init__(self, patch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[str]) -> None:
        self._patch = patch
        self._captured = captured
        # It is built once, not for each command: that takes longer than most commands do.
        patch.setattr("faregate.cli.app.app", _GROUP)

    def run(self, *words: object) -> Said:
        """Run a command, whatever comes of it."""
        self._patch.setattr(sys, "argv", ["faregate", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert isinstance(code, int)
        return Said(code, *self._captured.readouterr())

    def tell(self, *words: object, code: int = 0) -> Any:
        """Run a command for its JSON, which is as its schema has it."""
        said = self.run(*words, "--json")
        assert said.code == code, said
        told = json.loads(said.out)
        check(name_of(*map(str, words)), told)
        return told


def check(name: str, told: object) -> None:
    """Hold what a command told against its schema."""
    schema = {"$ref": f"#/$defs/{quote(name)}", "$defs": SCHEMA["$defs"]}
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(schema, format_checker=checker).validate(told)


def options_of(name: str) -> set[str]:
    """Return the options of a command, as they are typed."""
    return {option for given in COMMANDS[name].params for option in given.opts}


def name_of(*words: str) -> str:
    """Return the name of the command that some words begin with: that of its schema."""
    return max((name for name in COMMANDS if " ".join(words).startswith(name)), key=len)


def commands(group: TyperGroup, path: str = "") -> Iterator[tuple[str, Any]]:
    """Iterate over all commands and their names."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


_GROUP = typer.main.get_command(app)
assert isinstance(_GROUP, TyperGroup)
#: Every command by its name.
COMMANDS = dict(commands(_GROUP))
