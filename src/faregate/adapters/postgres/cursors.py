"""How far the records of each shard are rows, read from the newest batches."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row

from faregate.adapters.postgres.queries import statement
from faregate.domain.errors import ConfigurationError
from faregate.ports import Batch, Cursor

#: The chain before the first batch of a shard.
_FIRST_LINK = bytes(32)
#: How long the leaves of batches that share a row are together at most, in bytes: 64 rows.
LEAVES_LENGTH_MAX = 1_024


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest batch of a shard, as a transaction that holds the shard's lock sees it."""

    ledger_epoch: int
    cursor: Cursor | None
    #: The last ordinal ever stored in the epoch of the cursor.
    ordinal_max: int
    #: The last link of the chain of digests.
    chain: bytes
    #: The row that holds the batch, by the number of its first one, and how long its leaves are.
    row_number: int = 0
    leaves_length: int = 0

    def is_new(self, batch: Batch) -> bool:
        """Whether no record of a batch can have been stored before."""
        if self.cursor is None or self.cursor.epoch != batch.end.epoch:
            return True
        return not batch.is_from_start and batch.first_ordinal > self.ordinal_max

    def has_room_for(self, batch: Batch, leaves: bytes) -> bool:
        """Whether a batch may share the row of the newest one, which it follows in the stream."""
        if self.cursor is None or batch.is_from_start or self.cursor.epoch != batch.end.epoch:
            return False
        return self.leaves_length + len(leaves) <= LEAVES_LENGTH_MAX

    def ordinal_max_after(self, batch: Batch) -> int:
        """Return the last ordinal ever stored in the epoch, once a batch is."""
        is_same = self.cursor is not None and self.cursor.epoch == batch.end.epoch
        return max(batch.end.ordinal, self.ordinal_max if is_same else 0)


def read_newest(connection: psycopg.Connection, shard: int) -> Newest:
    """Return the newest batch of a shard, whose lock an earlier statement must have taken."""
    cursor = connection.cursor(row_factory=dict_row, binary=True)
    row = cursor.execute(statement("read_newest_batch"), {"shard": shard}).fetchone()
    if row is None:
        raise ConfigurationError("the ledger has no identity; run `faregate migrate`")
    if row["number"] is None:
        return Newest(row["ledger_epoch"], None, 0, _FIRST_LINK)
    return Newest(
        row["ledger_epoch"],
        _cursor(row),
        row["ordinal_max"],
        row["chain"],
        row["row_number"],
        row["leaves_length"],
    )


def write_batch(
    connection: psycopg.Connection, batch: Batch, newest: Newest, count: int, leaves: bytes
) -> None:
    """Note that a batch is stored, in the transaction that stores it."""
    end = batch.end
    parameters = {
        "shard": batch.shard,
        "number": end.number,
        "row_number": newest.row_number,
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
    has_room = newest.has_room_for(batch, leaves)
    if not has_room or not connection.execute(statement("extend_batch"), parameters).rowcount:
        connection.execute(statement("write_batch"), parameters)


def cursors_of(rows: Iterable[Mapping[str, Any]]) -> dict[int, Cursor]:
    """Return cursors from the rows of `read_cursors`."""
    return {row["shard"]: _cursor(row) for row in rows}


def _cursor(row: Mapping[str, Any]) -> Cursor:
    return Cursor(
        number=row["number"],
        epoch=row["epoch"],
        position=row["position"],
        digest=bytes(row["digest"]),
        ordinal=row["ordinal"],
    )
