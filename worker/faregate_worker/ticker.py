"""The ticker: a process that enqueues a job if there is work.

RQ's own schedulers do not fit: they pickle jobs, and two of them enqueue everything twice. The
ticker checks the queue before it enqueues, in one optimistic transaction. So at most one job waits,
with any number of tickers and without a worker. A job does all the work, and each free worker takes
one.
"""

import argparse
import importlib
import logging
import math
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from threading import Thread
from typing import TYPE_CHECKING, Any

from redis.exceptions import OutOfMemoryError, RedisError, WatchError
from rq import Queue

from faregate.bootstrap import open_stream, open_sweeper
from faregate.config import Settings, read_settings
from faregate.domain.errors import ConfigurationError, FaregateError
from faregate.ports import HoldSweeper, TransactionStream
from faregate_worker.check import BEAT_INTERVAL_S, beat, end_beat
from faregate_worker.counts import COUNTS
from faregate_worker.erasing import run_erasures
from faregate_worker.forks import run_forks
from faregate_worker.jobs import work_on
from faregate_worker.ordering import run_orders
from faregate_worker.reconciling import run_reconciliations
from faregate_worker.runtime import Stop, configure_logging, open_queue

if TYPE_CHECKING:
    from rq.queue import EnqueueData

JOB = "faregate_worker.jobs.work"
#: The interval between two checks for expired holds, in seconds.
SWEEP_INTERVAL_S = 1.0
#: The interval of jobs without other work, in seconds, to delete old stored records.
UPKEEP_INTERVAL_S = 30.0
#: The prefix of job ids.
JOB_PREFIX = "work-"
#: How long the ticker drains itself if no job can be enqueued, in seconds.
OWN_WORK_S_MAX = 5.0

#: How long a job may wait for a worker before it is dropped, in seconds; the next tick makes a new
#: one.
JOB_TTL_S = 60
#: How long a failed job stays visible for the operator, in seconds.
FAILURE_TTL_S = 3_600
#: How much longer than its own bound a job may take to connect and to end its last batch, in
#: seconds.
JOB_OVERTIME_S_MAX = 60

#: How long the ticker waits at its end for a reconciliation, in seconds.
RECONCILING_STOP_S_MAX = 0.5

ENQUEUE_TRIES_MAX = 3
QUEUE_TIMEOUT_S = 2.0
#: The longest wait between two tries while Redis does not answer, in seconds.
BACKOFF_S_MAX = 2.0

#: The pseudo outage of a full Redis, which accepts no job.
_FULL = "full"

_logger = logging.getLogger("faregate_worker.ticker")


