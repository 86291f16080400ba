"""Scheduled reconciliation: a thread of the ticker starts a process for each run.

A job of RQ would delay the drain, since a worker runs one job at a time. A thread would delay the
ticker. The process has a lower priority than both, and ends with its ticker. One worker reconciles
at a time. Postgres stores each run, including those of `faregate reconcile`, and the next run is
due an interval after the last one. So a worker that stops loses nothing.
"""

import argparse
import logging
import os
import secrets
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing

from rq import Queue

from faregate.bootstrap import open_audit, open_reconciliations, open_stream
from faregate.config import Settings, read_settings
from faregate.domain.errors import FaregateError
from faregate.domain.schedule import Run, due
from faregate.ops.reconcile import reconcile
from faregate_worker.runtime import Stop, configure_logging, open_queue, repeat

#: The longest wait before the first check whether a run is due, and between two checks, in seconds.
FIRST_CHECK_S = 60.0
CHECK_INTERVAL_S = 10.0
#: How long a dead worker blocks the reconciliations of others, in seconds.
LOCK_TTL_S = 30
#: The intervals in which the lock is extended and the process is checked, in seconds.
EXTEND_INTERVAL_S = 10.0
WATCH_INTERVAL_S = 0.1
#: How many findings of a run are logged; all are counted, and a hundred are saved.
LOGGED_COUNT_MAX = 10
TIMEOUT_S = 2.0
#: The niceness of the process.
NICENESS = 10

_LOCK_KEY = "faregate:worker:reconciling"

_logger = logging.getLogger("faregate_worker.reconciling")


def run_reconciliations(settings: Settings, stop: Stop) -> None:
    """Reconcile whenever it is due until a stop is requested."""

    def check() -> bool:
        with open_reconciliations(settings) as reconciliations:
            run = due(reconciliations.last(), settings.reconcile_interval_s)
        if run is not None:
            _run_alone(settings, run, stop)
        return False

    stop.pause(min(FIRST_CHECK_S, settings.reconcile_interval_s))
    interval_s = min(CHECK_INTERVAL_S, settings.reconcile_interval_s)
    repeat(check, stop, interval_s, failure="reconciliation not run")


def _run_alone(settings: Settings, run: Run, stop: Stop) -> None:
    """Reconcile in a process, unless another worker does."""
    queue = open_queue(settings.rq_url, socket_timeout_s=TIMEOUT_S)
    token = secrets.token_hex(8)
    with closing(queue.connection):
        if not queue.connection.set(_LOCK_KEY, token, nx=True, ex=LOCK_TTL_S):
            return
        try:
            _watch(_start(run), queue, token, stop)
        finally:
            if _is_ours(queue, token):
                queue.connection.delete(_LOCK_KEY)


def _start(run: Run) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "faregate_worker.reconciling"]
    command += ["--parent-pid", str(os.getpid()), "--run", run]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603


def _watch(process: "subprocess.Popen[bytes]", queue: Queue, token: str, stop: Stop) -> None:
    """Wait for the process; end it if a stop is requested or the lock is lost."""
    left_s = EXTEND_INTERVAL_S
    try:
        while process.poll() is None and not stop.requested:
            stop.pause(WATCH_INTERVAL_S)
            left_s -= WATCH_INTERVAL_S
            if left_s <= 0:
                left_s = EXTEND_INTERVAL_S
                if not _is_ours(queue, token):
                    return
                queue.connection.expire(_LOCK_KEY, LOCK_TTL_S)
    finally:
        # A reconciliation only reads, so it may be killed at any time.
        process.kill()
        process.wait()


def _is_ours(queue: Queue, token: str) -> bool:
    return bool(queue.connection.get(_LOCK_KEY) == token.encode())


def run_once(settings: Settings, run: Run, stop: Stop) -> None:
    """Reconcile, save the result, and log the findings.

    Raises:
        FaregateError: A server does not answer, or the role lacks a right.
        SystemExit: A stop was requested.
    """

    def watch(_done: int, _estimate: int | None) -> None:
        if stop.requested:
            sys.exit(1)

    with (
        open_stream(settings) as stream,
        open_audit(settings) as audit,
        open_reconciliations(settings) as reconciliations,
    ):
        since = reconciliations.next_since() if run is Run.RECENT else None
        result = reconcile(stream, stream, audit, watch, since=since)
        reconciliations.save(result)
    for finding in result.findings[:LOGGED_COUNT_MAX]:
        _logger.error("finding reported: %s: %s", finding.kind, finding.detail)
    _logger.info(
        "reconciliation completed: users=%d findings=%d", result.users_count, len(result.findings)
    )


def main(argv: Sequence[str]) -> int:
    """Reconcile once for a ticker; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m faregate_worker.reconciling")
    parser.add_argument("--parent-pid", type=int, required=True, help="stop when this process ends")
    parser.add_argument("--run", type=Run, required=True, help="which users to compare")
    arguments = parser.parse_args(argv)
    os.nice(NICENESS)
    settings = read_settings()
    configure_logging(settings.log_format)
    try:
        run_once(settings, arguments.run, Stop(parent_pid=arguments.parent_pid))
    except FaregateError as error:
        _logger.warning("reconciliation failed: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
