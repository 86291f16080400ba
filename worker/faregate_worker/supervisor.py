"""Supervises the ticker: starts it, restarts it when it dies, stops it at the end."""

import logging
import os
import subprocess
import sys
import threading
from types import TracebackType
from typing import Self

#: The pause before a restart, in seconds, so that a failing ticker is not restarted in a hot loop.
RESTART_WAIT_S = 1.0
#: How long a ticker may take to end before it is killed, in seconds; it has no state to lose.
STOP_TIMEOUT_S = 5.0

_logger = logging.getLogger(__name__)


class TickerSupervisor:
    """Runs the ticker as a child process for as long as the context lasts.

    The ticker watches the pid of its parent, so it ends even if this process is killed. A pipe
    would not do: a job's process inherits both ends and may outlive the worker.
    """

    def __init__(self, counters_fd: int = -1) -> None:
        """Start the ticker, with the descriptor of the totals, if there is one."""
        self._counters_fd = counters_fd
        self._stopping = threading.Event()
        # Locked for each start, so that no ticker starts after the last one was stopped.
        self._lock = threading.Lock()
        self._process = self._start()
        self._thread = threading.Thread(target=self._watch, name="ticker-supervisor", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        with self._lock:
            process = self._process
        process.terminate()
        self._thread.join(STOP_TIMEOUT_S)
        if self._thread.is_alive():
            process.kill()
            self._thread.join()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "faregate_worker.ticker", "--parent-pid", str(os.getpid())]
        handed = [self._counters_fd] if self._counters_fd >= 0 else []
        command += [f"--counters-fd={fd}" for fd in handed]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=handed)  # noqa: S603
        _logger.info("ticker started: pid=%d", process.pid)
        return process

    def _watch(self) -> None:
        while True:
            status = self._process.wait()
            if self._stopping.is_set():
                return
            _logger.warning("ticker died, restarting: status=%d", status)
            if self._stopping.wait(RESTART_WAIT_S):
                return
            with self._lock:
                if self._stopping.is_set():
                    return
                self._process = self._start()
