"""Runs a script once, and says for certain whether it may have been run.

redis-py repeats a command that timed out up to ten times by default, which charges eleven times.
So nothing here repeats what may have been executed: a connection that cannot be had means that
nothing was sent, and whatever fails after that leaves the outcome unknown.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Self, TypeAlias

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from faregate.adapters.redis.scripts import Script, load
from faregate.domain.errors import (
    InvalidArgumentError,
    LedgerError,
    LedgerUnavailableError,
    OutcomeUnknownError,
)

CONNECTIONS_MAX = 64

Arguments: TypeAlias = Sequence[bytes | str | int]


class ScriptRunner:
    """Runs scripts on connections of its own."""

    def __init__(self, pool: BlockingConnectionPool) -> None:
        self._pool = pool

    @classmethod
    def from_url(cls, url: str, timeout_s: float) -> Self:
        """Make a runner for a server. Nothing is connected before the first script runs."""
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS_MAX,
            timeout=timeout_s,
            protocol=2,
            socket_connect_timeout=timeout_s,
            socket_timeout=None,
            retry=Retry(NoBackoff(), 0),
        )
        return cls(pool)

    async def run(
        self, name: str, keys: Sequence[str], arguments: Arguments, timeout_s: float
    ) -> list[Any]:
        """Run a script.

        Raises:
            LedgerUnavailableError: It was not run.
            OutcomeUnknownError: It may have been run, or may still be.
            InvalidArgumentError: It refused its arguments and wrote nothing.
        """
        script = load(name)
        command = ("EVALSHA", script.sha, len(keys), *keys, *arguments)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._run(script, command)
        except TimeoutError as error:
            raise OutcomeUnknownError(f"no answer from Redis within {timeout_s:.3f} s") from error

    async def ask(self, *command: object, timeout_s: float) -> Any:
        """Send a command that only reads.

        Raises:
            LedgerUnavailableError: There is no answer in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self.command(*command)
        except TimeoutError as error:
            raise LedgerUnavailableError(f"no answer from Redis in {timeout_s:.3f} s") from error

    async def _run(self, script: Script, command: Sequence[object]) -> list[Any]:
        try:
            return list(await self.command(*command))
        except NoScriptError:
            # This means "not executed", so sending it once more is safe.
            await self.command("SCRIPT", "LOAD", script.source)
            return list(await self.command(*command))

    async def command(self, *command: object) -> Any:
        """Send one command on a connection and read its reply, once.

        A caller that is cancelled leaves an unread reply behind. Its connection is closed, so that
        nobody else reads it.
        """
        try:
            connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            raise LedgerUnavailableError(f"Redis cannot be reached: {error}") from error
        try:
            await connection.send_command(*command, check_health=False)
            return await connection.read_response()
        except NoScriptError:
            raise
        except ResponseError as error:
            raise _refusal(error) from error
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            await connection.disconnect(nowait=True)
            raise OutcomeUnknownError(f"the connection to Redis broke: {error}") from error
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            await self._pool.release(connection)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


def _refusal(error: ResponseError) -> Exception:
    """Tell what the caller did wrong from what the server cannot do now."""
    text = str(error)
    if text.startswith("INVALID "):
        return InvalidArgumentError(text.removeprefix("INVALID "))
    if "WRONGTYPE" in text:
        return LedgerError(f"a key of the ledger has been overwritten: {text}")
    return LedgerUnavailableError(f"Redis refused the script: {text}")
