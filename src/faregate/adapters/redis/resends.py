"""Calls that a server did not execute, until they are sent again or their timeout is over."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from redis.exceptions import RedisError

from faregate.adapters.redis.calls import Call
from faregate.adapters.redis.clock import ShardClocks
from faregate.adapters.redis.confirming import UnconfirmedError
from faregate.adapters.redis.link import LinkLostError
from faregate.adapters.redis.refusals import Executed, Request, text_of
from faregate.domain.attempt import Event
from faregate.domain.durability import Durability
from faregate.domain.errors import FaregateError

#: How many calls of a lane may wait to be sent again. Those beyond fail at once.
COUNT_MAX = 256

#: Sends a request again that was refused, until a time of the loop; see `Resending.ask`.
AskAgain: TypeAlias = Callable[[Request, float, RedisError], Awaitable[Executed]]
#: Takes the reply to a call, or the error in place of one, and the clocks of its server.
Take: TypeAlias = Callable[[Call, Any, ShardClocks], None]


class Resends:
    """The calls of a lane that are sent again, in a task each."""

    def __init__(
        self, ask_again: AskAgain, take: Take, clocks: ShardClocks, durability: Durability
    ) -> None:
        self._ask_again = ask_again
        self._take = take
        self._clocks = clocks
        self._durability = durability
        self._calls: dict[asyncio.Task[None], Call] = {}

    def __contains__(self, call: Call) -> bool:
        return call in self._calls.values()

    def add(self, call: Call, until_s: float, refused: RedisError) -> None:
        """Send a call again until a time of the loop."""
        if len(self._calls) >= COUNT_MAX:
            call.fail(Event.NOT_SENT, f"Redis refused: {text_of(refused)}")
            return
        task = asyncio.create_task(self._resend(call, until_s, refused))
        self._calls[task] = call
        task.add_done_callback(self._calls.pop)

    async def _resend(self, call: Call, until_s: float, refused: RedisError) -> None:
        request = Request(call.waiting[0].shard, call.packed, "spend", self._durability)
        try:
            done = await self._ask_again(request, until_s, refused)
        except (
            RedisError,
            LinkLostError,
            UnconfirmedError,
            FaregateError,
            TimeoutError,
        ) as error:
            self._take(call, error, self._clocks)
        else:
            call.log = done.log
            self._take(call, done.reply, done.clocks)
        finally:
            # No caller waits forever, whatever happened.
            call.fail(Event.LOST, "the ledger was closed")

    async def aclose(self) -> None:
        """Fail all calls: they may have been executed."""
        tasks = list(self._calls)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
