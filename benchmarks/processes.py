"""Processes of the benchmarks: each answers lines of JSON, and ends with its input."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self

from benchmarks.errors import BenchError

ROOT = Path(__file__).resolve().parents[1]
STOP_S_MAX = 30
_LOG_TAIL = 2_000


class Talker:
    """A module of this folder that runs as a process of its own."""

    def __init__(self, module: str, arguments: Sequence[str], log: IO[bytes]) -> None:
        self._log = log
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.{module}", *arguments],
            cwd=ROOT,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Send a line and wait for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self.told()

    def told(self) -> dict[str, Any]:
        """Wait for a line.

        Raises:
            BenchError: The process has ended instead; with the end of what it said.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            said = self._log.read().decode(errors="replace")[-_LOG_TAIL:]
            raise BenchError(f"a process of the benchmark ended, and said:\n{said}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        """End its input, and it by force where that does not help."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_S_MAX)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextmanager
def talker(module: str, *arguments: str) -> Iterator[Talker]:
    """Start a process, wait until it is ready, and stop it at the end."""
    with tempfile.TemporaryFile() as log, Talker(module, arguments, log) as process:
        process.told()
        yield process


def cpu_s(pid: int) -> float:
    """Return the processor time of a process so far."""
    # The name of the program stands in parentheses, and may hold anything.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _environment() -> dict[str, str]:
    """Return the environment, less the settings of a Faregate that somebody uses here."""
    return {name: value for name, value in os.environ.items() if not name.startswith("FAREGATE_")}
