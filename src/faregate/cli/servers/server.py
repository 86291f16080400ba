"""A server that can be started, watched, killed and started again on the same data."""

import fcntl
import os
import signal
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from faregate.cli.servers.places import Places
from faregate.cli.servers.process import Launch, SupervisedProcess, wait_until
from faregate.domain.errors import EmbeddedServerError

#: The longest start, including the recovery after a kill, in seconds.
START_MS_MAX = 60_000
#: How long former users of the directory may take to end, in seconds.
LOCK_MS_MAX = 20_000
KILL_MS_MAX = 10_000
LOG_TAIL_LINES = 20
_LOG_TAIL_BYTES = 8_192


class Server(ABC):
    """One embedded server. Not for use by several threads at once."""

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]

    def __init__(self, places: Places, *, durable: bool) -> None:
        """Take the server's directory out of `places`; nothing is started yet."""
        self._places = places
        self._durable = durable
        self._process: SupervisedProcess | None = None
        self.directory = places.base / self.name
        self.log = self.directory / f"{self.name}.log"

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL for clients."""

    @property
    def pid(self) -> int:
        """The server's process id.

        Raises:
            EmbeddedServerError: If it was not started.
        """
        if self._process is None:
            raise EmbeddedServerError(f"{self.name} is not started")
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the server runs."""
        return self._process is not None and self._process.alive

    @property
    def died(self) -> bool:
        """Whether the server was started and has ended without a stop."""
        return self._process is not None and not self._process.alive

    def start(self) -> None:
        """Start the server on its data and wait until it serves. It does nothing if it runs.

        Raises:
            EmbeddedServerError: If it does not serve in time; with the end of its log.
        """
        if self.alive:
            return
        self.stop()
        lock = lock_of(self.directory)
        try:
            self._prepare(lock)
            self._process = SupervisedProcess(self._launch(), lock=lock)
        except OSError as error:
            raise EmbeddedServerError(f"{self.name} does not start: {error}") from error
        finally:
            os.close(lock)
        self._await_ready(self._process)

    def stop(self) -> None:
        """Stop the server in order, after a timeout by force. It does nothing if it has ended."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    def restart(self) -> None:
        """Stop the server if it runs, and start it on the same data."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """End the server by SIGKILL, as a fault would, and wait for its end."""
        process = self._running()
        process.signal(signal.SIGKILL)
        process.join(timeout_ms=KILL_MS_MAX)

    def pause(self) -> None:
        """Stop the server's main process from running (SIGSTOP): it neither answers nor ends."""
        self._running().signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume a paused server."""
        self._running().signal(signal.SIGCONT)

    @abstractmethod
    def _prepare(self, lock: int) -> None:
        """Create missing data, and remove the remains of a killed server."""

    @abstractmethod
    def _command(self) -> tuple[str, ...]:
        """The command line."""

    @abstractmethod
    def _ready(self, pid: int) -> bool:
        """Whether the server of that process id serves."""

    def _launch(self) -> Launch:
        return Launch(
            command=self._command(),
            account=None,
            log=self.log,
            stop_signal=self.stop_signal,
            trees=(self.directory,) if self._places.temporary else (),
            directories=self._places.removable,
        )

    def _running(self) -> SupervisedProcess:
        if self._process is None or not self._process.alive:
            raise EmbeddedServerError(f"{self.name} does not run")
        return self._process

    def _await_ready(self, process: SupervisedProcess) -> None:
        def settled() -> bool:
            return self._ready(process.pid) or not process.alive

        in_time = wait_until(settled, timeout_ms=START_MS_MAX)
        if process.alive and in_time:
            return
        status = process.exit_status
        how = "is not ready in time" if status is None else f"ended with status {status}"
        self.stop()
        raise EmbeddedServerError(f"{self.name} {how}; the end of {self.log}:\n{_tail(self.log)}")


def lock_of(directory: Path) -> int:
    """Wait until no process uses the data of a server; return an open file with its lock.

    Raises:
        EmbeddedServerError: Another process goes on using it.
    """
    try:
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EmbeddedServerError(f"{directory.name}: {error}") from error
    if not wait_until(lambda: _locked(lock), timeout_ms=LOCK_MS_MAX):
        os.close(lock)
        raise EmbeddedServerError(
            f"{directory} is in use by another process, such as another `faregate dev`: end it, "
            "or choose another folder by --data"
        )
    return lock


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return f"(unreadable: {error})"
    return "\n".join(text.splitlines()[-LOG_TAIL_LINES:])
