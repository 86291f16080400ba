"""Runs rare scripts and single commands beside the lanes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID

from redis.exceptions import RedisError

from faregate.adapters.redis import keys, scripts
from faregate.adapters.redis.confirming import UnconfirmedError
from faregate.adapters.redis.link import Argument, LinkLostError, pack_command
from faregate.adapters.redis.nodes import Endpoint
from faregate.adapters.redis.refusals import Executed, Request, refusal
from faregate.adapters.redis.replies import error_of
from faregate.adapters.redis.resending import Resending, ask_once
from faregate.domain.durability import Durability
from faregate.domain.errors import OutcomeUnknownError

_T = TypeVar("_T")

#: The timeout of one try, in seconds.
TRY_S_MAX = 1.0
#: The number of tries if the outcome is unknown. Each script recognises its own retry.
TRIES = 2


class ScriptRunner:
    """Runs scripts on one user, over the link of the lane to its server."""

    def __init__(
        self, resending: Resending, shards: tuple[keys.Shard, ...], *, is_cluster: bool
    ) -> None:
        self._resending = resending
        self._is_cluster = is_cluster
        self.shards = shards

    def shard(self, user_id: UUID) -> keys.Shard:
        """Return the shard of a user."""
        return keys.shard_for(user_id, self.shards)

    async def run(
        self,
        name: str,
        user_id: UUID,
        *arguments: Argument,
        account: bytes | None = None,
        durability: Durability = Durability.MEMORY,
    ) -> list[Any]:
        """Run a script on the account of a user; return its reply, which begins with a status.

        Args:
            name: The name of the script.
            user_id: The user of the account.
            *arguments: The arguments of the script, see its header.
            account: The key of a shadow account.
            durability: How safe it is to be before this returns.

        Raises:
            LedgerUninitialisedError: Redis was wiped.
            LedgerCorruptError: A value that it needs cannot be read.
            LedgerUnavailableError: It did not run.
            OutcomeUnknownError: It may have run, or may run later, or is not so safe.
            ConfigurationError: The server cannot make it so safe.
            InvalidArgumentError: It refused its arguments and wrote nothing.
        """
        shard = self.shard(user_id)
        names = shard.state, shard.stream, account or shard.account(user_id.bytes)
        guards = (shard.guard,) if self._is_cluster else ()
        count = len(names) + len(guards)
        command = (*scripts.load(name).run_command, count, *names, *guards, *arguments)
        done = await self._ask(Request(shard, pack_command(command), name, durability))
        reply: list[Any] = done.reply
        done.clocks.observe([(shard.number, 0, reply[3])])
        status = reply[0] = reply[0].decode()
        if status in {"uninitialised", "corrupt"}:
            raise error_of(status, f"{name} of user {user_id}")
        return reply

    async def command(self, shard: keys.Shard, *command: Argument, script: str = "") -> Any:
        """Send a command on a shard that may be sent twice; return its reply. Raises as `run`.

        Args:
            shard: The shard.
            *command: The command.
            script: The name of the script that it runs, if it does.
        """
        return (await self._ask(Request(shard, pack_command(command), script))).reply

    async def command_at(self, endpoint: Endpoint, *command: Argument) -> Any:
        """Send a command to one server, as `command` does, whatever shards it has."""
        request = Request(self.shards[0], pack_command(command))
        return await _tried(lambda until_s: ask_once(endpoint.wire, request, until_s))

    async def _ask(self, request: Request) -> Executed:
        return await _tried(lambda until_s: self._resending.ask(request, until_s))


async def _tried(ask: Callable[[float], Awaitable[_T]]) -> _T:
    """Ask until a time, and once more if the outcome is unknown."""
    for _ in range(TRIES - 1):
        try:
            return await _once(ask)
        except OutcomeUnknownError:
            continue
    return await _once(ask)


async def _once(ask: Callable[[float], Awaitable[_T]]) -> _T:
    try:
        return await ask(asyncio.get_running_loop().time() + TRY_S_MAX)
    except TimeoutError as error:
        raise OutcomeUnknownError(f"no answer from Redis in {TRY_S_MAX:.0f} s") from error
    except LinkLostError as error:
        raise OutcomeUnknownError(f"the connection to Redis broke: {error}") from error
    except UnconfirmedError as error:
        raise OutcomeUnknownError(str(error)) from error
    except RedisError as error:
        raise refusal(error) from error