class Ticker:
    """Checks for work at each tick, and enqueues a job."""

    def __init__(
        self,
        stream: TransactionStream,
        queue: Queue,
        *,
        drain_s_max: float,
        sweeper: HoldSweeper | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._queue = queue
        self._drain_s_max = drain_s_max
        self._clock = clock
        self._sweeper = sweeper
        self._sweep_at = clock() + SWEEP_INTERVAL_S
        self._upkeep_at = clock() + UPKEEP_INTERVAL_S
        self._beat_at = clock()

    def tick(self) -> bool:
        """Enqueue a job if there is work and none waits; return whether one was enqueued.

        Raises:
            LedgerError: The ledger's Redis did not answer.
            RedisError: The queue's Redis did not answer, or accepts no job.
        """
        if self._clock() >= self._beat_at:
            beat(self._queue)
            self._beat_at = self._clock() + BEAT_INTERVAL_S
        is_upkeep = self._clock() >= self._upkeep_at
        if not (is_upkeep or self._stream.shards_pending() or self._sweep_is_due()):
            return False
        is_enqueued = self._enqueue()
        self._upkeep_at = self._clock() + UPKEEP_INTERVAL_S
        return is_enqueued

    def _sweep_is_due(self) -> bool:
        """Return whether there are expired holds, once in an interval."""
        if self._sweeper is None or self._clock() < self._sweep_at:
            return False
        self._sweep_at = self._clock() + SWEEP_INTERVAL_S
        return bool(self._sweeper.shards_due())

    def _enqueue(self) -> bool:
        """Enqueue a job unless one waits, or the queue changes all the time."""
        for _ in range(ENQUEUE_TRIES_MAX):
            with self._queue.connection.pipeline() as pipe:
                pipe.watch(self._queue.key)  # type: ignore[no-untyped-call]
                if any(job_id.startswith(JOB_PREFIX) for job_id in self._queue.job_ids):
                    return False
                pipe.multi()
                self._queue.enqueue_many([self._job()], pipeline=pipe)
                try:
                    pipe.execute()
                except WatchError:
                    continue
                return True
        return False

    def _job(self) -> "EnqueueData":
        # The time makes the id new each tick, since a failed job would block its id.
        return Queue.prepare_data(
            JOB,
            args=(self._drain_s_max,),
            timeout=math.ceil(self._drain_s_max) + JOB_OVERTIME_S_MAX,
            result_ttl=0,
            ttl=JOB_TTL_S,
            failure_ttl=FAILURE_TTL_S,
            description="work",
            job_id=f"{JOB_PREFIX}{time.time_ns() // 1_000_000}",
        )


def run(settings: Settings, stop: Stop) -> None:
    """Tick until a stop is requested. Outages are logged once and waited out.

    If Redis is full, no job can be enqueued. Then this process drains by itself, so that stored
    records can be deleted and Redis becomes less full.
    """
    interval_s = settings.tick_interval_ms / 1_000
    wait_s = interval_s
    ticker: Ticker | None = None
    outage = ""
    with ExitStack() as resources:
        while not stop.requested:
            try:
                ticker = ticker or _build(settings, resources)
                is_full = _tick(ticker)
                if is_full:
                    if outage != _FULL:
                        _logger.warning("Redis full, ticker drains without a job")
                    outage = _FULL
                    work_on(settings, stop, OWN_WORK_S_MAX)
            except (FaregateError, RedisError) as error:
                if type(error).__name__ != outage:
                    outage = type(error).__name__
                    _logger.warning("outage began, ticker waits: %s: %s", outage, error)
                wait_s = min(wait_s * 2, max(interval_s, BACKOFF_S_MAX))
            else:
                if outage and not is_full:
                    _logger.info("outage ended")
                outage, wait_s = outage if is_full else "", interval_s
            stop.pause(wait_s)


def _release(queue: Queue) -> None:
    with suppress(RedisError):
        end_beat(queue)
    queue.connection.close()


def _tick(ticker: Ticker) -> bool:
    """Tick, and return whether Redis is full."""
    try:
        ticker.tick()
    except OutOfMemoryError:
        return True
    return False


def _build(settings: Settings, resources: ExitStack) -> Ticker:
    stream = resources.enter_context(open_stream(settings))
    sweeper = resources.enter_context(open_sweeper(settings))
    queue = open_queue(settings.rq_url, socket_timeout_s=QUEUE_TIMEOUT_S)
    resources.callback(_release, queue)
    return Ticker(stream, queue, drain_s_max=settings.drain_s_max, sweeper=sweeper)


def main(argv: Sequence[str]) -> int:
    """Run the ticker for a worker; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m faregate_worker.ticker")
    parser.add_argument("--parent-pid", type=int, required=True, help="stop when this process ends")
    parser.add_argument("--counters-fd", type=int, default=-1, help="the file of the counts")
    arguments = parser.parse_args(argv)
    stop = Stop(parent_pid=arguments.parent_pid)
    settings = read_settings()
    configure_logging(settings.log_format)

    def request_stop(*_: Any) -> None:
        stop.request()

    signal.signal(signal.SIGTERM, request_stop)
    # Ctrl-C reaches the whole process group; the worker decides when its ticker ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if settings.metrics_port:
        COUNTS.open(arguments.counters_fd)
        _serve_metrics(settings)
    # In threads, since they may wait for Postgres, and the ticker must not.
    for repeated in (run_erasures, run_orders, run_forks):
        Thread(target=repeated, args=(settings, stop), name=repeated.__name__, daemon=True).start()
    reconciling = Thread(target=run_reconciliations, args=(settings, stop), name="reconciling")
    reconciling.daemon = True
    if settings.reconcile_interval_s:
        reconciling.start()
    run(settings, stop)
    if settings.reconcile_interval_s:
        # It ends its process.
        reconciling.join(RECONCILING_STOP_S_MAX)
    return 0


def _serve_metrics(settings: Settings) -> None:
    """Serve metrics, if possible; otherwise the ticker works without them."""
    try:
        # Loaded only here, since they need an extra.
        importlib.import_module("faregate_worker.metrics").serve_worker(settings, COUNTS)
    except (ImportError, ConfigurationError) as error:
        _logger.warning("metrics not served: %s", error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
