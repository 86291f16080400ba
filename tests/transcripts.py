"""Plays what a page of the docs shows in its console blocks, and compares what is printed.

With FAREGATE_TEST_WRITE=1 the page gets what is printed instead. Ids, digests and times differ from
run to run: they are compared as what they are.
"""

import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import pytest

from faregate.cli import main
from waiting import WAIT_S_MAX

_WRITES = os.environ.get("FAREGATE_TEST_WRITE") == "1"
_BLOCK = re.compile(r"^( *)```console\n(.*?)^\1```", re.M | re.S)
_OF_A_SHELL = re.compile("[|&>$]|^faregate worker")
#: What differs from run to run, and what stands for it in a comparison.
_VARYING = {
    r"[0-9a-f]{64}": "<digest>",
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}": "<id>",
    r"(?<=[a-z]-)[0-9a-f]{8}\b": "<finding>",
    r"─+": "<line>",
    r"\b\d+ s\b": "<seconds>",
    r"\b\d+ %": "<percent>",
    r",\d{3} (?P<level>[A-Z]+) (?P<name>\w+)\[\d+\]": r" \g<level> \g<name>",
    r"\d\d\d\d-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?": "<time>",
}


class Transcript:
    """The console blocks of one section of a page, played in their order."""

    def __init__(self, page: Path, section: str, folder: Path, names: Mapping[str, str]) -> None:
        """Find the blocks.

        Args:
            page: The page.
            section: The heading of the section.
            folder: Where the commands run.
            names: What stands in the page for what is true here, such as URLs.
        """
        self._page = page
        self._folder = folder
        self._names = names
        self._section = re.search(
            rf"^##+ {re.escape(section)}\n.*?(?=^##|\Z)", page.read_text("utf-8"), re.M | re.S
        )
        assert self._section is not None, section
        self._blocks = list(_BLOCK.finditer(self._section[0]))
        self._played: list[str] = []
        self._environment = os.environ | {"PATH": self._path(), "COLUMNS": "110"}

    def let(self, **variables: str) -> None:
        """Set variables of the environment, as the reader has."""
        self._environment |= variables

    def play(self) -> None:
        """Run the commands of the next block, and compare what they print."""
        block = self._blocks[len(self._played)]
        commands = re.findall(r"^ *\$ (.*)$", block[2], re.M)
        shown = "\n".join(line for command in commands for line in self._run(command))
        indented = "".join(f"{block[1]}{line}\n".replace(" \n", "\n") for line in shown.split("\n"))
        self._played.append(indented)
        if not _WRITES:
            assert _as_compared(indented) == _as_compared(block[2]), indented

    @property
    def is_left(self) -> bool:
        """Whether there is a block that was not played."""
        return len(self._played) < len(self._blocks)

    def end(self) -> None:
        """Make sure that everything was played, and write the page where that is asked for."""
        assert not self.is_left
        assert self._section is not None
        if _WRITES:
            text, played = self._section[0], iter(self._played)
            text = _BLOCK.sub(lambda b: f"{b[1]}```console\n{next(played)}{b[1]}```", text)
            whole = self._page.read_text("utf-8").replace(self._section[0], text)
            self._page.write_text(whole, encoding="utf-8")

    def _run(self, command: str) -> list[str]:
        """Run a command; return it and the lines that it prints, as the page shows them."""
        real = command
        for name, value in self._names.items():
            real = real.replace(name, value)
        if real.startswith("export "):
            self.let(**dict(word.split("=", 1) for word in shlex.split(real)[1:]))
            return [f"$ {command}"]
        # A worker takes the place of the process that runs it.
        is_plain = real.startswith("faregate ") and not _OF_A_SHELL.search(real)
        said = self._faregate(real) if is_plain else self._shell(real)
        for name, value in self._names.items():
            said = said.replace(value, name)
        lines = [line.rstrip() for line in said.splitlines()]
        return [f"$ {command}", *(line for line in lines if line)]

    def _faregate(self, command: str) -> str:
        """Run a command of ours in this process, which is faster than in its own."""
        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(said):
            patch.setattr(sys, "argv", shlex.split(command))
            patch.chdir(self._folder)
            for name, value in self._environment.items():
                patch.setenv(name, value)
            with suppress(SystemExit):
                main()
        return said.getvalue()

    def _shell(self, command: str) -> str:
        return subprocess.run(
            ["bash", "-c", command],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=WAIT_S_MAX,
            check=False,
        ).stdout

    def _path(self) -> str:
        """Return a PATH with a command `faregate` of this checkout."""
        program = self._folder / "bin" / "faregate"
        program.parent.mkdir(exist_ok=True)
        paths = shlex.quote(os.pathsep.join(sys.path))
        program.write_text(
            f'#!/bin/sh\nPYTHONPATH={paths} exec {sys.executable} -m faregate.cli "$@"\n',
            encoding="utf-8",
        )
        program.chmod(0o755)
        return f"{program.parent}{os.pathsep}{os.environ['PATH']}"


def _as_compared(text: str) -> list[str]:
    for pattern, name in _VARYING.items():
        text = re.sub(pattern, name, text)
    return [" ".join(line.split()) for line in text.splitlines()]
