"""`python -m faregate_worker`: a real RQ worker in the foreground and the ticker beside it.

SIGTERM (or Ctrl-C) stops both: the running job ends, the ticker stops, the exit status is 0.
"""

import argparse
import importlib
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from redis.client import Pipeline
from redis.exceptions import RedisError
from rq import Worker, worker_registration
from rq.exceptions import StopRequested

from faregate.bootstrap import check_worker_rights, open_servers
from faregate.config import Settings, read_settings
from faregate.domain.errors import ConfigurationError, StandbyError
from faregate.ops.doctor import examine
from faregate_worker.check import problems
from faregate_worker.counts import COUNTS
from faregate_worker.runtime import Stop, configure_logging, open_queue, require_no_cluster
from faregate_worker.supervisor import TickerSupervisor

#: RQ derives its waits from this: it blocks for a job 15 s less, which is also the longest time
#: between two heartbeats of an idle worker, and removes a dead worker 60 s later.
WORKER_TTL_S = 30
#: Longer than RQ blocks, so that a reply in time is never mistaken for an outage.
REPLY_TIMEOUT_S = WORKER_TTL_S - 5
JOB_MONITORING_INTERVAL_S = 10
RECONNECT_WAIT_S_MAX = 5.0
RESTART_WAIT_S = 1.0
#: An error after this time of work is a new outage, which is logged, in seconds.
OUTAGE_GAP_S = 10.0

#: Exit statuses for invalid settings, and for a standby.
EXIT_MISCONFIGURED, EXIT_BROKEN = 2, 3

_logger = logging.getLogger("faregate_worker")


def main(argv: Sequence[str]) -> int:
    """Run the worker until it is stopped, or check that one runs; return the exit status."""
    parser = argparse.ArgumentParser(prog="faregate worker", description="Drain pending records.")
    parser.add_argument("--check", action="store_true", help="exit 0 if records become rows")
    arguments = parser.parse_args(argv)
    try:
        settings = read_settings()
        configure_logging(settings.log_format)
        if arguments.check:
            return check(settings)
        check_worker_rights(settings)
        return run(settings)
    except ConfigurationError as error:
        configure_logging()
        _logger.critical("worker misconfigured: %s", error)
        return EXIT_MISCONFIGURED
    except StandbyError as error:
        _logger.critical("worker not started, Postgres is a standby: %s", error)
        return EXIT_BROKEN


def run(settings: Settings) -> int:
    """Run the worker until it is stopped; return the exit status.

    Raises:
        ConfigurationError: Settings contradict each other, or the ledger.
    """
    _warn(settings)
    # Loaded before any fork, so that no job pays for the imports.
    importlib.import_module("faregate_worker.jobs")
    counters_fd = COUNTS.share() if settings.metrics_port else -1
    stop = Stop()
    _stop_on_signals(stop)
    with suppress(StopRequested), TickerSupervisor(counters_fd):
        _work(settings, stop)
    _logger.info("worker stopped")
    return 0


def check(settings: Settings) -> int:
    """Log the reasons why records do not become rows; return the exit status.

    Raises:
        ConfigurationError: The settings do not fit the servers.
        StandbyError: Postgres is a standby.
    """
    found = problems(settings)
    for problem in found:
        _logger.error("worker check failed: %s", problem)
    return 1 if found else 0


def _warn(settings: Settings) -> None:
    """Log the symptoms of the servers that `faregate doctor` reports."""
    with open_servers(settings) as probes:
        for symptom in examine(probes).symptoms:
            _logger.warning(
                "doctor warning: %s: %s (%s)", symptom.part, symptom.detail, symptom.remedy
            )


def _work(settings: Settings, stop: Stop) -> None:
    """Work, with a new RQ worker whenever one ended because its Redis did not answer."""
    outage = False
    while not stop.requested:
        worker: Worker | None = None
        started_at = time.monotonic()
        try:
            worker = _build(settings)
            _logger.log(
                logging.DEBUG if outage else logging.INFO, "worker started: name=%s", worker.name
            )
            worker.work(logging_level="WARNING")
        except RedisError as error:
            outage = outage and time.monotonic() - started_at < OUTAGE_GAP_S
            if not outage:
                _logger.warning("outage began, worker waits: %s: %s", type(error).__name__, error)
            outage = True
        if worker is not None:
            _release(worker)
            # RQ installs its second, forcible handler on a stop request, which has no other trace.
            if signal.getsignal(signal.SIGTERM) == worker.request_force_stop:
                return
        _stop_on_signals(stop)
        stop.pause(RESTART_WAIT_S)


def _build(settings: Settings) -> Worker:
    queue = open_queue(settings.rq_url, socket_timeout_s=REPLY_TIMEOUT_S)
    require_no_cluster(queue)
    worker = Worker(
        [queue],
        # A new name each time, since RQ refuses that of a killed worker until its TTL is over.
        name=f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}",
        connection=queue.connection,
        serializer=queue.serializer,
        worker_ttl=WORKER_TTL_S,
        job_monitoring_interval=JOB_MONITORING_INTERVAL_S,
    )
    worker.max_connection_wait_time = RECONNECT_WAIT_S_MAX
    worker.heartbeat = partial(_heartbeat, worker)  # type: ignore[method-assign]
    # What RQ calls when it is asked to stop, before it waits for the job at hand.
    worker.handle_warm_shutdown_request = partial(_stop_job, worker)  # type: ignore[method-assign]
    return worker


def _heartbeat(
    worker: Worker, timeout: int | None = None, pipeline: Pipeline | None = None
) -> None:
    """Send a heartbeat, and register again if the queue was flushed."""
    Worker.heartbeat(worker, timeout, pipeline)
    worker_registration.register(worker, pipeline)


def _stop_job(worker: Worker) -> None:
    """Ask the running job to stop after its commit; RQ would wait for its regular end."""
    if worker.horse_pid:
        with suppress(ProcessLookupError):
            os.kill(worker.horse_pid, signal.SIGTERM)


def _release(worker: Worker) -> None:
    """Release the resources of an RQ worker that lost its Redis."""
    if worker.pubsub_thread is not None:
        worker.pubsub_thread.stop()
    worker.connection.close()


def _stop_on_signals(stop: Stop) -> None:
    """Handle stop requests while RQ does not: before its loop and between two workers."""

    def request_stop(*_: Any) -> None:
        if not stop.requested:
            stop.request()
            raise StopRequested

    signal.signal(signal.SIGTERM, request_stop)
    signal.signal(signal.SIGINT, request_stop)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
