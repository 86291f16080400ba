"""What the worker's two processes share: the queue, logging, and how they are asked to stop."""

import logging
import os
import re
import time
from collections.abc import Callable

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from rq import Queue
from rq.serializers import JSONSerializer

from faregate.adapters.redis.urls import QUEUE_SETTING, check_url
from faregate.config import QUEUE_NAME, LogFormat
from faregate.domain.errors import FaregateError
from faregate.logs import JsonFormatter

CONNECT_TIMEOUT_S = 5.0

#: How long a stop can go unnoticed.
_NOTICE_S_MAX = 0.1
_OUTAGE_PAUSE_S = 1.0
_TEXT = "%(asctime)s %(levelname)s %(name)s[%(process)d] %(message)s"
_SECRET = re.compile(r"(?<=://)\S*@|(?<=password=)\S+")

_logger = logging.getLogger(__name__)


def open_queue(url: str, *, socket_timeout_s: float) -> Queue:
    """Return the queue at `url`; connects on first use.

    Jobs are JSON on both ends: with pickle, whoever can write to the queue's Redis could run any
    code in the worker. Commands are sent once: what is lost is made up for by the next tick.
    """
    connection = Redis.from_url(
        check_url(url, QUEUE_SETTING),
        socket_timeout=socket_timeout_s,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )
    return Queue(QUEUE_NAME, connection=connection, serializer=JSONSerializer)


class Stop:
    """Whether this process was asked to stop, by a signal or by the death of its parent."""

    def __init__(self, *, parent_pid: int | None = None) -> None:
        self._parent_pid = parent_pid
        self._signalled = False

    @property
    def requested(self) -> bool:
        """Whether to stop now."""
        orphaned = self._parent_pid is not None and os.getppid() != self._parent_pid
        return self._signalled or orphaned

    def request(self) -> None:
        """Ask to stop. Safe to call in a signal handler: it takes no lock."""
        self._signalled = True

    def pause(self, seconds: float) -> None:
        """Wait for `seconds`, or less if a stop is requested meanwhile."""
        deadline = time.monotonic() + seconds
        while not self.requested and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _NOTICE_S_MAX))


def repeat(step: Callable[[], bool], stop: Stop, interval_s: float, *, failure: str) -> None:
    """Do something until a stop is requested, with a pause unless there is more to do at once.

    An outage is logged once, as a failure, and waited out.

    Args:
        step: Says whether there is more to do.
        stop: Says when to stop.
        interval_s: How long to pause, in seconds; after an outage a second at least.
        failure: What an outage means.
    """
    has_failed = False
    while not stop.requested:
        has_more = False
        try:
            has_more = step()
            has_failed = False
        except (FaregateError, RedisError) as error:
            if not has_failed:
                _logger.warning("outage began, %s: %s", failure, error)
            has_failed = True
        if not has_more:
            stop.pause(max(interval_s, _OUTAGE_PAUSE_S) if has_failed else interval_s)


def redact(text: str) -> str:
    """Return `text` without the credentials of URLs and connection strings."""
    return _SECRET.sub(lambda match: "***@" if match[0].endswith("@") else "***", text)


def tidy_record(record: logging.LogRecord) -> bool:
    """Redact a record in place, its traceback included, and let it pass."""
    text = record.getMessage()
    if record.exc_info and isinstance(record.exc_info[1], RedisError):
        # RQ logs a page of redis-py's frames for every outage; its last line says it all.
        text, record.exc_info = f"{text} {record.exc_info[1]}", None
    elif record.exc_info:
        record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
    record.msg, record.args = redact(text), None
    return True


def configure_logging(form: LogFormat = LogFormat.TEXT) -> None:
    """Log to standard error, one line an event, unless the host program has set logging up."""
    handler = logging.StreamHandler()
    handler.addFilter(tidy_record)
    handler.setFormatter(JsonFormatter() if form is LogFormat.JSON else logging.Formatter(_TEXT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
