"""The connections by which the requests of one process ask Postgres."""

import asyncio
from collections.abc import Mapping, Sequence

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from faregate.adapters.postgres.connection import Bounds, bounded, migrated, unavailable
from faregate.adapters.postgres.queries import statement

CONNECTIONS_MAX = 4
WAITING_MAX = 256
#: For a connection of the pool, in seconds.
WAIT_S_MAX = 3.0
#: For trying to connect before the pool gives up, in seconds.
RECONNECT_S_MAX = 1.0
#: For a whole question, the wait for a connection included, in seconds.
ANSWER_S_MAX = 8.0

_BOUNDS = Bounds(statement_ms_max=4_000, lock_ms_max=2_000)

_Connection = psycopg.AsyncConnection[DictRow]


class Pool:
    """A few connections, opened on first use. Belongs to the event loop in which that is."""

    def __init__(self, conninfo: str) -> None:
        self._pool = AsyncConnectionPool[_Connection](
            bounded(conninfo, "faregate", _BOUNDS),
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
        self._opening = asyncio.Lock()

    @property
    def closed(self) -> bool:
        """Whether there are no connections, and no task that keeps them."""
        return self._pool.closed

    async def row(
        self, name: str, parameters: Mapping[str, object], *, file: str = "queries.sql"
    ) -> DictRow | None:
        """Ask a named question, and return the first row of the answer; errors are as of `rows`."""
        return next(iter(await self.rows(name, parameters, file=file)), None)

    async def rows(
        self, name: str, parameters: Mapping[str, object], *, file: str = "queries.sql"
    ) -> Sequence[DictRow]:
        """Ask a named question, and return the answer.

        Raises:
            ArchiveUnavailableError: Postgres did not answer in time.
            ConfigurationError: It has not been migrated.
        """
        with unavailable(name.replace("_", " ")), migrated():
            async with asyncio.timeout(ANSWER_S_MAX):
                await self._open()
                async with self._pool.connection() as connection:
                    cursor = await connection.execute(statement(name, file), parameters)
                    return await cursor.fetchall()

    async def aclose(self) -> None:
        """Let go of all connections."""
        await self._pool.close(timeout=WAIT_S_MAX)

    async def _check(self, connection: _Connection) -> None:
        try:
            await AsyncConnectionPool.check_connection(connection)
        except psycopg.Error:
            # One that is dead is seldom alone, and the pool pauses longer before each next try.
            await self._pool.check()
            raise

    async def _open(self) -> None:
        # The pool's tasks belong to a loop, so it cannot open before there is one.
        async with self._opening:
            if self._pool.closed:
                await self._pool.open()
