"""Reads and writes Postgres for `faregate repair`, in the role of the owner.

A repair of a user first takes the lock of the user's shard, as the drain does. So no batch is
stored meanwhile, and the sum of the rows does not change until the commit.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import errors
from psycopg.rows import dict_row

from faregate.adapters.postgres.archive import LOCK_NAMESPACE
from faregate.adapters.postgres.connection import Bounds, Connector, migrated, owned, unavailable
from faregate.adapters.postgres.queries import statement
from faregate.domain.errors import ConfigurationError, InvalidArgumentError
from faregate.domain.finding import DriftKind, Finding
from faregate.domain.repair import LiveChange, RepairEvent, Row, RowContext, StepAction

_BOUNDS = Bounds(statement_ms_max=600_000, lock_ms_max=3_000)
#: The transaction with the lock of all repairs is idle between two users.
_HOLDING = Bounds(statement_ms_max=10_000, lock_ms_max=3_000, idle_ms_max=3_600_000)
#: The kinds of findings about a live balance.
_LIVE = [DriftKind.LIVE.value, DriftKind.BEHIND.value]


class PostgresRepairs:
    """The port `Repairs`. For one thread; connects on first use.

    Every method raises `ArchiveUnavailableError` where Postgres does not answer in time, and
    `ConfigurationError` where it has not been migrated or the role is not that of the owner.
    """

    def __init__(self, conninfo: str) -> None:
        self._connector = Connector(conninfo, "faregate repair", _BOUNDS)
        self._holder = Connector(conninfo, "faregate repair lock", _HOLDING)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of all repairs within the block.

        Raises:
            ConfigurationError: Another repair holds it.
        """
        with unavailable("begin a repair"), self._holder.transaction() as connection:
            asked = {"namespace": LOCK_NAMESPACE}
            ((is_locked,),) = connection.execute(_repairs("hold_repairs"), asked).fetchall()
            if not is_locked:
                raise ConfigurationError("another repair is at work: let it end first")
            yield

    def row_context(self, user_id: UUID, first: int, last: int) -> RowContext:
        """Return the rows and sums around some numbers of a user."""
        asked = {"user_id": user_id, "first": first, "last": last}
        (row,) = self._read("read_around", asked)
        return RowContext(
            before=row["row_before"],
            after=row["row_after"],
            moves=tuple((sequence, amount) for sequence, amount in row["moves"]),
            opening=row["opening"],
            credits=row["credits"],
            sequence=row["credits_sequence"],
            total=row["row_total"],
        )

    def row(self, row_id: UUID) -> Row | None:
        """Return a row as it is now."""
        for row in self._read("read_row", {"id": row_id}):
            content: Row = row["content"]
            return content
        return None

    def proven(self, rows: Sequence[Row]) -> Sequence[bool]:
        """Return for each row whether a batch wrote such a row."""
        found = self._read("prove_rows", {"rows": _json(rows)}) if rows else []
        return [row["is_proven"] for row in found]

    def begin(self, event: RepairEvent, deadline_at: datetime | None = None) -> None:
        """Note that a step begins.

        Args:
            event: The step, with actor and reason.
            deadline_at: Until when Redis may still execute the command of the step.
        """
        step, finding = event.step, event.step.finding
        row = {
            "event_id": event.id,
            "finding_id": finding.id,
            "kind": finding.kind.value,
            "user_id": finding.user_id,
            "sequence": finding.sequence,
            "action": step.action.value,
            "amount": step.amount,
            "detail": step.says,
            "actor": event.actor,
            "reason": event.reason,
            "deadline_at": deadline_at,
        }
        with self._acting("begin a repair") as connection:
            connection.execute(_repairs("begin_repair"), row)

    def act(self, event: RepairEvent) -> None:
        """Apply a step that changes only Postgres, and note its end, in one commit."""
        user_id = event.step.finding.user_id
        with self._acting("repair") as connection:
            for each in event.step.users:
                asked = {"namespace": LOCK_NAMESPACE, "user_id": each}
                connection.execute(_repairs("lock_user"), asked)
            before = _credits(connection, user_id)
            leaves = _change(connection, event)
            for finding in event.step.accepts:
                _acknowledge(connection, finding, event)
            done = {
                "event_id": event.id,
                "leaves": leaves,
                "sequence": None,
                "balance_before": before,
                "balance_after": _credits(connection, user_id),
            }
            connection.execute(_repairs("end_repair"), done)

    def end(self, event: RepairEvent, change: LiveChange | None) -> None:
        """Note the end of a step on a live balance.

        The findings that the step accepts are accepted in the same commit.
        """
        done = {
            "event_id": event.id,
            "leaves": b"",
            "sequence": change and change.sequence,
            "balance_before": change and change.credits_before,
            "balance_after": change and change.credits_after,
        }
        with self._acting("end a repair") as connection:
            if change:
                asked = {"user_id": event.step.finding.user_id, "kinds": _LIVE}
                connection.execute(_repairs("end_acceptances"), asked)
            for finding in event.step.accepts if change else ():
                _acknowledge(connection, finding, event)
            connection.execute(_repairs("end_repair"), done)

    def close(self) -> None:
        """Close the connections; the next query opens others."""
        self._connector.close()
        self._holder.close()

    def _read(self, name: str, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
        with unavailable("read for a repair"), migrated(), self._connector.transaction() as opened:
            cursor = opened.cursor(row_factory=dict_row)
            return cursor.execute(_repairs(name), parameters).fetchall()

    @contextmanager
    def _acting(self, doing: str) -> Iterator[psycopg.Connection]:
        with unavailable(doing), migrated(), owned("repair"):
            try:
                with self._connector.transaction() as connection:
                    yield connection
            except errors.ForeignKeyViolation as error:
                raise InvalidArgumentError("the user of this finding was deleted") from error


def _repairs(name: str) -> LiteralString:
    return statement(name, "repairs.sql")


def _json(rows: Sequence[Row]) -> str:
    return json.dumps(rows, default=str)


def _change(connection: psycopg.Connection, event: RepairEvent) -> bytes:
    """Execute a step; return the leaves of the rows that it stored or registered."""
    step, leaves = event.step, b""
    if step.action is StepAction.ACKNOWLEDGE:
        return leaves
    if step.action in {StepAction.STORE, StepAction.CLOSE}:
        stored = connection.execute(_repairs("store_rows"), {"rows": _json(step.rows)}).fetchall()
        ids = {str(row_id) for (row_id,) in stored}
        leaves = _leaves(connection, [row for row in step.rows if row["id"] in ids])
    elif step.action is StepAction.REGISTER:
        leaves = _leaves(connection, step.rows)
    elif step.action is StepAction.RESTORE:
        _restore(connection, event)
    for user_id in event.step.users:
        connection.execute(_repairs("make_profile"), {"user_id": user_id})
        asked = {"user_id": user_id, "rewinds": step.action is StepAction.REWIND}
        connection.execute(_repairs("recompute"), asked)
        asked = {"user_id": user_id, "kinds": [DriftKind.PROJECTION.value]}
        connection.execute(_repairs("end_acceptances"), asked)
    return leaves


def _restore(connection: psycopg.Connection, event: RepairEvent) -> None:
    """Restore the former content of a row, with the guards disabled meanwhile."""
    ((is_restricted,),) = connection.execute(_repairs("sees_own_rows")).fetchall()
    names = ["unlock_rows", "lock_rows"]
    if is_restricted:
        names = ["unlock_security", *names, "lock_security"]
    half = len(names) // 2
    for name in names[:half]:
        connection.execute(_repairs(name))
    asked = {"rows": _json(event.step.rows), "row_id": event.step.row_id}
    connection.execute(_repairs("restore_row"), asked)
    connection.execute(_repairs("check_constraints"))
    for name in names[half:]:
        connection.execute(_repairs(name))


def _leaves(connection: psycopg.Connection, rows: Sequence[Row]) -> bytes:
    found = connection.execute(_repairs("prove_rows"), {"rows": _json(rows)}).fetchall()
    return b"".join(leaf for leaf, _ in found)


def _credits(connection: psycopg.Connection, user_id: UUID | None) -> int | None:
    row = connection.execute(_repairs("read_credits"), {"user_id": user_id}).fetchone()
    return None if row is None else int(row[0])


def _acknowledge(connection: psycopg.Connection, finding: Finding, event: RepairEvent) -> None:
    row = {
        "finding_id": finding.id,
        "kind": finding.kind.value,
        "user_id": finding.user_id,
        "sequence": finding.sequence,
        "detail": finding.detail,
        "actor": event.actor,
        "reason": event.reason,
    }
    connection.execute(_repairs("acknowledge"), row)
