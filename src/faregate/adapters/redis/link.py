"""One connection to Redis with many commands in flight."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import hiredis
from redis.asyncio.connection import (  # type: ignore[attr-defined]
    AbstractConnection,
    BaseParser,
)

from faregate.adapters.redis.answered import AnswerLog

Argument: TypeAlias = bytes | str | int
#: Packs a command for `Link.send`.
pack_command: Callable[[tuple[Argument, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]


class LinkLostError(Exception):
    """The connection broke before a reply came. The command may have been executed."""


#: Receives a reply: a value, an error of the server, or a `LinkLostError`. It must not raise.
TakeReply: TypeAlias = Callable[[Any], None]


class Link(asyncio.Protocol):
    """Sends commands in order, and passes each reply to its sender.

    redis-py makes the connection: address, TLS, authentication, database. Then a `Link` replaces
    its protocol, since reading through a stream and a task would take two more turns of the loop
    for each reply.

    A reply is read in its turn even if nobody waits for it any more. So no reply reaches another
    caller.
    """

    def __init__(self, connection: AbstractConnection, *, silence_s_max: float) -> None:
        """Take over a connected connection.

        Args:
            connection: The connection, which nothing else may use.
            silence_s_max: How long a reply may be due before the link is closed, in seconds.
        """
        self._silence_s_max = silence_s_max
        self._loop = asyncio.get_running_loop()
        self._due: deque[TakeReply] = deque()
        self._replies = hiredis.Reader(replyError=BaseParser.parse_error)
        self._last_reply_at_s = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._why_closed = ""
        self._is_ending = False
        #: The answers that came by it.
        self.log: AnswerLog | None = None
        self._closed = self._loop.create_future()
        # A reference, since a writer that is garbage-collected closes its transport.
        self._writer = cast("asyncio.StreamWriter", connection._writer)  # noqa: SLF001
        connection._reader = connection._writer = None  # noqa: SLF001
        self._transport = cast("asyncio.Transport", self._writer.transport)
        self._transport.set_protocol(self)

    @property
    def is_open(self) -> bool:
        """Whether commands should be sent."""
        return not self._why_closed and not self._is_ending

    @property
    def silence_s(self) -> float:
        """How long a reply has been due, in seconds."""
        return self._loop.time() - self._last_reply_at_s if self._due else 0.0

    def send(self, packed: bytes, *takes: TakeReply) -> None:
        """Send one command or several in one write, and pass each reply to its `take`.

        Few commands are in flight at once, so there is no flow control.
        """
        if self._why_closed:
            for take in takes:
                take(LinkLostError(self._why_closed))
            return
        if not self._due:
            self._last_reply_at_s = self._loop.time()
        self._due.extend(takes)
        if self._watch is None:
            self._watch = self._loop.call_later(self._silence_s_max, self._check_silence)
        self._transport.write(packed)

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

        self.send(packed, take)
        reply = await future
        if isinstance(reply, Exception):
            raise reply
        return reply

    def data_received(self, data: bytes) -> None:
        """Pass each complete reply to its sender."""
        self._last_reply_at_s = self._loop.time()
        try:
            self._replies.feed(data)
            while (reply := self._replies.gets()) is not False:
                self._due.popleft()(reply)
        except (hiredis.HiredisError, IndexError) as error:
            self.close(f"the replies of Redis cannot be read: {error}")
        if self._is_ending and not self._due:
            self.close("it is not needed any more")

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail all commands in flight."""
        self.close(str(exc) if exc else "Redis closed the connection")
        if not self._closed.done():
            self._closed.set_result(None)

    def _check_silence(self) -> None:
        """Close the connection if a reply has been due for too long."""
        self._watch = None
        if not self._due:
            return
        left_s = self._silence_s_max - self.silence_s
        if left_s <= 0:
            self.close(f"no reply for {self._silence_s_max:.1f} s")
        else:
            self._watch = self._loop.call_later(left_s, self._check_silence)

    def end(self) -> None:
        """Close the connection once all replies have come; nothing more should be sent."""
        self._is_ending = True
        if not self._due:
            self.close("it is not needed any more")

    def close(self, why: str) -> None:
        """Close the connection. Commands in flight fail."""
        if self._why_closed:
            return
        self._why_closed = why or "closed"
        if self.log is not None:
            self.log.is_closed = True
        if self._watch is not None:
            self._watch.cancel()
        while self._due:
            self._due.popleft()(LinkLostError(self._why_closed))
        self._transport.abort()

    def on_closed(self, tell: Callable[[], None]) -> None:
        """Tell when the connection is closed, by either side."""
        self._closed.add_done_callback(lambda _: tell())

    async def wait_closed(self) -> None:
        """Wait until it is closed."""
        await self._closed
