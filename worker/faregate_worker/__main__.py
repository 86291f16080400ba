"""`python -m faregate_worker`: a real RQ worker in the foreground and the ticker beside it.

SIGTERM (or Ctrl-C) stops both: the job at hand ends, the ticker goes, the exit status is 0.
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
from faregate_worker.runtime import Stop, configure_logging, open_queue
from faregate_worker.supervisor import TickerSupervisor

#: RQ derives its waits from this: it blocks for a job 15 s less, which is also the longest time
#: between two heartbeats of an idle worker, and forgets a dead worker 60 s later.
WORKER_TTL_S = 30
#: What RQ asks for: longer than it blocks, so that a reply on time is never taken for an outage.
REPLY_TIMEOUT_S = WORKER_TTL_S - 5
JOB_MONITORING_INTERVAL_S = 10
RECONNECT_WAIT_S_MAX = 5.0
RESTART_WAIT_S = 1.0
#: After how long of work another error is another outage, which is logged anew.
OUTAGE_GAP_S = 10.0

#: Exit status for settings that cannot work, and for a Postgres that cannot be compared with.
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
    """Say what keeps records from becoming rows; return the exit status.

    Raises:
        ConfigurationError: The servers cannot be worked with.
        StandbyError: Postgres is a standby.
    """
    found = problems(settings)
    for problem in found:
        _logger.error("worker check failed: %s", problem)
    return 1 if found else 0


def _warn(settings: Settings) -> None:
    """Log what `faregate doctor` says of the servers; records are drained all the same."""
    with open_servers(settings) as probes:
        for symptom in examine(probes).symptoms:
            _logger.warning(
                "doctor warning: %s: %s (%s)", symptom.part, symptom.detail, symptom.remedy
            )


def _work(settings: Settings, stop: Stop) -> None:
    """Work, with a new RQ worker whenever one gave up because its Redis was away."""
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
            # RQ arms its second, forcible handler when it takes a stop request: the only trace.
            if signal.getsignal(signal.SIGTERM) == worker.request_force_stop:
                return
        _stop_on_signals(stop)
        stop.pause(RESTART_WAIT_S)


def _build(settings: Settings) -> Worker:
    queue = open_queue(settings.rq_url, socket_timeout_s=REPLY_TIMEOUT_S)
    if queue.connection.info("cluster").get("cluster_enabled"):
        raise ConfigurationError("the queue cannot live in a Redis Cluster; set FAREGATE_QUEUE_URL")
    worker = Worker(
        [queue],
        # New each time: RQ refuses the name of a worker that was killed, until its TTL is over.
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
    """Give a sign of life, and be among the workers again where the queue has been flushed."""
    Worker.heartbeat(worker, timeout, pipeline)
    worker_registration.register(worker, pipeline)


def _stop_job(worker: Worker) -> None:
    """Ask the job at hand to stop after its commit; RQ itself would wait for its regular end."""
    if worker.horse_pid:
        with suppress(ProcessLookupError):
            os.kill(worker.horse_pid, signal.SIGTERM)


def _release(worker: Worker) -> None:
    """Give up what RQ leaves behind where it could not say goodbye to its Redis."""
    if worker.pubsub_thread is not None:
        worker.pubsub_thread.stop()
    worker.connection.close()


def _stop_on_signals(stop: Stop) -> None:
    """Take stop requests while RQ does not: before its loop begins and between two workers."""

    def request_stop(*_: Any) -> None:
        if not stop.requested:
            stop.request()
            raise StopRequested

    signal.signal(signal.SIGTERM, request_stop)
    signal.signal(signal.SIGINT, request_stop)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
