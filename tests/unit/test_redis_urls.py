"""Options in a Redis URL: what would change replies is refused before anything is connected."""

from collections.abc import Callable

import pytest

from faregate import Settings, build_gate
from faregate.adapters.redis.urls import check_url
from faregate.bootstrap import open_stream, open_sweeper
from faregate.domain.errors import ConfigurationError
from faregate_worker.runtime import open_queue

SERVER = "redis://:secret@127.0.0.1:6379/0"


def _open_stream(url: str) -> None:
    with open_stream(Settings(redis_url=url)):
        pass


def _open_sweeper(url: str) -> None:
    with open_sweeper(Settings(redis_url=url)):
        pass


OPENERS: dict[str, Callable[[str], object]] = {
    "FAREGATE_REDIS_URL gate": lambda url: build_gate(Settings(redis_url=url)),
    "FAREGATE_REDIS_URL stream": _open_stream,
    "FAREGATE_REDIS_URL sweeper": _open_sweeper,
    "FAREGATE_QUEUE_URL queue": lambda url: open_queue(url, socket_timeout_s=1.0),
}


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("decode_responses=true", "decode_responses"),
        ("decode_responses=false", "decode_responses"),
        ("socket_timeout=1&protocol=3", "protocol"),
        ("encoding=latin-1", "encoding"),
        ("no_such_option=1", "does not know"),
        ("socket_timeout=soon", "ill-formed"),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name(opener: str, option: str, named: str) -> None:
    """With the setting, and without the password."""
    with pytest.raises(ConfigurationError, match=named) as caught:
        OPENERS[opener](f"{SERVER}?{option}")
    assert str(caught.value).startswith(opener.split(maxsplit=1)[0])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        SERVER,
        f"{SERVER}?socket_keepalive=true&health_check_interval=30",
        "rediss://127.0.0.1:6379/0?ssl_cert_reqs=required&ssl_check_hostname=true",
        "unix:///run/redis.sock?db=1",
    ],
)
def test_other_options_pass(url: str) -> None:
    """They are redis-py's."""
    assert check_url(url).server_url == url
