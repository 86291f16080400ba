"""Runs `faregate dev` as its users do: in a terminal of its own, in the folder of an app."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from processes import runs
from waiting import WAIT_S_MAX, wait_for

#: The programs that the README names, as those of these tests.
PROGRAMS = {"faregate": "faregate.cli", "uvicorn": "uvicorn"}


class Shell:
    """A shell whose `faregate` is the one of these tests."""

    def __init__(self, folder: Path) -> None:
        """Work in a folder."""
        self.folder = folder
        programs = folder / "bin"
        programs.mkdir()
        for name, module in PROGRAMS.items():
            (programs / name).write_text(
                f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n', encoding="utf-8"
            )
            (programs / name).chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(sys.path),
            "PYTHONUNBUFFERED": "1",
        }

    @classmethod
    def of_environment(cls, folder: Path, python: Path) -> Self:
        """Work in a folder with the programs of another environment, and with no others of ours."""
        shell = cls(folder)
        del shell.environment["PYTHONPATH"]
        shell.environment["PATH"] = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
        return shell

    def run(self, command: str) -> str:
        """Run a command; return its output, once it has succeeded."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=WAIT_S_MAX,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout


class Dev:
    """`faregate dev`, while it runs."""

    def __init__(self, shell: Shell, command: str) -> None:
        """Start it on ports that are free."""
        self._process = subprocess.Popen(
            ["bash", "-c", f"exec {command} --port 0 --page-port 0"],
            cwd=shell.folder,
            env=shell.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A process group of its own, as that of a terminal in the foreground.
            start_new_session=True,
        )
        #: What it has said so far.
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self.end(signal.SIGINT)

    def wait_for_line(self, pattern: str, count: int = 1) -> str:
        """Wait until it has said a line so often; return the first group, or the line."""

        def found() -> list[re.Match[str]]:
            matches = [re.search(pattern, line) for line in self.said]
            return [match for match in matches if match]

        def is_said() -> bool:
            assert self._process.poll() is None or len(found()) >= count, "".join(self.said)
            return len(found()) >= count

        wait_for(is_said, f"{pattern} in its output")
        return str(found()[0].groups()[0] if found()[0].groups() else found()[0].group())

    @property
    def app_url(self) -> str:
        """Where the app is."""
        return self.wait_for_line(r"app +(http://127\.0\.0\.1:\d+) ")

    @property
    def page_url(self) -> str:
        """Where the page is."""
        return self.wait_for_line(r"page +(http://127\.0\.0\.1:\d+) ")

    @property
    def token(self) -> str:
        """The token that it printed."""
        return self.wait_for_line(r"token +(fg_\w+)$")

    def state(self) -> Any:
        """What the page shows."""
        with urllib.request.urlopen(f"{self.page_url}/state", timeout=WAIT_S_MAX) as answer:  # noqa: S310
            return json.load(answer)

    def family(self) -> set[int]:
        """It and all processes that it has started, and those that these have started."""
        parents = _parents()
        found, new = {self._process.pid}, {self._process.pid}
        while new:
            new = {pid for pid, parent in parents.items() if parent in new} - found
            found |= new
        return found

    def end(self, number: signal.Signals) -> int:
        """Send a signal as a terminal does, or kill it; wait for its end, and return its status."""
        if number is signal.SIGKILL:
            self._process.kill()
        else:
            os.killpg(self._process.pid, number)
        status = self._process.wait(WAIT_S_MAX)
        self._reader.join(WAIT_S_MAX)
        return status

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                self.said.append(line)


def wait_until_gone(pids: set[int]) -> None:
    """Wait until none of some processes runs."""
    wait_for(lambda: not any(runs(pid) for pid in pids), f"{sorted(pids)} are gone")


def _parents() -> dict[int, int]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text("utf-8")
            except (FileNotFoundError, ProcessLookupError):
                continue
            found[int(entry.name)] = int(text.rpartition(")")[2].split()[1])
    return found
