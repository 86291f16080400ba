"""The supervisor of one server: starts it, passes signals on, stops it when the owner has ended.

Run as a script (`python -I -S supervisor.py SPECIFICATION`), so that it needs nothing but the
standard library and starts in some 30 ms. It never imports Faregate.

It writes one line to standard output: `pid 123` or `error ...`. Each byte that the owner writes to
its standard input is a command: 0 stops the server, any other number is a signal for the server.
The end of the input means that the owner has ended.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from enum import Enum, auto
from typing import TypedDict

STOP_ORDER = 0
#: The interval in which the owner is checked, in seconds, if another process holds its end of the
#: pipe open.
OWNER_CHECK_S = 1.0
_PR_SET_PDEATHSIG = 1
_EXIT_CANNOT_START = 127
_EXIT_OF_SIGNAL = 128


class Specification(TypedDict):
    """The specification by the owner."""

    command: list[str]
    #: The server's whole environment.
    environment: dict[str, str]
    #: The account to run as, or null for that of the owner.
    uid: int | None
    gid: int | None
    stop_signal: int
    #: The timeout of a stop, after which the server is killed.
    stop_ms_max: int
    #: Process id of the owner.
    owner: int
    #: The descriptor of the lock, which the server inherits and so holds until its end.
    lock: int
    #: Deleted with their contents if the owner dies.
    trees: list[str]
    #: Then removed if empty.
    directories: list[str]


class End(Enum):
    """The reason why the supervisor ends."""

    EXITED = auto()
    STOPPED = auto()
    OWNER_EXITED = auto()


def main(argument: str) -> int:
    """Run the server that `argument` (JSON) specifies until it ends or must end."""
    specification: Specification = json.loads(argument)
    wake_up = _catch_signals()
    try:
        server = _start(specification)
    except (OSError, subprocess.SubprocessError) as error:
        _write_line(f"error {error}")
        return _EXIT_CANNOT_START
    _write_line(f"pid {server.pid}")
    end = _watch(server, wake_up, owner=specification["owner"])
    _stop(server, specification)
    if end is End.OWNER_EXITED:
        _remove(specification)
    status = server.returncode
    return status if status >= 0 else _EXIT_OF_SIGNAL - status


def _catch_signals() -> int:
    """Turn signals into bytes on a pipe, and return its read end."""
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    return readable


def _start(specification: Specification) -> subprocess.Popen[bytes]:
    other_account = specification["uid"] is not None
    return subprocess.Popen(  # noqa: S603 - the command is the owner's
        specification["command"],
        env=specification["environment"],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        pass_fds=(specification["lock"],),
        # This process has one thread, so running code between fork and exec is safe.
        preexec_fn=_end_with_parent(specification["stop_signal"]),  # noqa: PLW1509
        user=specification["uid"],
        group=specification["gid"],
        extra_groups=[] if other_account else None,
    )


def _end_with_parent(number: int) -> Callable[[], object] | None:
    """Return a function for the child that asks the kernel for a signal when the parent dies."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def _watch(server: subprocess.Popen[bytes], wake_up: int, *, owner: int) -> End:
    orders = sys.stdin.fileno()
    while server.poll() is None:
        if os.getppid() != owner:
            return End.OWNER_EXITED
        readable, _, _ = select.select([orders, wake_up], [], [], OWNER_CHECK_S)
        if wake_up in readable and set(os.read(wake_up, 512)) - {signal.SIGCHLD}:
            return End.STOPPED
        if orders in readable:
            end = _handle_command(server, os.read(orders, 64))
            if end is not None:
                return end
    return End.EXITED


def _handle_command(server: subprocess.Popen[bytes], orders: bytes) -> End | None:
    if not orders:
        return End.OWNER_EXITED
    for order in orders:
        if order == STOP_ORDER:
            return End.STOPPED
        server.send_signal(order)
    return None


def _stop(server: subprocess.Popen[bytes], specification: Specification) -> None:
    server.send_signal(specification["stop_signal"])
    # A paused server gets the signal only after SIGCONT.
    server.send_signal(signal.SIGCONT)
    try:
        server.wait(specification["stop_ms_max"] / 1_000)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _remove(specification: Specification) -> None:
    import shutil  # noqa: PLC0415 - rarely needed, and slow to load

    for tree in specification["trees"]:
        shutil.rmtree(tree, ignore_errors=True)
    for directory in specification["directories"]:
        try:
            os.rmdir(directory)  # noqa: PTH106 - pathlib is not loaded here
        except OSError:
            # The other server still runs, and removes it at its end.
            continue


def _write_line(line: str) -> None:
    try:
        os.write(sys.stdout.fileno(), f"{line}\n".encode())
        os.close(sys.stdout.fileno())
    except BrokenPipeError:
        # The owner died meanwhile; the loop notices this and stops the server.
        return


if __name__ == "__main__":
    status = main(sys.argv[1])
    # Standard output is closed already, which an ordinary exit would complain about.
    os._exit(status)
