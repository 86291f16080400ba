"""The ticker: a process of its own that enqueues drain jobs where records are pending.

RQ's own schedulers do not fit: they pickle jobs, and two of them enqueue everything twice. This one
looks before it enqueues, in one optimistic transaction with the queue, so that however many
tickers run and however long no worker does, at most one job waits for each shard.
"""

import argparse
import logging
import math
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError, WatchError
from rq import Queue

from faregate.bootstrap import open_stream, open_sweeper
from faregate.config import Settings, read_settings
from faregate.domain.errors import FaregateError
from faregate.ports import HoldSweeper, TransactionStream
from faregate_worker.runtime import Stop, configure_logging, open_queue

if TYPE_CHECKING:
    from rq.queue import EnqueueData

DRAIN_JOB = "faregate_worker.jobs.drain_shard"
TRIM_JOB = "faregate_worker.jobs.trim_shards"
TRIM_INTERVAL_SECONDS = 30.0
SWEEP_JOB = "faregate_worker.jobs.sweep_holds"
#: How often the ticker looks for holds that have expired.
SWEEP_INTERVAL_SECONDS = 1.0

#: How long a job may wait for a worker before it is dropped; the next tick makes a new one.
JOB_TTL_SECONDS = 60
#: How long the record of a failed job is kept for the operator.
FAILURE_TTL_SECONDS = 3_600
#: How much longer than its own time bound a job may take: connecting, and its last batch.
JOB_OVERTIME_SECONDS_MAX = 60

ENQUEUE_TRIES_MAX = 3
QUEUE_TIMEOUT_SECONDS = 2.0
#: The longest wait between two looks while Redis is away.
BACKOFF_SECONDS_MAX = 2.0

_logger = logging.getLogger("faregate_worker.ticker")


class Ticker:
    """Looks once a tick which shards have records pending, and makes sure that a job waits."""

    def __init__(
        self,
        stream: TransactionStream,
        queue: Queue,
        *,
        drain_seconds_max: float,
        sweeper: HoldSweeper | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._queue = queue
        self._drain_seconds_max = drain_seconds_max
        self._clock = clock
        self._sweeper = sweeper
        self._trim_at = clock() + TRIM_INTERVAL_SECONDS
        self._sweep_at = clock() + SWEEP_INTERVAL_SECONDS

    def tick(self) -> int:
        """Enqueue what is due and not yet queued; return the number of jobs enqueued.

        Raises:
            LedgerError: The ledger's Redis did not answer.
            RedisError: The queue's Redis did not answer.
        """
        due = {}
        for shard in self._stream.shards_pending():
            name = f"drain-s{shard:02d}"
            due[name] = self._job(name, DRAIN_JOB, shard, self._drain_seconds_max)
        trim_due = self._clock() >= self._trim_at
        if trim_due:
            due["trim"] = self._job("trim", TRIM_JOB)
        if self._sweep_is_due():
            due["sweep"] = self._job("sweep", SWEEP_JOB, self._drain_seconds_max)
        enqueued = self._enqueue(due) if due else 0
        if trim_due:
            self._trim_at = self._clock() + TRIM_INTERVAL_SECONDS
        return enqueued

    def _sweep_is_due(self) -> bool:
        """Look for expired holds, once an interval."""
        if self._sweeper is None or self._clock() < self._sweep_at:
            return False
        self._sweep_at = self._clock() + SWEEP_INTERVAL_SECONDS
        return bool(self._sweeper.shards_due())

    def _enqueue(self, due: dict[str, "EnqueueData"]) -> int:
        """Enqueue those of `due` that are not queued, unless the queue keeps changing."""
        for _ in range(ENQUEUE_TRIES_MAX):
            with self._queue.connection.pipeline() as pipe:
                pipe.watch(self._queue.key)  # type: ignore[no-untyped-call]
                queued = {_purpose(job_id) for job_id in self._queue.job_ids}
                jobs = [job for name, job in due.items() if name not in queued]
                if not jobs:
                    return 0
                pipe.multi()
                self._queue.enqueue_many(jobs, pipeline=pipe)
                try:
                    pipe.execute()
                except WatchError:
                    continue
                return len(jobs)
        return 0

    def _job(self, name: str, path: str, *arguments: float) -> "EnqueueData":
        # The time makes the id new each tick: an id that is used again stays blocked by a failure.
        return Queue.prepare_data(
            path,
            args=arguments,
            timeout=math.ceil(self._drain_seconds_max) + JOB_OVERTIME_SECONDS_MAX,
            result_ttl=0,
            ttl=JOB_TTL_SECONDS,
            failure_ttl=FAILURE_TTL_SECONDS,
            description=name,
            job_id=f"{name}-{time.time_ns() // 1_000_000}",
        )


def _purpose(job_id: str) -> str:
    """Return a job's id without its tick."""
    return job_id.rpartition("-")[0]


def run(settings: Settings, stop: Stop) -> None:
    """Tick until a stop is requested. Outages are logged once and waited out."""
    interval_seconds = settings.tick_interval_ms / 1_000
    wait_seconds = interval_seconds
    ticker: Ticker | None = None
    outage = ""
    with ExitStack() as resources:
        while not stop.requested:
            try:
                ticker = ticker or _build(settings, resources)
                ticker.tick()
            except (FaregateError, RedisError) as error:
                if type(error).__name__ != outage:
                    outage = type(error).__name__
                    _logger.warning("outage, ticking goes on: %s: %s", outage, error)
                wait_seconds = min(wait_seconds * 2, max(interval_seconds, BACKOFF_SECONDS_MAX))
            else:
                if outage:
                    _logger.info("outage is over")
                outage, wait_seconds = "", interval_seconds
            stop.pause(wait_seconds)


def _build(settings: Settings, resources: ExitStack) -> Ticker:
    stream = resources.enter_context(open_stream(settings))
    sweeper = resources.enter_context(open_sweeper(settings))
    queue = open_queue(settings.rq_url, socket_timeout_seconds=QUEUE_TIMEOUT_SECONDS)
    resources.callback(queue.connection.close)
    return Ticker(stream, queue, drain_seconds_max=settings.drain_seconds_max, sweeper=sweeper)


def main(argv: Sequence[str]) -> int:
    """Run the ticker for a worker; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m faregate_worker.ticker")
    parser.add_argument("--parent-pid", type=int, required=True, help="stop when this process ends")
    stop = Stop(parent_pid=parser.parse_args(argv).parent_pid)
    configure_logging()

    def request_stop(*_: Any) -> None:
        stop.request()

    signal.signal(signal.SIGTERM, request_stop)
    # Ctrl-C reaches the whole process group; the worker decides when its ticker ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run(read_settings(), stop)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
