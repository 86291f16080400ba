"""Common parts of the worker's processes: the queue, logging, and stop requests."""

import logging
import os
import re
import time
from collections.abc import Callable
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from rq import Queue
from rq.serializers import JSONSerializer

from faregate.adapters.redis.sentinels import sentinel_pool
from faregate.adapters.redis.urls import QUEUE_SETTING, check_url
from faregate.config import QUEUE_NAME, LogFormat
from faregate.domain.errors import ConfigurationError, FaregateError
from faregate.domain.redis_url import QUEUE_IN_CLUSTER, RedisKind
from faregate.logs import JsonFormatter

CONNECT_TIMEOUT_S = 5.0

#: The longest time until a stop request is noticed, in seconds.
_NOTICE_S_MAX = 0.1
_OUTAGE_PAUSE_S = 1.0
_TEXT = "%(asctime)s %(levelname)s %(name)s[%(process)d] %(message)s"
_SECRET = re.compile(r"(?<=://)\S*@|(?<=password=)\S+")

_logger = logging.getLogger(__name__)


def open_queue(url: str, *, socket_timeout_s: float) -> Queue:
    """Return the queue at `url`, a server or a service behind sentinels; connects on first use.

    Jobs are JSON, since with pickle anybody who can write to the queue's Redis could run code in
    the worker. Commands are sent once; the next tick makes up for lost ones.
    """
    parsed = check_url(url, QUEUE_SETTING)
    options: dict[str, Any] = {
        "socket_timeout": socket_timeout_s,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
    }
    if parsed.kind is RedisKind.SENTINEL:
        connection = Redis.from_pool(sentinel_pool(parsed, **options))
    else:
        connection = Redis.from_url(url, **options)
    return Queue(QUEUE_NAME, connection=connection, serializer=JSONSerializer)


def require_no_cluster(queue: Queue) -> None:
    """Ask the server of a queue whether it is a node of a Redis Cluster.

    Raises:
        ConfigurationError: It is one, and RQ's transactions would reach into other nodes.
        RedisError: It does not answer.
    """
    if queue.connection.info("cluster").get("cluster_enabled"):
        raise ConfigurationError(f"{QUEUE_SETTING} names a node of a cluster: {QUEUE_IN_CLUSTER}")


class Stop:
    """A stop request to this process, by a signal or by the death of its parent."""

    def __init__(self, *, parent_pid: int | None = None) -> None:
        self._parent_pid = parent_pid
        self._signalled = False

    @property
    def requested(self) -> bool:
        """Whether to stop now."""
        orphaned = self._parent_pid is not None and os.getppid() != self._parent_pid
        return self._signalled or orphaned

    def request(self) -> None:
        """Request a stop. It takes no lock, so it is safe in a signal handler."""
        self._signalled = True

    def pause(self, seconds: float) -> None:
        """Wait for `seconds`, or less if a stop is requested meanwhile."""
        deadline = time.monotonic() + seconds
        while not self.requested and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _NOTICE_S_MAX))


def repeat(step: Callable[[], bool], stop: Stop, interval_s: float, *, failure: str) -> None:
    """Repeat a step until a stop is requested, with a pause unless there is more to do.

    An outage is logged once, and the step is repeated until it ends.

    Args:
        step: The step, which returns whether there is more to do.
        stop: The stop request.
        interval_s: The pause, in seconds; after an error at least a second.
        failure: The effect of an outage, for the log.
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
        # RQ logs a long traceback of redis-py for every outage; its last line is enough.
        text, record.exc_info = f"{text} {record.exc_info[1]}", None
    elif record.exc_info:
        record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
    record.msg, record.args = redact(text), None
    return True


def configure_logging(form: LogFormat = LogFormat.TEXT) -> None:
    """Log to standard error, one line for each event, unless logging is configured."""
    handler = logging.StreamHandler()
    handler.addFilter(tidy_record)
    handler.setFormatter(JsonFormatter() if form is LogFormat.JSON else logging.Formatter(_TEXT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
