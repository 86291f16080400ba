"""Forks and their records, for the worker that aligns live balances with kept records."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, LiteralString
from uuid import UUID

import psycopg
from psycopg import errors
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from faregate.adapters.postgres.archive import lock_shard
from faregate.adapters.postgres.connection import Bounds, Connector, migrated, unavailable
from faregate.adapters.postgres.queries import statement
from faregate.adapters.postgres.rewinds import FILE, name_rows
from faregate.domain.alignment import Aligned, Alignment, LiveAccount, LiveDrift
from faregate.domain.fork import ALIGNER
from faregate.domain.transaction import CreditTransactionId
from faregate.domain.user import User
from faregate.ports import DueUser, ReportedAnswers

#: How old an alignment without an answer is before another worker sends it again, in seconds.
UNANSWERED_S_MIN: Final = 5.0

#: The interval in which users of lost answers are looked for, in seconds.
OWNERS_INTERVAL_S: Final = 60.0

_BOUNDS = Bounds(statement_ms_max=30_000, lock_ms_max=5_000)


class PostgresForks:
    """The port `Forks`. For one thread; connects on first use."""

    def __init__(self, conninfo: str) -> None:
        self._connector = Connector(conninfo, "faregate forks", _BOUNDS)
        self._owners_at = 0.0

    def store(self, answers: ReportedAnswers) -> int:
        """Store a report, once; see the port."""
        place = {"shard": answers.shard, "epoch": answers.epoch}
        asked = {**place, "report": answers.report, "is_at_least": answers.is_at_least}
        with self._transaction("store lost answers") as connection:
            lock_shard(connection, answers.shard)
            found = _rows(connection, "find_report", asked)
            fork = (found or _rows(connection, "insert_fork", place))[0]
            stored = {"fork_id": fork["id"], "ids": list(dict.fromkeys(answers.ids)), **asked}
            _execute(connection, "count_report", stored)
            return int(_rows(connection, "insert_reported", stored)[0]["new_count"])

    def name_more(self) -> bool:
        """Name more kept records of forks with very many; see the port."""
        has_more = False
        with self._transaction("name lost records") as connection:
            for fork in _rows(connection, "find_unnamed", {}):
                lock_shard(connection, fork["shard"])
                asked = {"lost_since": fork["lost_since"], "ids": [], "times": []}
                has_more |= name_rows(connection, fork["id"], asked)
            if time.monotonic() >= self._owners_at:
                _execute(connection, "note_owners", {})
                self._owners_at = time.monotonic() + OWNERS_INTERVAL_S
        return has_more

    def due(self, after: DueUser | None, count_max: int) -> Sequence[DueUser]:
        """Return the next users whose live balances must be compared and aligned."""
        asked = {
            "after_fork": after.fork_id if after else 0,
            "after_user": after.user_id if after else UUID(int=0),
            "count_max": count_max,
        }
        with self._transaction("read forks") as connection:
            rows = _rows(connection, "find_due", asked)
        return [DueUser(**row) for row in rows]

    def note_aligned(self, users: Sequence[tuple[DueUser, bool]]) -> None:
        """Note that balances are right; see the port."""
        if not users:
            return
        asked = {
            "fork_ids": [user.fork_id for user, _ in users],
            "user_ids": [user.user_id for user, _ in users],
            "due_at": [user.due_at for user, _ in users],
            "are_right": [is_right for _, is_right in users],
        }
        with self._transaction("note aligned balances") as connection:
            _execute(connection, "note_aligned", asked)

    def begin(self, user: DueUser, alignment: Alignment) -> bool:
        """Note an alignment before it is sent; see the port."""
        drift = alignment.drift
        row = {
            "event_id": alignment.id.value,
            "finding_id": f"fork {user.fork_id}",
            "user_id": user.user_id,
            "amount": drift.amount,
            "detail": f"changes the live balance of {user.user_id} by {drift.amount:+}, to the sum"
            " of rows and pending records.",
            "actor": ALIGNER,
            "reason": f"fork {user.fork_id} of shard {user.shard}",
            "deadline_at": datetime.fromtimestamp(alignment.deadline_ms / 1_000, UTC),
            "request": Jsonb(_request(alignment)),
        }
        with self._transaction("begin an alignment") as connection:
            try:
                with connection.transaction():
                    _execute(connection, "begin_alignment", row)
            except errors.ForeignKeyViolation:
                return False
        return True

    def end(self, alignment: Alignment, aligned: Aligned | None) -> None:
        """Note the answer; see the port."""
        row = {
            "event_id": alignment.id.value,
            "sequence": aligned and aligned.sequence,
            "balance_before": aligned and aligned.credits_before,
            "balance_after": aligned and aligned.credits,
        }
        with self._transaction("end an alignment") as connection:
            _execute(connection, "end_alignment", row)

    def unanswered(self, count_max: int) -> Sequence[Alignment]:
        """Return alignments without a known answer, to be sent again; see the port."""
        asked = {"age_s_min": UNANSWERED_S_MIN, "count_max": count_max}
        with self._transaction("read alignments") as connection:
            rows = _rows(connection, "find_unanswered", asked)
        return [_alignment(row["event_id"], row["user_id"], row["request"]) for row in rows]

    @contextmanager
    def _transaction(self, doing: str) -> Iterator[psycopg.Connection]:
        with unavailable(doing), migrated(), self._connector.transaction() as connection:
            yield connection

    def close(self) -> None:
        """Close the connection; the next query opens another."""
        self._connector.close()


def _request(alignment: Alignment) -> Mapping[str, Any]:
    """Return what is sent to Redis."""
    drift, account = alignment.drift, alignment.drift.account
    return {
        "shard": account.shard,
        "epoch": account.epoch,
        "last_id": account.last_id and str(account.last_id),
        "is_missing": account.user is None,
        "amount": drift.amount,
        "allowance_amount": drift.allowance_amount,
        "sequence_min": drift.sequence_min,
        "period_start_ms": drift.period_start_ms,
        "deadline_ms": alignment.deadline_ms,
    }


def _alignment(event_id: UUID, user_id: UUID, request: Mapping[str, Any]) -> Alignment:
    """Return the alignment that was sent."""
    last_id = request["last_id"]
    account = LiveAccount(
        user_id=user_id,
        shard=request["shard"],
        epoch=request["epoch"],
        ordinal=0,
        at_ms=0,
        user=None if request["is_missing"] else User(id=user_id, credits=0, sequence=0, epoch=0),
        last_id=CreditTransactionId(UUID(last_id)) if last_id else None,
    )
    names = ("amount", "allowance_amount", "sequence_min", "period_start_ms")
    drift = LiveDrift(account=account, **{name: request[name] for name in names})
    return Alignment(
        id=CreditTransactionId(event_id), drift=drift, deadline_ms=request["deadline_ms"]
    )


def _rows(
    connection: psycopg.Connection, name: LiteralString, asked: Mapping[str, Any]
) -> list[dict[str, Any]]:
    return connection.cursor(row_factory=dict_row).execute(statement(name, FILE), asked).fetchall()


def _execute(connection: psycopg.Connection, name: LiteralString, asked: Mapping[str, Any]) -> int:
    return connection.execute(statement(name, FILE), asked).rowcount
