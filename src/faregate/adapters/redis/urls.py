"""Which servers the ledger can live on: what a URL may say, and answers of a cluster alone."""

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
#: Options that change what a reply looks like. redis-py lets a URL's options win over those of the
#: caller, and any value of `decode_responses` is true for it, `false` included.
_OPTIONS_OF_OURS = ("decode_responses", "encoding", "encoding_errors", "protocol")
_OF_A_CLUSTER = (
    MovedError,
    AskError,
    ClusterCrossSlotError,
    ClusterDownError,
    TryAgainError,
)


def check_url(url: str, setting: str = LEDGER_SETTING) -> str:
    """Return a URL that redis-py takes, and that leaves replies as they are.

    Args:
        url: The URL. Errors repeat no part of it, since it may hold a password.
        setting: Which variable to name in an error.

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
        # Made for the sake of the error alone; nothing is connected.
        ConnectionPool.from_url(url).make_connection()
    except (TypeError, ValueError):
        # redis-py's own message may quote what was part of a password.
        raise ConfigurationError(
            f"{setting} is no URL such as redis://host:port/number, or has an option after its ? "
            "that redis-py does not know, or whose value is ill-formed"
        ) from None
    return url


def cluster_error(error: Exception) -> ConfigurationError | None:
    """Return what an answer means that only a node of a Redis Cluster gives; None for others."""
    if not isinstance(error, _OF_A_CLUSTER) or isinstance(error, MasterDownError):
        return None
    return ConfigurationError(
        "Redis Cluster is not supported yet, and this server is a node of one: let "
        f"{LEDGER_SETTING} name a server outside a cluster ({type(error).__name__})"
    )


def check_no_cluster(error: Exception) -> None:
    """Do nothing, unless an error is an answer that only a node of a Redis Cluster gives.

    Raises:
        ConfigurationError: It is one.
    """
    found = cluster_error(error)
    if found is not None:
        raise found from error
