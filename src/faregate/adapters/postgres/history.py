"""A user's own rows, read under row level security as that user."""

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any
from uuid import UUID

from psycopg import errors
from psycopg.rows import DictRow

from faregate.adapters.postgres.connection import Bounds
from faregate.adapters.postgres.pool import Pool
from faregate.adapters.postgres.queries import statement
from faregate.domain.errors import ConfigurationError
from faregate.domain.history import HistoryPlace, HistoryRow
from faregate.domain.transaction import CreditTransactionId, TransactionType

_BOUNDS = Bounds(statement_ms_max=2_000, lock_ms_max=1_000)


class PostgresHistory:
    """The port `History`. Belongs to the event loop in which it is first used.

    It has connections of its own, so that heavy reading delays no charge.
    """

    def __init__(self, conninfo: str) -> None:
        self._pool = Pool(conninfo, _BOUNDS)

    async def read(
        self, user_id: UUID, count_max: int, before: HistoryPlace | None = None
    ) -> Sequence[HistoryRow]:
        """Return a user's newest rows, or those that follow a place; see the port."""
        asked: dict[str, object] = {"user_id": user_id, "count_max": count_max}
        if before is None:
            found = await self._rows_as(user_id, "read_newest", asked)
        else:
            asked |= {"timestamp": before.timestamp, "id": before.id.value}
            found = await self._rows_as(user_id, "read_before", asked)
        return [history_row(row) for row in found]

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()

    async def _rows_as(
        self, user_id: UUID, name: str, parameters: Mapping[str, object]
    ) -> list[DictRow]:
        """Run a query as a user, who sees only its own rows."""
        async with self._pool.connection("read history") as connection:
            try:
                await connection.execute(statement("act_as_user"), {"user_id": user_id})
                cursor = await connection.execute(statement(name), parameters)
                return await cursor.fetchall()
            except errors.InsufficientPrivilege as error:
                raise ConfigurationError(
                    f"history cannot be read as its user: {error.diag.message_primary};"
                    " connect as a role that was granted faregate_api"
                ) from error


def history_row(row: Mapping[str, Any]) -> HistoryRow:
    """Return a row of a history, with its time in UTC."""
    refund_of = row["refund_of"]
    return HistoryRow(
        **{
            **row,
            "id": CreditTransactionId(row["id"]),
            "type": TransactionType(row["type"]),
            "timestamp": row["timestamp"].astimezone(UTC),
            "refund_of": None if refund_of is None else CreditTransactionId(refund_of),
        }
    )
