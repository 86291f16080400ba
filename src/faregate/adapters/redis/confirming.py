"""Confirms that a replica, or a disk, has what a link has just written.

    calls ──> [a write, if none of them may write] ──> WAIT or WAITAOF ──> replies, all at once

The wait leaves in the same write as the calls, so it costs a call and not a request. A server runs
nothing more on the connection until the wait ends, so each durability has connections of its own.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from faregate.adapters.redis.access import GATE
from faregate.adapters.redis.keys import Shard
from faregate.adapters.redis.link import Argument, Link, LinkLostError, TakeReply, pack_command
from faregate.domain.durability import Durability
from faregate.domain.errors import ConfigurationError

#: The part of a decision timeout for which a server waits for copies.
_WAIT_PART: Final = 0.8
#: How long the key lives that is written only so that something is written, in milliseconds.
_TOUCHED_MS: Final = 1_000
_WAITS: Final[dict[Durability, tuple[Argument, ...]]] = {
    Durability.REPLICA: ("WAIT", 1),
    Durability.DISK: ("WAITAOF", 1, 1),
}
#: The same with few copies, to find out whether a server can wait.
_PROBES: Final[dict[Durability, tuple[Argument, ...]]] = {
    Durability.REPLICA: ("WAIT", 0, 1),
    Durability.DISK: ("WAITAOF", 1, 0, 1),
}
#: A part of the error of both from a server that has become a replica.
_ON_REPLICA: Final = "cannot be used with replica"
_COPIES: Final = {
    Durability.REPLICA: "a replica",
    Durability.DISK: "its disk and that of a replica",
}


class UnconfirmedError(Exception):
    """A server has executed a command, and has not confirmed its copies in time."""


class Confirmation:
    """The wait for the copies of one durability."""

    def __init__(self, durability: Durability, timeout_ms: int) -> None:
        """Make the wait for calls with a decision timeout, in milliseconds."""
        self.durability = durability
        wait_ms = max(1, int(timeout_ms * _WAIT_PART))
        self._packed = pack_command((*_WAITS[durability], wait_ms))
        #: What is missing if the wait ends too late or without a result.
        self.problem = (
            f"Redis has not confirmed a copy on {_COPIES[durability]} within {wait_ms} ms:"
            " is a replica connected, and up to date?"
        )

    async def check(self, connection: AbstractConnection) -> None:
        """Check on a new connection that the server can wait for copies.

        A server that has become a replica passes, since it refuses each call with MOVED
        or READONLY.

        Raises:
            ConfigurationError: It cannot, or the user may not.
            RedisError, OSError: It does not answer.
        """
        try:
            await connection.send_command(*_PROBES[self.durability])
            await connection.read_response()
        except NoPermissionError as error:
            raise ConfigurationError(
                f"durability {self.durability}: the Redis user lacks a right: {error};"
                f" `faregate access --part redis` prints what {GATE.name} needs"
            ) from error
        except ResponseError as error:
            if _ON_REPLICA in str(error):
                return
            raise ConfigurationError(
                f"durability {self.durability}: this Redis cannot wait for its copies: {error}."
                " WAITAOF needs Redis 7.2 or Valkey, and `appendonly yes`"
            ) from error

    def send(
        self, link: Link, packed: bytes, takes: Sequence[TakeReply], touched: Shard | None = None
    ) -> Sequence[Any]:
        """Send commands and the wait in one write; pass all replies on when it ends.

        An error of the server is passed on as it came. Every other reply becomes an
        `UnconfirmedError` if the copies were not made in time, or a `LinkLostError` if the link
        broke before the answer.

        Args:
            link: The link.
            packed: The commands.
            takes: Receives the reply to each command.
            touched: A shard of the server in which something is written. Without this a server may
                confirm commands that only read, before it has the copies of what they read.

        Returns:
            The replies, as they come.
        """
        replies: list[Any] = []
        write: tuple[bytes, ...] = ()
        if touched is not None:
            write = (pack_command(("SET", touched.touched, "", "PX", _TOUCHED_MS)),)
        note: list[TakeReply] = [replies.append] * (len(takes) + len(write))
        link.send(
            b"".join((packed, *write, self._packed)), *note, partial(self._pass_on, takes, replies)
        )
        return replies

    async def ask(self, link: Link, packed: bytes, touched: Shard) -> Any:
        """Send a command and the wait, and return its reply.

        Raises:
            LinkLostError: The connection broke.
            RedisError: The server refused the command.
            UnconfirmedError: The copies were not made in time.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def take(reply: Any) -> None:
            if not future.done():
                future.set_result(reply)

        self.send(link, packed, [take], touched)
        reply = await future
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _pass_on(self, takes: Sequence[TakeReply], replies: Sequence[Any], waited: Any) -> None:
        problem = self._problem_of(replies[len(takes) :], waited)
        for take, reply in zip(takes, replies, strict=False):
            take(reply if problem is None or isinstance(reply, RedisError) else problem)

    def _problem_of(self, written: Sequence[Any], waited: Any) -> Exception | None:
        """Return why commands are not confirmed."""
        failed = [one for one in (*written, waited) if isinstance(one, Exception)]
        if any(isinstance(one, LinkLostError) for one in failed):
            return failed[-1]
        if failed:
            return UnconfirmedError(f"Redis cannot confirm a copy: {failed[-1]}")
        # WAIT tells how many replicas have it; WAITAOF, on how many disks it is here and there.
        if min(waited if isinstance(waited, list) else [waited]) >= 1:
            return None
        return UnconfirmedError(self.problem)
