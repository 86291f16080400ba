"""Copies records to a table of the transaction, makes rows of them, and adds to the balances.

The order of locks avoids deadlocks. First come the users, locked by the check of the foreign key at
the end of the insert, in the order of their ids; then the profiles. A deletion locks the user
before anything that belongs to it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import psycopg

from faregate.adapters.postgres.queries import statement
from faregate.domain.transaction import CreditTransaction

#: Made once, since `json.dumps` with an option makes a new encoder for each value.
_JSON = json.JSONEncoder(allow_nan=False, separators=(",", ":"))

#: Writes one record to the COPY.
Fill = Callable[[psycopg.Copy], None]


class ProfileVanishedError(psycopg.OperationalError):
    """A profile is missing, or was deleted without its user."""


@dataclass(frozen=True, slots=True)
class Inserted:
    """New rows."""

    count: int
    #: Their leaves, 16 bytes each.
    leaves: bytes

    def __add__(self, other: "Inserted") -> "Inserted":
        return Inserted(self.count + other.count, self.leaves + other.leaves)


NOTHING = Inserted(0, b"")


def insert(connection: psycopg.Connection, fill: Fill) -> Inserted:
    """Insert records that are all new, in a savepoint.

    Raises:
        psycopg.Error: Postgres refuses one of them; nothing was inserted.
        ProfileVanishedError: A user has no profile; nothing was inserted.
    """
    with connection.transaction():
        connection.execute(statement("prepare_rows"))
        with connection.cursor().copy(statement("copy_rows")) as copy:
            fill(copy)
        cursor = connection.cursor(binary=True).execute(statement("insert_rows"))
        count, leaves = cursor.fetchall()[0]
        missing = connection.execute(statement("add_to_profiles")).fetchall()[0][0]
        if missing:
            raise ProfileVanishedError(f"{missing} profiles are missing")
    return Inserted(count, bytes(leaves))


def lines_of(lines: bytes) -> Fill:
    """Copy the lines of a batch as they are."""
    return lambda copy: copy.write(lines)


def rows_of(transactions: Sequence[CreditTransaction]) -> Fill:
    """Copy transactions, one by one."""

    def fill(copy: psycopg.Copy) -> None:
        for place, transaction in enumerate(transactions):
            copy.write_row((place, *_columns(transaction)))

    return fill


def _columns(transaction: CreditTransaction) -> tuple[object, ...]:
    return (
        transaction.id.value,
        transaction.user_id,
        transaction.amount,
        transaction.type.value,
        transaction.description,
        _json(transaction.metadata),
        transaction.timestamp,
        transaction.sequence,
        transaction.balance_after,
        transaction.epoch,
        None if transaction.refund_of is None else transaction.refund_of.value,
        transaction.allowance_amount,
        transaction.allowance_after,
        transaction.period_start,
    )


def _json(metadata: Mapping[str, object] | None) -> str | None:
    if metadata is None:
        return None
    try:
        return _JSON.encode(dict(metadata))
    except (TypeError, RecursionError) as error:
        raise ValueError(f"the metadata is not JSON: {error}") from error
