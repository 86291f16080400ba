"""The job that RQ runs, by its dotted path and with JSON arguments, in a process of its own.

It never asks RQ for a retry, because whatever it leaves behind is found pending by the next tick.
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

#: How long a job lingers after a fault that is no outage: without this pause it would be met by a
#: new job as fast as processes can be forked.
FAILURE_PAUSE_S = 1.0

_logger = logging.getLogger(__name__)


def work(seconds_max: float) -> None:
    """Drain all free shards and end expired holds, until time is up or SIGTERM asks to stop."""
    stop = Stop(parent_pid=os.getppid())
    with _stopping(stop), _paced():
        work_on(read_settings(), stop, seconds_max)


def work_on(settings: Settings, stop: Stopping, seconds_max: float) -> None:
    """Do the work of a job in this process.

    Raises:
        ConfigurationError: Redis and Postgres are of different ledgers, or the settings are.
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
    # A busy worker stores many batches a second, so only what wants an eye is logged as a rule.
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
    """Let SIGTERM ask for a stop."""

    def request(*_: Any) -> None:
        stop.request()

    before = signal.signal(signal.SIGTERM, request)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _paced() -> Iterator[None]:
    """End a job that failed slowly."""
    try:
        yield
    except Exception:
        time.sleep(FAILURE_PAUSE_S)
        raise
