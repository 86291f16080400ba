"""How far the records of each shard are rows, read from the newest batches."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row

from faregate.adapters.postgres.queries import statement
from faregate.domain.errors import ConfigurationError
from faregate.ports import Batch, Cursor

#: What the chain of a shard begins with.
_FIRST_LINK = bytes(32)


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest batch of a shard, as a transaction that holds the shard's lock sees it."""

    ledger_epoch: int
    cursor: Cursor | None
    #: The last ordinal ever stored in the epoch of the cursor.
    ordinal_max: int
    #: The last link of the chain of digests.
    chain: bytes

    def is_new(self, batch: Batch) -> bool:
        """Whether no record of a batch can have been stored before."""
        if self.cursor is None or self.cursor.epoch != batch.end.epoch:
            return True
        return not batch.is_from_start and batch.first_ordinal > self.ordinal_max

    def ordinal_max_after(self, batch: Batch) -> int:
        """Return the last ordinal ever stored in the epoch, once a batch is."""
        is_same = self.cursor is not None and self.cursor.epoch == batch.end.epoch
        return max(batch.end.ordinal, self.ordinal_max if is_same else 0)


def read_newest(connection: psycopg.Connection, shard: int) -> Newest:
    """Return the newest batch of a shard. Its lock must have been taken by an earlier statement."""
    cursor = connection.cursor(row_factory=dict_row, binary=True)
    row = cursor.execute(statement("read_newest_batch"), {"shard": shard}).fetchone()
    if row is None:
        raise ConfigurationError("the ledger has no identity; run `faregate migrate`")
    if row["number"] is None:
        return Newest(row["ledger_epoch"], None, 0, _FIRST_LINK)
    return Newest(row["ledger_epoch"], _cursor(row), row["ordinal_max"], row["chain"])


def write_batch(
    connection: psycopg.Connection, batch: Batch, newest: Newest, count: int, leaves: bytes
) -> None:
    """Note that a batch is stored, in the transaction that stores it."""
    end = batch.end
    parameters = {
        "shard": batch.shard,
        "number": end.number,
        "epoch": end.epoch,
        "read_after": None if batch.is_from_start else end.number - 1,
        "first_position": batch.first_position,
        "last_position": end.position,
        "first_ordinal": batch.first_ordinal,
        "last_ordinal": end.ordinal,
        "ordinal_max": newest.ordinal_max_after(batch),
        "record_count": count,
        "last_digest": end.digest,
        "leaves": leaves,
        "chain_before": newest.chain,
    }
    connection.execute(statement("write_batch"), parameters)


def cursors_of(rows: Iterable[Mapping[str, Any]]) -> dict[int, Cursor]:
    """Make cursors of the answer to `read_cursors`."""
    return {row["shard"]: _cursor(row) for row in rows}


def _cursor(row: Mapping[str, Any]) -> Cursor:
    return Cursor(
        number=row["number"],
        epoch=row["epoch"],
        position=row["position"],
        digest=bytes(row["digest"]),
        ordinal=row["ordinal"],
    )
