"""Users and durable balances: the few queries that a request makes."""

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any
from uuid import UUID

from faregate.adapters.postgres import access
from faregate.adapters.postgres.connection import require_utf8
from faregate.adapters.postgres.openings import Openings
from faregate.adapters.postgres.pool import Pool
from faregate.adapters.postgres.queries import statement
from faregate.domain.errors import ConfigurationError
from faregate.domain.identity import LedgerIdentity
from faregate.domain.request import DurableDeduct
from faregate.domain.transaction import CreditTransaction, CreditTransactionId, TransactionType
from faregate.domain.user import User


class PostgresAccounts:
    """The port `Accounts`. Belongs to the event loop in which it is first used.

    Every method raises `ArchiveUnavailableError` where Postgres does not answer in time, and
    `ConfigurationError` where it has not been migrated.
    """

    def __init__(self, conninfo: str) -> None:
        self._pool = Pool(conninfo)
        self._openings = Openings(self._pool)

    async def identity(self) -> LedgerIdentity:
        """Return the identity of the ledger, fixed when it was created.

        Raises:
            ConfigurationError: The role of the connection lacks a right that a gate needs.
        """
        rights = access.GATE_RIGHTS
        missing = statement("find_missing_rights", access.FILE)
        async with self._pool.connection("read identity") as connection:
            require_utf8(connection.info)
            found = await connection.execute(missing, access.question(rights))
            access.check_answer(await found.fetchall(), rights, access.API)
            row = await (await connection.execute(statement("read_identity"))).fetchone()
        if row is None:
            raise ConfigurationError("the ledger has no identity; run `faregate migrate`")
        return LedgerIdentity(**row)

    async def mark_installed(self, epoch: int) -> None:
        """Note that Redis has been given `epoch`."""
        await self._pool.row("mark_installed", {"epoch": epoch})

    async def open(self, user_id: UUID, *, provision: bool) -> User | None:
        """Return a user's durable balance; make a missing profile and starting row."""
        row = await self._openings.open(user_id, provision=provision)
        return None if row is None else User(id=user_id, **row)

    async def transaction(self, transaction_id: CreditTransactionId) -> CreditTransaction | None:
        """Return a stored transaction; a row older than Faregate is none."""
        row = await self._pool.row("read_transaction", {"id": transaction_id.value})
        return None if row is None else _transaction(row)

    async def deduct(self, user_id: UUID, deduct_id: CreditTransactionId) -> DurableDeduct | None:
        """Return a stored deduct and how much of it has been refunded."""
        row = await self._pool.row("read_deduct", {"user_id": user_id, "id": deduct_id.value})
        return None if row is None else DurableDeduct(**row)

    async def users_after(self, after: UUID | None, count_max: int) -> Sequence[UUID]:
        """Return the next users that have a profile, by id."""
        parameters = {"after": after or UUID(int=0), "count_max": count_max}
        return [row["id"] for row in await self._pool.rows("read_profiles", parameters)]

    async def aclose(self) -> None:
        """Close all connections."""
        await self._openings.aclose()
        await self._pool.aclose()


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
