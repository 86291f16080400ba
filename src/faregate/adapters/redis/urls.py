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

LEDGER_SETTING: Final = "FAREGATE_REDIS_URL"
QUEUE_SETTING: Final = "FAREGATE_QUEUE_URL"
#: Options that change the form of replies. For redis-py the options of a URL take precedence over
#: those of the caller, and every value of `decode_responses` is true, even `false`.
_OPTIONS_OF_OURS = ("decode_responses", "encoding", "encoding_errors", "protocol")
_OF_A_CLUSTER = (
    MovedError,
    AskError,
    ClusterCrossSlotError,
    ClusterDownError,
    TryAgainError,
)


def check_url(url: str, setting: str = LEDGER_SETTING) -> str:
    """Return a URL if redis-py accepts it and it does not change the form of replies.

    Args:
        url: The URL. Errors do not quote it, since it may hold a password.
        setting: The variable to name in an error.

    Raises:
        ConfigurationError: The URL cannot be used; the error names the option to remove.
    """
    options = parse_qs(urlsplit(url).query, keep_blank_values=True)
    for name in _OPTIONS_OF_OURS:
        if name in options:
            raise ConfigurationError(
                f"{setting} has the option {name}, which is not for this URL to set: replies are "
                f"read as bytes of RESP2; remove {name}=..."
            )
    try:
        # Made only for its errors; nothing connects.
        ConnectionPool.from_url(url).make_connection()
    except (TypeError, ValueError):
        # The message of redis-py may quote a part of a password.
        raise ConfigurationError(
            f"{setting} is no URL such as redis://host:port/number, or has an option after its ? "
            "that redis-py does not know, or whose value is ill-formed"
        ) from None
    return url


def cluster_error(error: Exception) -> ConfigurationError | None:
    """Return the error for an answer that only a node of a Redis Cluster gives; None for others."""
    if not isinstance(error, _OF_A_CLUSTER) or isinstance(error, MasterDownError):
        return None
    return ConfigurationError(
        "Redis Cluster is not supported yet, and this server is a node of one: let "
        f"{LEDGER_SETTING} name a server outside a cluster ({type(error).__name__})"
    )


def check_no_cluster(error: Exception) -> None:
    """Check that an error does not come from a node of a Redis Cluster.

    Raises:
        ConfigurationError: The error comes from a node of a cluster.
    """
    found = cluster_error(error)
    if found is not None:
        raise found from error
