"""Orders of credits, which SQL asks for and the worker makes."""

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString
from uuid import UUID

from psycopg.rows import dict_row

from faregate.adapters.postgres.connection import Bounds, Connector, unavailable
from faregate.adapters.postgres.queries import statement
from faregate.domain.order import Order, OrderCounts
from faregate.domain.request import Credit
from faregate.domain.transaction import CreditTransactionId, TransactionType
from faregate.domain.user import User

_BOUNDS = Bounds(statement_ms_max=10_000, lock_ms_max=2_000)


class PostgresOrders:
    """The port `Orders`. For one thread; connects on first use."""

    def __init__(self, conninfo: str) -> None:
        self._connector = Connector(conninfo, "faregate orders", _BOUNDS)

    def take(self, count_max: int) -> Sequence[Order]:
        """Finish orders that are rows, and return those that are due; see the port."""
        return list(map(_order, self._ask("take_orders", {"count_max": count_max})))

    def refuse(self, refusals: Sequence[tuple[Order, str]]) -> None:
        """Note why orders were not made; see the port."""
        asked = {
            "ids": [order.credit.transaction_id.value for order, _ in refusals],
            "due_at": [order.due_at for order, _ in refusals],
            "refusals": [refusal for _, refusal in refusals],
        }
        self._ask("refuse_orders", asked)

    def open_users(self, user_ids: Sequence[UUID]) -> Sequence[User]:
        """Return the durable balances of users, and make missing profiles; see the port."""
        # Sorted, so that two workers never wait for each other.
        asked = {"user_ids": sorted(set(user_ids)), "provision": False}
        return [User(**row) for row in self._ask("open_users", asked, "queries.sql")]

    def counts(self) -> OrderCounts:
        """Return the number of orders."""
        (row,) = self._ask("count_orders", {})
        return OrderCounts(**row)

    def _ask(
        self, name: LiteralString, asked: Mapping[str, object], file: str = "orders.sql"
    ) -> list[dict[str, Any]]:
        with unavailable("read orders"), self._connector.transaction() as connection:
            cursor = connection.cursor(row_factory=dict_row)
            return cursor.execute(statement(name, file), asked).fetchall()

    def close(self) -> None:
        """Close the connection; the next query opens another."""
        self._connector.close()


def _order(row: Mapping[str, Any]) -> Order:
    credit = Credit(
        user_id=row["user_id"],
        transaction_id=CreditTransactionId(row["id"]),
        type=TransactionType(row["type"]),
        amount=row["amount"],
        description=row["description"],
        metadata=row["metadata"],
    )
    return Order(credit=credit, due_at=row["due_at"])
