"""docs/tutorial.md, followed word by word: each change and each command, under `faregate dev`."""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from e2e.dev_rig import Dev, Shell, wait_until_gone
from waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/tutorial.md"
#: The app at the end of the page.
WHOLE = re.compile(r'^```python title="app.py"\n(.*?)^```', re.M | re.S)
BLOCK = re.compile(r'^```(console|diff title="([\w.]+)")\n(.*?)^```', re.M | re.S)
SHOWN_PORT = "http://127.0.0.1:8000"
#: What looks at rows, which appear a little later.
LOOKS = ("faregate history", "faregate usage", "faregate reconcile")


@pytest.fixture
def shell(open_directory: Path) -> Shell:
    """A shell in a new folder, which the account of Postgres may pass, with pytest."""
    shell = Shell(open_directory)
    program = open_directory / "bin/pytest"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pytest "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    # It is here because of another package, and takes seconds.
    shell.environment["PYTEST_ADDOPTS"] = "-p no:faker"
    return shell


def commands(block: str) -> Iterator[tuple[str, Sequence[str]]]:
    """The commands of a block, each with the lines that must come."""
    for part in block.split("$ ")[1:] if block.startswith("$ ") else ():
        command, *expected = part.splitlines()
        yield command, expected


def changed(text: str, diff: str) -> str:
    """Make a change. Its old lines must be there, exactly once."""
    lines = diff.splitlines()
    old = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("+"))
    new = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("-"))
    assert text.count(old) == 1, old
    return text.replace(old, new)


class Reader:
    """Does in the second terminal what the page says."""

    def __init__(self, shell: Shell, dev: Dev) -> None:
        """Read beside a `faregate dev` that runs."""
        self._shell = shell
        self._dev = dev
        self._starts = 1
        self._exports = ". .faregate/env"

    def change(self, name: str, diffs: Sequence[str]) -> None:
        """Make changes of a file at once, as saved once; an app is then started again."""
        file = self._shell.folder / name
        text = file.read_text("utf-8")
        for diff in diffs:
            text = changed(text, diff)
        file.write_text(text, encoding="utf-8")
        self._starts += 1
        self._dev.wait_for_line("Application startup complete", count=self._starts)

    def run(self, command: str, expected: Sequence[str]) -> None:
        """Run a command, and find each line that it must print."""
        here = command.replace(SHOWN_PORT, self._dev.app_url)
        if here.startswith("export "):
            name, _, value = here.removeprefix("export ").partition("=")
            said = self._shell.run(f"{self._exports}; printf %s {value}")
            self._exports += f"; {name}={said}"
        elif here.startswith(LOOKS):
            wait_for(lambda: self._shows(here, expected), command)
        else:
            assert self._shows(here, expected), command

    def _shows(self, command: str, expected: Sequence[str]) -> bool:
        said = self._shell.run(f"{self._exports}; {command}").replace("\r", "").splitlines()
        return all(any(line.startswith(start) for line in said) for start in expected)


def steps() -> Iterator[tuple[str, list[str]]]:
    """The blocks of the page in their order: changes of one file that follow each other, as one."""
    name, texts = "", list[str]()
    for kind, file, text in BLOCK.findall(PAGE.read_text("utf-8")):
        if name and file != name:
            yield name, texts
            name, texts = "", []
        if kind == "console":
            yield "", [text]
        else:
            name, texts = file, [*texts, text]


@pytest.mark.long
def test_the_tutorial_leads_where_it_says(shell: Shell) -> None:
    """Each step serves what is shown, and the last app is the one at the end of the page."""
    (_, (first,)), *rest = steps()
    (install, _), (init, _), (enter, _), (dev_command, _) = commands(first)
    assert install.startswith("pip install ")
    shell.run(init)
    shell.folder /= enter.removeprefix("cd ")
    with Dev(shell, dev_command) as dev:
        dev.wait_for_line("Application startup complete")
        reader = Reader(shell, dev)
        for name, texts in rest:
            if name:
                reader.change(name, texts)
            for command, expected in () if name else commands(texts[0]):
                reader.run(command, expected)
        state = dev.state()
        pids = dev.family()
    wait_until_gone(pids)
    assert state["users"][0]["credits"] == 110
    assert (state["dead_letters"], state["drift"]) == (0, [])
    last = (shell.folder / "app.py").read_text("utf-8")
    assert WHOLE.findall(PAGE.read_text("utf-8")) == [last]
