"""What surrounds the drain: its jobs, the health check and the log."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from faregate.config import Settings
from faregate.domain.errors import ConfigurationError
from faregate_worker import jobs
from faregate_worker.runtime import Stop, redact, tidy_record
from faregate_worker.ticker import JOB


def test_a_job_that_fails_fails_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that stays is recorded by RQ, once a second at most."""

    @contextmanager
    def open_stream(_: Settings) -> Iterator[None]:
        raise ConfigurationError("no")
        yield

    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    monkeypatch.setattr(jobs, "open_stream", open_stream)

    with pytest.raises(ConfigurationError):
        jobs.work(1.0)

    assert pauses == [jobs.FAILURE_PAUSE_S]


def logged(message: str, error: Exception) -> str:
    """What the log shows of an error that was raised and caught."""
    try:
        raise error
    except type(error) as caught:
        trace = (type(caught), caught, caught.__traceback__)
    record = logging.LogRecord("rq.worker", logging.ERROR, __file__, 1, message, None, trace)
    assert tidy_record(record)
    return logging.Formatter().format(record)


def test_an_outage_is_one_line_without_secrets() -> None:
    """RQ logs the frames of redis-py, and errors quote URLs; neither reaches the log."""
    text = logged("quitting...", RedisConnectionError("cannot reach redis://:s3cret@host"))

    assert text == "quitting... cannot reach redis://***@host"


def test_a_traceback_keeps_its_frames_and_loses_its_secrets() -> None:
    """A fault that is no outage is shown in full, but for credentials."""
    text = logged("job failed", ValueError("bad: postgresql://u:s3cret@host/db"))

    assert "Traceback" in text
    assert text.endswith("ValueError: bad: postgresql://***@host/db")


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (
            "cannot reach redis://:s3cret@host:6379/0 now",
            "cannot reach redis://***@host:6379/0 now",
        ),
        ("postgresql://u:p@ss@host/db", "postgresql://***@host/db"),
        ("host=db password=s3cret user=u", "host=db password=*** user=u"),
        ("nothing@home to hide", "nothing@home to hide"),
    ],
    ids=["redis", "password with an at sign", "connection string", "plain text"],
)
def test_no_password_reaches_the_log(text: str, redacted: str) -> None:
    """URLs and connection strings lose their credentials before a line is written."""
    assert redact(text) == redacted


def test_the_job_exists_where_the_ticker_says() -> None:
    """A dotted path is only text; this is what holds it to the code."""
    module, _, name = JOB.rpartition(".")

    assert callable(getattr(import_module(module), name))


def test_a_ticker_whose_parent_died_stops() -> None:
    """No ticker goes on beside the one of the next worker."""
    assert not Stop(parent_pid=os.getppid()).requested
    assert Stop(parent_pid=os.getpid()).requested
