"""Who exists and what is durable: the few questions that requests ask of Postgres."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from faregate.adapters.postgres.connection import Bounds, bounded, migrated, unavailable
from faregate.adapters.postgres.queries import statement
from faregate.domain.errors import ConfigurationError
from faregate.domain.identity import LedgerIdentity
from faregate.domain.request import DurableDeduct
from faregate.domain.transaction import CreditTransaction, CreditTransactionId, TransactionType
from faregate.domain.user import User

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


class PostgresAccounts:
    """The port `Accounts`. Belongs to the event loop in which it is first used.

    Every method raises `ArchiveUnavailableError` where Postgres does not answer in time, and
    `ConfigurationError` where it has not been migrated.
    """

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

    async def identity(self) -> LedgerIdentity:
        """Return what the ledger was created with."""
        row = await self._row("read_identity", {})
        if row is None:
            raise ConfigurationError("the ledger has no identity; run `faregate migrate`")
        return LedgerIdentity(**row)

    async def mark_installed(self, epoch: int) -> None:
        """Note that Redis has been given `epoch`."""
        await self._row("mark_installed", {"epoch": epoch})

    async def open(self, user_id: UUID, *, provision: bool) -> User | None:
        """Return a user's durable balance, making what is missing in one transaction."""
        row = await self._row("open_user", {"user_id": user_id, "provision": provision})
        return None if row is None else User(id=user_id, **row)

    async def transaction(self, transaction_id: CreditTransactionId) -> CreditTransaction | None:
        """Return a stored transaction; a row older than Faregate is none."""
        row = await self._row("read_transaction", {"id": transaction_id.value})
        return None if row is None else _transaction(row)

    async def deduct(self, user_id: UUID, deduct_id: CreditTransactionId) -> DurableDeduct | None:
        """Return a stored deduct and how much of it has been refunded."""
        row = await self._row("read_deduct", {"user_id": user_id, "id": deduct_id.value})
        return None if row is None else DurableDeduct(**row)

    async def users_after(self, after: UUID | None, count_max: int) -> Sequence[UUID]:
        """Return the next users by id, of those that have a profile."""
        parameters = {"after": after or UUID(int=0), "count_max": count_max}
        return [row["id"] for row in await self._rows("read_profiles", parameters)]

    async def aclose(self) -> None:
        """Let go of all connections."""
        await self._pool.close(timeout=WAIT_S_MAX)

    async def _row(self, name: str, parameters: Mapping[str, object]) -> DictRow | None:
        return next(iter(await self._rows(name, parameters)), None)

    async def _rows(self, name: str, parameters: Mapping[str, object]) -> Sequence[DictRow]:
        with unavailable(name.replace("_", " ")), migrated():
            async with asyncio.timeout(ANSWER_S_MAX):
                await self._open()
                async with self._pool.connection() as connection:
                    cursor = await connection.execute(statement(name), parameters)
                    return await cursor.fetchall()

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


def _transaction(row: Mapping[str, Any]) -> CreditTransaction:
    refund_of, period_start = row["refund_of"], row["period_start"]
    return CreditTransaction(
        **{
            **row,
            "id": CreditTransactionId(row["id"]),
            "type": TransactionType(row["type"]),
            "timestamp": row["timestamp"].astimezone(UTC),
            "refund_of": None if refund_of is None else CreditTransactionId(refund_of),
            "period_start": None if period_start is None else period_start.astimezone(UTC),
        }
    )
