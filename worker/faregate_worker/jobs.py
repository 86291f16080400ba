"""The job that RQ runs, by its dotted path, with JSON arguments, in a process of its own.

It never asks RQ for a retry, because the next tick finds the records that it leaves pending.
"""

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from faregate.bootstrap import open_archive, open_stream, open_sweeper
from faregate.config import Settings, read_settings
from faregate_worker.counts import COUNTS
from faregate_worker.runtime import Stop
from faregate_worker.work import Stopping, Work, WorkLimits

#: The pause of a job after an error that is no outage, in seconds. Without it, failing jobs would
#: follow as fast as processes can be forked.
FAILURE_PAUSE_S = 1.0

_logger = logging.getLogger(__name__)


def work(seconds_max: float) -> None:
    """Drain all free shards and end expired holds, until the time is over or SIGTERM comes."""
    stop = Stop(parent_pid=os.getppid())
    with _stopping(stop), _paced():
        work_on(read_settings(), stop, seconds_max)


def work_on(settings: Settings, stop: Stopping, seconds_max: float) -> None:
    """Do the work of a job in this process.

    Raises:
        ConfigurationError: Redis, Postgres or the settings belong to different ledgers.
    """
    limits = WorkLimits(batch_size_max=settings.batch_size_max, seconds_max=seconds_max)
    with (
        open_stream(settings) as stream,
        open_archive(settings) as archive,
        open_sweeper(settings) as sweeper,
    ):
        work = Work(
            stream,
            archive,
            sweeper,
            limits=limits,
            counts=COUNTS,
            stop=stop,
        )
        drained = work.run()
    # A busy worker stores many batches a second, so normal batches are logged as debug.
    _logger.log(
        logging.WARNING if drained.dead_letters else logging.DEBUG,
        "drained read=%d inserted=%d repeated=%d dead_letters=%d trimmed=%d",
        drained.read,
        drained.inserted,
        drained.repeated,
        drained.dead_letters,
        drained.trimmed,
    )


@contextmanager
def _stopping(stop: Stop) -> Iterator[None]:
    """Turn SIGTERM into a stop request."""

    def request(*_: Any) -> None:
        stop.request()

    before = signal.signal(signal.SIGTERM, request)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _paced() -> Iterator[None]:
    """Delay the end of a failed job."""
    try:
        yield
    except Exception:
        time.sleep(FAILURE_PAUSE_S)
        raise
