"""Connections for what answers requests: a few, opened at first use, and no wait without an end."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from faregate.adapters.postgres.connection import Bounds, complete, migrated, unavailable
from faregate.adapters.postgres.queries import statement
from faregate.domain.errors import ConfigurationError

CONNECTIONS_MAX = 4
WAITING_MAX = 256
#: For a connection of the pool, in seconds.
WAIT_S_MAX = 3.0
#: For trying to connect before the pool gives up, in seconds.
RECONNECT_S_MAX = 1.0
#: For a whole question, the wait for a connection included, in seconds.
ANSWER_S_MAX = 8.0

_BOUNDS = Bounds(statement_ms_max=4_000, lock_ms_max=2_000)

Connection = psycopg.AsyncConnection[DictRow]


class Pool:
    """Belongs to the event loop in which it is first used, until it is closed."""

    def __init__(self, conninfo: str, bounds: Bounds | None = None) -> None:
        self._conninfo = complete(conninfo, "faregate")
        self._bounds = bounds or _BOUNDS
        #: A pool of psycopg's is opened once; None before that, and after it was closed.
        self._pool: AsyncConnectionPool[Connection] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def _make(self) -> AsyncConnectionPool[Connection]:
        return AsyncConnectionPool[Connection](
            self._conninfo,
            connection_class=psycopg.AsyncConnection[DictRow],
            # Statements are not prepared by name, which a pooler between us would not survive.
            kwargs={"autocommit": True, "prepare_threshold": None, "row_factory": dict_row},
            min_size=0,
            max_size=CONNECTIONS_MAX,
            max_waiting=WAITING_MAX,
            timeout=WAIT_S_MAX,
            # Attempts pause longer and longer; given up early, the next question starts anew, and
            # a server that is back is found at once.
            reconnect_timeout=RECONNECT_S_MAX,
            check=self._check,
            open=False,
        )

    @property
    def closed(self) -> bool:
        """Whether no connection can be had, since none was asked for yet or all were let go."""
        return self._pool is None or self._pool.closed

    @asynccontextmanager
    async def connection(self, doing: str) -> AsyncIterator[Connection]:
        """Lend a connection for one question, in a transaction whose waits are bounded.

        Args:
            doing: What for, in the words of an error: "read history".

        Raises:
            ArchiveUnavailableError: Postgres does not answer in time.
            ConfigurationError: It has not been migrated.
        """
        with unavailable(doing), migrated():
            async with asyncio.timeout(ANSWER_S_MAX):
                pool = await self._opened()
                async with pool.connection() as connection, connection.transaction():
                    await connection.execute(
                        statement("bound_transaction"), self._bounds.parameters
                    )
                    yield connection

    async def rows(
        self, name: str, parameters: Mapping[str, object], *, file: str = "queries.sql"
    ) -> Sequence[DictRow]:
        """Ask a named question; raises as `connection` does."""
        async with self.connection(name.replace("_", " ")) as connection:
            cursor = await connection.execute(statement(name, file), parameters)
            return await cursor.fetchall()

    async def row(
        self, name: str, parameters: Mapping[str, object], *, file: str = "queries.sql"
    ) -> DictRow | None:
        """Ask a named question, and return the first row of the answer, if there is one."""
        return next(iter(await self.rows(name, parameters, file=file)), None)

    async def aclose(self) -> None:
        """Let go of all connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close(timeout=WAIT_S_MAX)

    async def _check(self, connection: Connection) -> None:
        try:
            await AsyncConnectionPool.check_connection(connection)
        except psycopg.Error:
            # One that is dead is seldom alone, and the pool pauses longer before each next try.
            if self._pool is not None:
                await self._pool.check()
            raise

    async def _opened(self) -> AsyncConnectionPool[Connection]:
        # The pool's tasks belong to a loop, so it cannot open before there is one.
        loop = asyncio.get_running_loop()
        if self._pool is None or (loop is not self._loop and self._ended()):
            self._pool, self._loop = self._make(), loop
        pool = self._pool
        if pool.closed:
            await pool.open()
        return pool

    def _ended(self) -> bool:
        """Return True where the loop of the pool has ended.

        Raises:
            ConfigurationError: It has not, and another one asks.
        """
        if self._loop is not None and not self._loop.is_closed():
            raise ConfigurationError("this pool is in use on another event loop")
        return True
