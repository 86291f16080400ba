"""Child processes that run a module and do not outlive their parent.

The parent uses `Child`. The child runs this module as a program: it watches its parent from a
thread and runs the given module under the same process id. So a signal to that id reaches the
program itself, and a killed parent leaves no process behind.
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

#: The interval in which a child checks its parent, in seconds.
PARENT_CHECK_S = 0.5
#: After the death of its parent, a child that does not stop within this time is killed, in seconds.
ORPHAN_STOP_S_MAX = 20.0
_EXIT_ORPHANED = 70
_LOG_TAIL_BYTES = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The program of a child."""

    #: For people: `api`, `worker`.
    name: str
    module: str
    arguments: Sequence[str] = ()
    #: The environment may hold passwords.
    environment: Mapping[str, str] = field(repr=False)
    #: The file of its output; None for the output of the parent.
    log: Path | None
    #: File descriptors that it inherits.
    inherited: Sequence[int] = ()


class Child:
    """A child process."""

    def __init__(self, program: Program) -> None:
        """Start the program. Its output is added to the log of earlier ones."""
        command = [sys.executable, "-m", "faregate.cli.child", str(os.getpid()), program.module]
        with program.log.open("ab") if program.log else nullcontext() as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                [*command, *program.arguments],
                env={**os.environ, **program.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=program.inherited,
                # In a session of its own, since Ctrl-C would reach the whole group; the parent
                # decides the order of stops.
                start_new_session=True,
            )
        self.program = program

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """The exit status (negative: the signal that ended it), or None while it runs."""
        return self._process.poll()

    def stop(self, timeout_s: float) -> None:
        """Send SIGTERM, wait, and kill it after a timeout.

        It does nothing if the child has ended.
        """
        if self._process.poll() is None:
            self._process.terminate()
            # A paused process gets SIGTERM only after SIGCONT.
            self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Send SIGKILL to the child, and wait until it has ended."""
        self._process.kill()
        self._process.wait()

    def log_tail(self) -> str:
        """Return the end of its log, which its predecessors share; empty without a log."""
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
    """Run a module as by `python -m`. Arguments: the parent's id, the module, its arguments."""
    parent_pid, module, *rest = arguments
    threading.Thread(target=_end_with, args=(int(parent_pid),), daemon=True).start()
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
