"""Runs rare scripts and single commands beside the lane."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from redis.exceptions import RedisError

from faregate.adapters.redis import keys, scripts
from faregate.adapters.redis.clock import ShardClocks
from faregate.adapters.redis.link import Argument, Link, LinkLostError, pack_command
from faregate.adapters.redis.replies import error_of
from faregate.adapters.redis.wire import Wire, refusal
from faregate.domain.errors import LedgerUnavailableError, OutcomeUnknownError

#: The timeout of one try, in seconds.
TRY_S_MAX = 1.0
#: The number of tries if the outcome is unknown. Each script recognises its own retry.
TRIES = 2


class ScriptRunner:
    """Runs scripts on one user, over the link of the lane."""

    def __init__(self, wire: Wire, clocks: ShardClocks, shard_count: int) -> None:
        self._wire = wire
        self._clocks = clocks
        self.shards = keys.shards(shard_count)

    def shard(self, user_id: UUID) -> keys.Shard:
        """Return the shard of a user."""
        return keys.shard_for(user_id, self.shards)

    async def run(
        self, name: str, user_id: UUID, *arguments: Argument, account: bytes | None = None
    ) -> list[Any]:
        """Run a script on the account of a user; return its reply, which begins with a status.

        Args:
            name: The name of the script.
            user_id: The user of the account.
            *arguments: The arguments of the script, see its header.
            account: The key of a shadow account.

        Raises:
            LedgerUninitialisedError: Redis was wiped.
            LedgerCorruptError: A value that it needs cannot be read.
            LedgerUnavailableError: It did not run.
            OutcomeUnknownError: It may have run, or may run later.
            InvalidArgumentError: It refused its arguments and wrote nothing.
        """
        shard = self.shard(user_id)
        names = shard.state, shard.stream, account or shard.account(user_id.bytes)
        command = (*scripts.load(name).run_command, len(names), *names, *arguments)
        reply: list[Any] = await self._ask_again(command, script=name)
        self._clocks.observe([(shard.number, 0, reply[3])])
        status = reply[0] = reply[0].decode()
        if status in {"uninitialised", "corrupt"}:
            raise error_of(status, f"{name} of user {user_id}")
        return reply

    async def command(self, *command: Argument) -> Any:
        """Send a command that may be sent twice, and return its reply; raises as `run` does."""
        return await self._ask_again(command)

    async def _ask_again(self, command: Sequence[Argument], script: str = "") -> Any:
        for _ in range(TRIES - 1):
            try:
                return await self._ask(command, script)
            except OutcomeUnknownError:
                continue
        return await self._ask(command, script)

    async def _ask(self, command: Sequence[Argument], script: str) -> Any:
        link = None
        try:
            async with asyncio.timeout(TRY_S_MAX):
                link = await self._wire.link()
                return await _talk(link, command, script)
        except TimeoutError as error:
            if link is None:
                raise LedgerUnavailableError("no connection to Redis in time") from error
            raise OutcomeUnknownError(f"no answer from Redis in {TRY_S_MAX:.0f} s") from error
        except LinkLostError as error:
            raise OutcomeUnknownError(f"the connection to Redis broke: {error}") from error
        except RedisError as error:
            raise refusal(error) from error


async def _talk(link: Link, command: Sequence[Argument], script: str) -> Any:
    """Send a command, and once more after loading the script if the server did not know it."""
    packed = pack_command(tuple(command))
    try:
        return await link.ask(packed)
    except RedisError as error:
        if not script or not scripts.is_unknown(error):
            raise
        await link.ask(pack_command(scripts.load(script).load))
        return await link.ask(packed)
