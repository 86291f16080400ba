"""A server as a process, which its owner signals and stops through a supervisor."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from faregate.cli.servers import supervisor
from faregate.cli.servers.places import UnixAccount
from faregate.domain.errors import EmbeddedServerError

#: How long a server may take to stop before it is killed, in seconds.
STOP_MS_MAX = 15_000
#: How much longer its supervisor may take to report it, in seconds.
SUPERVISOR_MS_MAX = 10_000
_POLL_S = 0.01
_LINE_BYTES_MAX = 4_096
#: Nothing of the owner's environment (PGDATA, LD_PRELOAD, locale, ...) reaches a server.
SERVER_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def wait_until(condition: Callable[[], bool], *, timeout_ms: int) -> bool:
    """Poll `condition` until it is true; return whether it was before the timeout."""
    deadline = time.monotonic() + timeout_ms / 1_000
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A program with its environment and account."""

    command: tuple[str, ...]
    account: UnixAccount | None
    log: Path
    stop_signal: signal.Signals
    #: Deleted by the supervisor if the owner vanishes.
    trees: tuple[Path, ...] = ()
    #: Then removed if empty.
    directories: tuple[Path, ...] = ()

    def specification(self, lock: int) -> supervisor.Specification:
        """Return the specification for the supervisor."""
        return {
            "command": list(self.command),
            "environment": SERVER_ENVIRONMENT,
            "uid": self.account.uid if self.account else None,
            "gid": self.account.gid if self.account else None,
            "stop_signal": int(self.stop_signal),
            "stop_ms_max": STOP_MS_MAX,
            "owner": os.getpid(),
            "lock": lock,
            "trees": [os.fspath(path) for path in self.trees],
            "directories": [os.fspath(path) for path in self.directories],
        }


class SupervisedProcess:
    """A running server with its supervisor. Not for use by several threads at once."""

    def __init__(self, launch: Launch, *, lock: int) -> None:
        """Start the server.

        Args:
            launch: The program to run.
            lock: Descriptor of the locked file that server and supervisor inherit.

        Raises:
            EmbeddedServerError: If the program cannot be started.
        """
        with launch.log.open("ab") as log:
            self._supervisor = subprocess.Popen(  # noqa: S603 - our own script
                [
                    sys.executable,
                    "-IS",
                    supervisor.__file__,
                    json.dumps(launch.specification(lock)),
                ],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd="/",
                pass_fds=(lock,),
                # Ctrl-C in a terminal reaches only the owner, which stops the rest in order.
                start_new_session=True,
            )
        self.pid = self._read_pid(launch)

    @property
    def alive(self) -> bool:
        """Whether the server runs (or is paused). False from when its supervisor reaped it."""
        return self._supervisor.poll() is None

    @property
    def exit_status(self) -> int | None:
        """The server's exit status, 128 + n if signal n ended it, None while it runs."""
        return self._supervisor.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server. It does nothing if the server has ended."""
        self._order(number)

    def stop(self) -> None:
        """Stop the server in order, after a timeout by force, and wait for its end.

        Raises:
            EmbeddedServerError: If even that had no effect in time.
        """
        self._order(supervisor.STOP_ORDER)
        self.join(timeout_ms=STOP_MS_MAX + SUPERVISOR_MS_MAX)

    def join(self, *, timeout_ms: int) -> None:
        """Wait until the server has ended, and release its resources here.

        Raises:
            EmbeddedServerError: If it has not ended after `timeout_ms`.
        """
        try:
            self._supervisor.wait(timeout_ms / 1_000)
        except subprocess.TimeoutExpired as error:
            raise EmbeddedServerError(f"the server of pid {self.pid} does not end") from error
        self._close()

    def _order(self, number: int) -> None:
        orders = self._supervisor.stdin
        if orders is not None and not orders.closed:
            with suppress(BrokenPipeError):
                orders.write(bytes([number]))

    def _read_pid(self, launch: Launch) -> int:
        answer = self._supervisor.stdout
        line = b""
        if answer is not None:
            if select.select([answer], [], [], SUPERVISOR_MS_MAX / 1_000)[0]:
                line = answer.read(_LINE_BYTES_MAX) or b""
            answer.close()
        word, _, rest = line.decode(errors="replace").strip().partition(" ")
        if word == "pid":
            return int(rest)
        self._supervisor.kill()
        self._supervisor.wait()
        self._close()
        raise EmbeddedServerError(
            f"cannot run {launch.command[0]}: {rest or f'its supervisor ended, see {launch.log}'}"
        )

    def _close(self) -> None:
        for stream in (self._supervisor.stdin, self._supervisor.stdout):
            if stream is not None:
                stream.close()
