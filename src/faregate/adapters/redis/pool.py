"""A bounded number of connections, whose making outlives whoever asked for it.

The deadline of a decision is shorter than a handshake may take on a machine that is busy. Where a
caller who gives up also ends the connection that is being made for it, as with redis-py's own pool,
a burst finds no connection that is ready, and leaves none behind for the next one. So here it goes
on being made, within a bound of its own, for whoever comes next. The same holds while Redis hangs:
nobody waits for more than its own time, and what hung is ready as soon as Redis is back.
"""

import asyncio
from collections.abc import Callable
from typing import Self, TypeAlias

from redis.asyncio import ConnectionPool as RedisConnections
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from faregate.adapters.redis.urls import check_url
from faregate.domain.errors import LedgerUnavailableError

CONNECTIONS_MAX = 64
#: For a connection and its handshake, in seconds.
CONNECT_S_MAX = 1.0

Make: TypeAlias = Callable[[], AbstractConnection]


class ConnectionPool:
    """Lends connections, to one caller each, first come, first served."""

    def __init__(
        self,
        make: Make,
        *,
        count_max: int = CONNECTIONS_MAX,
        connect_s_max: float = CONNECT_S_MAX,
    ) -> None:
        self._make = make
        self._connect_s_max = connect_s_max
        self._room = asyncio.Semaphore(count_max)
        self._idle: list[AbstractConnection] = []
        self._lent: set[AbstractConnection] = set()
        self._making: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @classmethod
    def from_url(cls, url: str, connect_s_max: float = CONNECT_S_MAX) -> Self:
        """Make a pool for a server. Nothing is connected before a connection is taken.

        Raises:
            ConfigurationError: The URL has options that cannot be used.
        """
        factory = RedisConnections.from_url(
            check_url(url), protocol=2, socket_timeout=None, retry=Retry(NoBackoff(), 0)
        )
        return cls(factory.make_connection, connect_s_max=connect_s_max)

    async def take(self) -> AbstractConnection:
        """Wait for a connection that is ready. Give it back, whatever happens.

        Raises:
            RedisError, OSError, TimeoutError: None can be made.
            LedgerUnavailableError: The pool is closed.
        """
        await self._room.acquire()
        if self._is_closed:
            self._room.release()
            raise LedgerUnavailableError("the connections are closed")
        connection = self._idle.pop() if self._idle else self._make()
        self._lent.add(connection)
        try:
            if not connection.is_connected or await connection.can_read():
                await self._connect(connection)
        except asyncio.CancelledError:
            raise
        except BaseException:
            self.give_back(connection)
            raise
        return connection

    async def _connect(self, connection: AbstractConnection) -> None:
        """Wait until a connection is made; a caller who is cancelled leaves it to the pool."""
        making = asyncio.create_task(self._make_ready(connection))
        self._making.add(making)
        making.add_done_callback(self._making.discard)
        try:
            await asyncio.wait([making])
        except asyncio.CancelledError:
            making.add_done_callback(lambda task: self._keep(task, connection))
            raise
        making.result()

    async def _make_ready(self, connection: AbstractConnection) -> None:
        try:
            async with asyncio.timeout(self._connect_s_max):
                # One that was idle may have been closed by the server, or have data on it.
                await connection.disconnect(nowait=True)
                await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise

    def _keep(self, making: asyncio.Task[None], connection: AbstractConnection) -> None:
        """Take over what was made for somebody who has gone."""
        if not making.cancelled():
            # Looked at, since nobody else will: one that could not be made is made at its next use.
            making.exception()
        self.give_back(connection)

    def give_back(self, connection: AbstractConnection) -> None:
        """End a loan. One on which an answer is still to come must be disconnected before."""
        self._lent.discard(connection)
        self._idle.append(connection)
        self._room.release()

    async def aclose(self) -> None:
        """Close all connections, those that are lent too."""
        self._is_closed = True
        making = list(self._making)
        for task in making:
            task.cancel()
        await asyncio.gather(*making, return_exceptions=True)
        for connection in [*self._idle, *self._lent]:
            await connection.disconnect()
