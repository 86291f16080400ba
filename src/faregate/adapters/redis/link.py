"""One connection to Redis on which many commands are under way at once."""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError, ResponseError

Argument: TypeAlias = bytes | str | int
#: Packs a command for `Link.send`.
pack_command: Callable[[tuple[Argument, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]

#: Replies that redis-py takes for the end of the connection, and that are replies like others: the
#: command was refused.
_REFUSALS = (ResponseError, BusyLoadingError, AuthenticationError)


class LinkLostError(Exception):
    """The connection broke before a reply came. The command may have been executed."""


#: Takes a reply: a value, an error of the server, or a `LinkLostError`. It raises nothing.
TakeReply: TypeAlias = Callable[[Any], None]


class Link:
    """Sends commands in order, and gives each reply to the one who asked.

    A reply comes in its turn even when nobody waits for it any more, so that no reply ever reaches
    another caller.
    """

    def __init__(self, connection: AbstractConnection, *, silence_s_max: float) -> None:
        """Take over a connection that is ready.

        Args:
            connection: The connection; nobody else reads or writes on it.
            silence_s_max: After how long without any reply, where one is due, it is closed.
        """
        self._connection = connection
        self._silence_s_max = silence_s_max
        self._loop = asyncio.get_running_loop()
        self._due: deque[TakeReply] = deque()
        self._heard_at_s = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._why_closed = ""
        self._reading = asyncio.create_task(self._read())

    @property
    def is_open(self) -> bool:
        """Whether commands can be sent."""
        return not self._why_closed

    @property
    def silence_s(self) -> float:
        """For how long a reply has been due and none has come."""
        return self._loop.time() - self._heard_at_s if self._due else 0.0

    async def send(self, packed: bytes, take: TakeReply) -> None:
        """Send a command, and let `take` have its reply.

        This waits only where the server takes nothing more.
        """
        if not self.is_open:
            take(LinkLostError(self._why_closed))
            return
        if not self._due:
            self._heard_at_s = self._loop.time()
        self._due.append(take)
        if self._watch is None:
            self._watch = self._loop.call_later(self._silence_s_max, self._look)
        try:
            # It writes before it waits for anything, so commands go out in the order of `_due`.
            await self._connection.send_packed_command(packed, check_health=False)
        except (RedisError, OSError) as error:
            self.close(str(error))

    async def ask(self, packed: bytes) -> Any:
        """Send a command and return its reply.

        Raises:
            LinkLostError: The connection broke.
            RedisError: The server refused the command.
        """
        future: asyncio.Future[Any] = self._loop.create_future()

        def take(reply: Any) -> None:
            if not future.done():
                future.set_result(reply)

        await self.send(packed, take)
        reply = await future
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def _read(self) -> None:
        """Read replies until the connection ends."""
        read = self._connection.read_response
        try:
            while True:
                try:
                    reply = await read(
                        disable_decoding=True, timeout=math.inf, disconnect_on_error=False
                    )
                except _REFUSALS as error:
                    reply = error
                self._heard_at_s = self._loop.time()
                self._due.popleft()(reply)
        except (RedisError, OSError, IndexError) as error:
            self.close(str(error) or type(error).__name__)
        finally:
            self.close("nothing is read any more")
            await self._connection.disconnect(nowait=True)

    def _look(self) -> None:
        """Close the connection where a reply has been due for too long."""
        self._watch = None
        if not self._due:
            return
        left_s = self._silence_s_max - self.silence_s
        if left_s <= 0:
            self.close(f"no reply for {self._silence_s_max:.1f} s")
        else:
            self._watch = self._loop.call_later(left_s, self._look)

    def close(self, why: str) -> None:
        """End the connection. Replies that are due are lost."""
        if self._why_closed:
            return
        self._why_closed = why or "closed"
        if self._watch is not None:
            self._watch.cancel()
        while self._due:
            self._due.popleft()(LinkLostError(self._why_closed))
        if asyncio.current_task() is not self._reading:
            self._reading.cancel()

    async def wait_closed(self) -> None:
        """Wait until nothing of it is left."""
        await asyncio.wait([self._reading])
