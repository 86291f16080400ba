"""Billing code in SQL, and the worker's part that makes what it has ordered."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import UUID

from psycopg.types.json import Jsonb

from durable import Database, as_role
from faregate import Gate, Settings, open_gate
from faregate.adapters.postgres.orders import PostgresOrders
from faregate.bootstrap import (
    open_archive,
    open_audit,
    open_credits,
    open_installer,
    open_orders,
    open_stream,
)
from faregate.domain.finding import Finding
from faregate.ops.reconcile import reconcile, verify
from faregate_worker.drain import DrainLimits, drain
from faregate_worker.ordering import Ordering
from waiting import WAIT_S_MAX

ADD = (
    "select faregate.add_credits(%s, %s, type => %s, description => %s,"
    " idempotency_key => %s, metadata => %s) as id"
)
LIMITS = DrainLimits(batch_size_max=1_000, seconds_max=WAIT_S_MAX)
ADMIN = {"actor": "ann"}
_T = TypeVar("_T")


def add(
    tables: Database,
    user_id: UUID | None,
    amount: int | None,
    key: str | None = None,
    *,
    type: str | None = "add",
    description: str | None = "a payment",
    metadata: Any = None,
) -> UUID:
    """Order credits; return the id of the transaction."""
    meta = None if metadata is None else Jsonb(metadata)
    (row,) = tables.run(ADD, user_id, amount, type, description, key, meta)
    made: UUID = row["id"]
    return made


def waiting(tables: Database) -> list[dict[str, Any]]:
    """The orders that are there, in the order of their ids."""
    return tables.run("select * from faregate.orders order by id")


def let_it_be_due(tables: Database) -> None:
    """Let orders be sent again now."""
    tables.run("update faregate.orders set due_at = now() - interval '1 second'")


class Billing:
    """A ledger with what makes orders, in the roles of its processes."""

    def __init__(self, settings: Settings, tables: Database) -> None:
        self.settings = settings
        self.tables = tables

    @contextmanager
    def ordering(self) -> Iterator[Ordering]:
        """A worker's part that makes orders."""
        role = as_role(self.settings.postgres_url, "faregate_worker")
        settings = self.settings.model_copy(update={"postgres_url": role})
        with (
            open_orders(settings) as orders,
            open_credits(settings) as credits_,
            open_installer(settings) as installer,
            open_stream(settings) as stream,
            open_archive(settings) as archive,
        ):
            yield Ordering(orders, credits_, installer, stream, archive)

    def step(self) -> None:
        """Make the orders that are due."""
        with self.ordering() as ordering:
            while ordering.step():
                pass

    def orders(self) -> PostgresOrders:
        """The orders themselves, in the role of the worker."""
        return PostgresOrders(as_role(self.settings.postgres_url, "faregate_worker"))

    def drain(self) -> None:
        """Make rows of all records."""
        with open_stream(self.settings) as stream, open_archive(self.settings) as archive:
            for shard in range(stream.shard_count):
                drain(stream, archive, shard, limits=LIMITS)

    def ask(self, call: Callable[[Gate], Awaitable[_T]]) -> _T:
        """Ask a gate of an application."""

        async def asked() -> _T:
            async with open_gate(self.settings) as gate:
                return await call(gate)

        return asyncio.run(asked())

    def credits(self, user_id: UUID) -> int | None:
        """The live balance."""
        with open_stream(self.settings) as stream:
            found = stream.read_many([user_id]).get(user_id)
        return None if found is None else found.credits

    def findings(self) -> list[Finding]:
        """What is not exact."""
        with open_stream(self.settings) as stream, open_audit(self.settings) as audit:
            return [*reconcile(stream, stream, audit).findings, *verify(stream, stream, audit)]
