"""Rows and dead letters of one moment, to be compared with live accounts. Read-only."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import LiteralString
from uuid import UUID

import psycopg
from psycopg.rows import DictRow, dict_row

from faregate.adapters.postgres.audit import PostgresAudit
from faregate.adapters.postgres.queries import statement
from faregate.domain.alignment import LOST_MAX, LiveAccount, LostTransaction
from faregate.ports import Copy, Cursor, Known, LedgerSum


class PostgresSnapshots:
    """The port `Snapshots`, on the connection of an audit; raises as `PostgresAudit` does."""

    def __init__(self, audit: PostgresAudit) -> None:
        self._audit = audit

    def cursors(self) -> Mapping[int, Cursor]:
        """Return the newest cursor of each shard that has one."""
        return self._audit.cursors()

    @contextmanager
    def take(self) -> Iterator["PostgresSnapshot"]:
        """Take a snapshot for the block."""
        with self._audit.snapshot() as connection:
            yield PostgresSnapshot(connection)

    def close(self) -> None:
        """Close the connection."""
        self._audit.close()


class PostgresSnapshot:
    """The port `Snapshot` over a transaction that sees one snapshot."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        #: The epoch of the ledger. The first statement takes the snapshot.
        self.epoch: int = self._rows("read_epoch", {})[0]["epoch"]

    def sums(self, users: Sequence[UUID]) -> Mapping[UUID, LedgerSum]:
        """Return the sums of each user that has a profile or a row."""
        rows = self._rows("sum_ledgers", {"user_ids": list(users)})
        return {row.pop("user_id"): LedgerSum(**row) for row in rows}

    def known(self, copies: Sequence[Copy]) -> Mapping[str, Known]:
        """Return the known records of one stream by their addresses."""
        asked = {
            "stream_ids": [copy.stream_id for copy in copies],
            "ids": [copy.id for copy in copies],
            "user_ids": [copy.user_id for copy in copies],
            "amounts": [copy.amount for copy in copies],
            "types": [copy.type.value for copy in copies],
            "sequences": [copy.sequence for copy in copies],
            "epochs": [copy.epoch for copy in copies],
        }
        return {
            row["stream_id"]: Known.COUNTED if row["is_counted"] else Known.DISCARDED
            for row in self._rows("find_known_copies", asked)
        }

    def lost(
        self, account: LiveAccount, pending: range, later: Sequence[UUID]
    ) -> Sequence[LostTransaction]:
        """Return the transactions that a live account does not contain; see the port."""
        asked = {
            "user_id": account.user_id,
            "sequence_reached": account.user.sequence if account.user else 0,
            "pending_first": pending.start,
            "pending_last": pending.stop - 1,
            "later_ids": list(later),
            "lost_max": LOST_MAX,
        }
        return [LostTransaction(**row) for row in reversed(self._rows("find_lost", asked))]

    def _rows(self, name: LiteralString, asked: Mapping[str, object]) -> list[DictRow]:
        cursor = self._connection.cursor(row_factory=dict_row)
        return cursor.execute(statement(name, "snapshots.sql"), asked).fetchall()
