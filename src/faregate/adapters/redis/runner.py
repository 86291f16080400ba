"""Runs a script once, and says for certain whether it may have been run.

redis-py repeats a command that timed out up to ten times by default, which charges eleven times.
So nothing here repeats what may have been executed: a connection that cannot be had in time means
that nothing was sent, and whatever fails after that leaves the outcome unknown.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from faregate.adapters.redis.pool import CONNECT_S_MAX, ConnectionPool
from faregate.adapters.redis.scripts import load
from faregate.adapters.redis.urls import check_no_cluster
from faregate.domain.errors import (
    InvalidArgumentError,
    LedgerError,
    LedgerUnavailableError,
    OutcomeUnknownError,
)

#: For a command that is no script, the wait for a connection included, in seconds.
COMMAND_S_MAX = 2.0

Arguments: TypeAlias = Sequence[bytes | str | int]
_Talk: TypeAlias = Callable[[AbstractConnection], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a call may take."""

    #: In all, the wait for a connection included.
    timeout_s: float
    #: Which part of the time that is left then may be spent on waiting for the answer.
    share: float = 1.0


class ScriptRunner:
    """Runs scripts on connections of its own."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    @classmethod
    def from_url(cls, url: str, connect_s_max: float = CONNECT_S_MAX) -> Self:
        """Make a runner for a server. Nothing is connected before the first script runs."""
        return cls(ConnectionPool.from_url(url, connect_s_max))

    async def run(
        self, name: str, keys: Sequence[str], arguments: Arguments, patience: Patience
    ) -> list[Any]:
        """Run a script.

        Raises:
            LedgerUnavailableError: It was not run.
            OutcomeUnknownError: It may have been run, or may still be.
            InvalidArgumentError: It refused its arguments and wrote nothing.
        """
        script = load(name)
        command = ("EVALSHA", script.sha, len(keys), *keys, *arguments)

        async def talk(connection: AbstractConnection) -> Any:
            try:
                return await _ask(connection, command)
            except NoScriptError:
                # This means "not executed", so sending it once more is safe.
                await _ask(connection, ("SCRIPT", "LOAD", script.source))
                return await _ask(connection, command)

        return list(await self._converse(talk, patience))

    async def command(self, *command: object) -> Any:
        """Send one command and read its reply, once; raises as `run` does."""
        return await self._converse(
            lambda connection: _ask(connection, command), Patience(COMMAND_S_MAX)
        )

    async def _converse(self, talk: _Talk, patience: Patience) -> Any:
        """Take a connection, talk, and give it back, all in time."""
        connection = None
        try:
            async with asyncio.timeout(patience.timeout_s) as bound:
                connection = await self._connection()
                _shorten(bound, patience.share)
                return await self._talk(connection, talk)
        except TimeoutError as error:
            what = f"from Redis within {patience.timeout_s:.3f} s"
            if connection is None:
                raise LedgerUnavailableError(f"no connection {what}") from error
            raise OutcomeUnknownError(f"no answer {what}") from error

    async def _connection(self) -> AbstractConnection:
        try:
            return await self._pool.take()
        except (RedisError, OSError) as error:
            raise LedgerUnavailableError(f"Redis cannot be reached: {error}") from error

    async def _talk(self, connection: AbstractConnection, talk: _Talk) -> Any:
        """Talk on a connection, and give it back.

        A caller that is cancelled leaves an unread reply behind. Its connection is closed, so that
        nobody else reads it.
        """
        try:
            return await talk(connection)
        except ResponseError as error:
            raise _refusal(error) from error
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            await connection.disconnect(nowait=True)
            raise OutcomeUnknownError(f"the connection to Redis broke: {error}") from error
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            self._pool.give_back(connection)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


async def _ask(connection: AbstractConnection, command: Sequence[object]) -> Any:
    await connection.send_command(*command, check_health=False)
    return await connection.read_response()


def _shorten(bound: asyncio.Timeout, share: float) -> None:
    """Leave a part of the time that is left."""
    ends_at_s, now_s = bound.when(), asyncio.get_running_loop().time()
    if share < 1 and ends_at_s is not None:
        bound.reschedule(now_s + (ends_at_s - now_s) * share)


def _refusal(error: ResponseError) -> Exception:
    """Tell what the caller did wrong from what the server cannot do now, or at all."""
    check_no_cluster(error)
    text = str(error)
    if text.startswith("INVALID "):
        return InvalidArgumentError(text.removeprefix("INVALID "))
    if "WRONGTYPE" in text:
        return LedgerError(f"a key of the ledger has been overwritten: {text}")
    return LedgerUnavailableError(f"Redis refused the script: {text}")
