"""A process of ours that runs a module and does not outlive the process that started it.

The starter's side is `Child`. The child's side is this module run as a program: it watches its
parent from a thread, then becomes the module, under the same process id. So whoever kills that id
kills the very program, and a starter that was killed leaves nothing behind.
"""

import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

#: How soon a vanished parent is noticed.
PARENT_CHECK_S = 0.5
#: After its parent is gone, a child that does not stop in this time is killed.
ORPHAN_STOP_S_MAX = 20.0
_EXIT_ORPHANED = 70
_LOG_TAIL_BYTES = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What a child runs."""

    #: For people: `api`, `worker`.
    name: str
    module: str
    arguments: Sequence[str] = ()
    #: It may hold passwords.
    environment: Mapping[str, str] = field(repr=False)
    #: Where its output goes; None for where that of its starter goes.
    log: Path | None
    #: Open files that it inherits under the same numbers.
    inherited: Sequence[int] = ()


class Child:
    """A program that was started and has not been stopped."""

    def __init__(self, program: Program) -> None:
        """Start it. Its output is added to the log of earlier ones."""
        command = [sys.executable, "-m", "faregate.cli.child", str(os.getpid()), program.module]
        with program.log.open("ab") if program.log else nullcontext() as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                [*command, *program.arguments],
                env={**os.environ, **program.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=program.inherited,
                # Ctrl-C reaches a whole group, and who stops first is for the starter to say.
                start_new_session=True,
            )
        self.program = program

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """How it ended (negative: by which signal), or None while it runs."""
        return self._process.poll()

    def stop(self, timeout_s: float) -> None:
        """Ask it to stop, wait, and kill it after the bound. Nothing happens if it has ended."""
        if self._process.poll() is None:
            self._process.terminate()
            # One that was paused hears the first signal only once it goes on.
            self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it by SIGKILL, as nobody can who is to end in order, and wait for its end."""
        self._process.kill()
        self._process.wait()

    def log_tail(self) -> str:
        """Return the end of what it and its predecessors have said; nothing without a log."""
        if self.program.log is None:
            return ""
        with self.program.log.open("rb") as log:
            log.seek(max(0, self.program.log.stat().st_size - _LOG_TAIL_BYTES))
            return log.read().decode(errors="replace").strip()


def _end_with(parent_pid: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(PARENT_CHECK_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_STOP_S_MAX)
    os._exit(_EXIT_ORPHANED)


def main(arguments: Sequence[str]) -> None:
    """Run a module as if by `python -m`: arguments are the parent's id, the module, its own."""
    parent_pid, module, *rest = arguments
    threading.Thread(target=_end_with, args=(int(parent_pid),), daemon=True).start()
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
