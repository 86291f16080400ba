"""Refusals of a server: which ones it gives before it executes anything, and what others mean."""

from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import RedisError

from faregate.adapters.redis import scripts
from faregate.adapters.redis.answered import AnswerLog
from faregate.adapters.redis.clock import ShardClocks
from faregate.adapters.redis.keys import Shard
from faregate.adapters.redis.urls import cluster_error
from faregate.domain.durability import Durability
from faregate.domain.errors import (
    FaregateError,
    InvalidArgumentError,
    LedgerCorruptError,
    LedgerUnavailableError,
    OutcomeUnknownError,
)

MOVED: Final = "MOVED"
IN_PLACE: Final = {"ASK", "TRYAGAIN"}
READONLY: Final = "READONLY"
REREAD: Final = {"CLUSTERDOWN", "LOADING", "MASTERDOWN", READONLY}
_NAMED: Final = {MOVED} | IN_PLACE | REREAD
#: An error with one of these words came from inside a script.
_MIDWAY: Final = "user_script", "user_function"


@dataclass(frozen=True, slots=True)
class Request:
    """A packed command on one shard."""

    shard: Shard
    packed: bytes
    #: The script that it runs; empty for none.
    script: str = ""
    #: The durability that its reply waits for.
    durability: Durability = Durability.MEMORY


@dataclass(frozen=True, slots=True)
class Executed:
    """The reply to a request."""

    reply: Any
    #: The clocks of the server that executed it, and the log of the link by which it was sent.
    clocks: ShardClocks
    log: AnswerLog | None


def is_unexecuted(error: RedisError) -> bool:
    """Return whether a server refused a command before executing it, and sending again may help."""
    is_named = error.status_code in _NAMED or scripts.is_unknown(error)
    return is_named and not any(word in str(error) for word in _MIDWAY)


def refusal(error: RedisError) -> FaregateError:
    """Return the error of the domain for an error of the server on a script.

    The server may refuse a script before it runs: out of memory, as a replica, or while it loads
    its data. A script meets a key of another type before it writes. Any other error inside a script
    is a bug of ours, and its outcome is unknown.
    """
    text = str(error)
    of_cluster = cluster_error(error)
    if of_cluster is not None:
        return of_cluster
    if text.startswith("INVALID "):
        return InvalidArgumentError(text.removeprefix("INVALID "))
    if "WRONGTYPE" in text:
        return LedgerCorruptError(f"a key of the ledger was overwritten: {text}")
    if "user_script" in text or "user_function" in text:
        return OutcomeUnknownError(f"a script failed: {text}")
    return LedgerUnavailableError(f"Redis refused: {text}")


def text_of(error: RedisError) -> str:
    """Return an error with its code, which redis-py cuts off."""
    return f"{error.status_code or type(error).__name__} {error}"
