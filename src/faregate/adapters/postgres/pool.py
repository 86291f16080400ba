"""A small pool of connections for requests, opened at first use, with bounded waits."""

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
#: The longest wait for a connection of the pool, in seconds.
WAIT_S_MAX = 3.0
#: How long the pool tries to connect, in seconds.
RECONNECT_S_MAX = 1.0
#: The longest time of a query, the wait for a connection included, in seconds.
ANSWER_S_MAX = 8.0

_BOUNDS = Bounds(statement_ms_max=4_000, lock_ms_max=2_000)

Connection = psycopg.AsyncConnection[DictRow]


class Pool:
    """Belongs to the event loop in which it is first used, until it is closed."""

    def __init__(self, conninfo: str, bounds: Bounds | None = None) -> None:
        self._conninfo = complete(conninfo, "faregate")
        self._bounds = bounds or _BOUNDS
        #: None before the first use, and after the close: a pool of psycopg opens only once.
        self._pool: AsyncConnectionPool[Connection] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def _make(self) -> AsyncConnectionPool[Connection]:
        return AsyncConnectionPool[Connection](
            self._conninfo,
            connection_class=psycopg.AsyncConnection[DictRow],
            # A pooler before Postgres may lose prepared statements, so none are prepared.
            kwargs={"autocommit": True, "prepare_threshold": None, "row_factory": dict_row},
            min_size=0,
            max_size=CONNECTIONS_MAX,
            max_waiting=WAITING_MAX,
            timeout=WAIT_S_MAX,
            # The pool pauses longer after each failed attempt. It gives up early instead, so that
            # the next query finds at once a server that is back.
            reconnect_timeout=RECONNECT_S_MAX,
            check=self._check,
            open=False,
        )

    @property
    def closed(self) -> bool:
        """Whether there is no pool: before the first use, and after the close."""
        return self._pool is None or self._pool.closed

    @asynccontextmanager
    async def connection(self, doing: str) -> AsyncIterator[Connection]:
        """Lend a connection for one query, in a transaction with timeouts.

        Args:
            doing: The purpose, as error messages name it: "read history".

        Raises:
            ArchiveUnavailableError: Postgres does not answer in time.
            ConfigurationError: Postgres has not been migrated.
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
        """Run a named query; raises as `connection` does."""
        async with self.connection(name.replace("_", " ")) as connection:
            cursor = await connection.execute(statement(name, file), parameters)
            return await cursor.fetchall()

    async def row(
        self, name: str, parameters: Mapping[str, object], *, file: str = "queries.sql"
    ) -> DictRow | None:
        """Run a named query, and return its first row, or None."""
        return next(iter(await self.rows(name, parameters, file=file)), None)

    async def aclose(self) -> None:
        """Close all connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close(timeout=WAIT_S_MAX)

    async def _check(self, connection: Connection) -> None:
        try:
            await AsyncConnectionPool.check_connection(connection)
        except psycopg.Error:
            # If one connection is dead, the others are likely dead, too. All are replaced at once.
            if self._pool is not None:
                await self._pool.check()
            raise

    async def _opened(self) -> AsyncConnectionPool[Connection]:
        # Opened here, since the tasks of the pool need a running loop.
        loop = asyncio.get_running_loop()
        if self._pool is None or (loop is not self._loop and self._ended()):
            self._pool, self._loop = self._make(), loop
        pool = self._pool
        if pool.closed:
            await pool.open()
        return pool

    def _ended(self) -> bool:
        """Return True if the loop of the pool has ended.

        Raises:
            ConfigurationError: The loop still runs, and this call comes from another one.
        """
        if self._loop is not None and not self._loop.is_closed():
            raise ConfigurationError("this pool is in use on another event loop")
        return True
