"""How a process fares that a test has started or stopped, by Linux's /proc."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from waiting import WAIT_S_MAX, wait_for


def process_state(pid: int) -> str:
    """The kernel's letter for what a process does: R, S, T (stopped), Z (zombie), ..."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


def runs(pid: int) -> bool:
    """Whether a process runs; one that waits to be reaped does not."""
    try:
        return process_state(pid) != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process by SIGTERM, or else by SIGKILL."""
    process.terminate()
    try:
        process.wait(WAIT_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(WAIT_S_MAX)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process for the block, which begins when it has stopped."""
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: process_state(pid) == "T", f"{pid} is stopped")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
