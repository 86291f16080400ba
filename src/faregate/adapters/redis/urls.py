"""Checks the URL of a Redis, and detects nodes of a cluster."""

from typing import Final
from urllib.parse import parse_qs, urlsplit

from redis import ConnectionPool
from redis.exceptions import (
    AskError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    TryAgainError,
)

from faregate.domain.errors import ConfigurationError
from faregate.domain.redis_url import RedisUrl

LEDGER_SETTING: Final = "FAREGATE_REDIS_URL"
QUEUE_SETTING: Final = "FAREGATE_QUEUE_URL"
#: Options that change the form of replies. For redis-py the options of a URL take precedence over
#: those of the caller, and every value of `decode_responses` is true, even `false`.
_OPTIONS_OF_OURS = ("decode_responses", "encoding", "encoding_errors", "protocol")
#: MOVED is an AskError of redis-py; MASTERDOWN, which any replica answers, is a ClusterDownError.
_OF_A_CLUSTER = (MovedError, AskError, ClusterCrossSlotError, ClusterDownError, TryAgainError)


def check_url(url: str, setting: str = LEDGER_SETTING) -> RedisUrl:
    """Return the parts of a URL that redis-py accepts and that does not change the form of replies.

    Args:
        url: The URL. Errors do not quote it, since it may hold a password.
        setting: The variable to name in an error.

    Raises:
        ConfigurationError: The URL cannot be used; the error names the option to remove.
    """
    try:
        parsed = RedisUrl.parse(url)
    except ConfigurationError as error:
        raise ConfigurationError(f"{setting}: {error}") from None
    options = parse_qs(urlsplit(parsed.server_url).query, keep_blank_values=True)
    for name in _OPTIONS_OF_OURS:
        if name in options:
            raise ConfigurationError(
                f"{setting} has the option {name}, which is not for this URL to set: replies are "
                f"read as bytes of RESP2; remove {name}=..."
            )
    try:
        # Made only for its errors; nothing connects.
        ConnectionPool.from_url(parsed.server_url).make_connection()
    except (TypeError, ValueError):
        # The message of redis-py may quote a part of a password.
        raise ConfigurationError(
            f"{setting} is no URL such as redis://host:port/number, or has an option after its ? "
            "that redis-py does not know, or whose value is ill-formed"
        ) from None
    return parsed


def cluster_error(error: Exception) -> ConfigurationError | None:
    """Return the error of a URL of one server that names a node of a cluster; None for others."""
    if not isinstance(error, _OF_A_CLUSTER) or isinstance(error, MasterDownError):
        return None
    return ConfigurationError(
        "this server is a node of a Redis Cluster, which has the keys of other nodes, too: let"
        f" {LEDGER_SETTING} begin with redis+cluster:// ({type(error).__name__})"
    )
