"""Read-only queries of operators: whether the numbers agree.

Each answer comes from one snapshot, so it is true of one moment under traffic.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg.rows import DictRow, dict_row

from faregate.adapters.postgres.access import AUDIT_RIGHTS, AUDITOR, check
from faregate.adapters.postgres.connection import (
    Bounds,
    Connector,
    migrated,
    require_primary,
    unavailable,
)
from faregate.adapters.postgres.cursors import cursors_of
from faregate.adapters.postgres.findings import CHECKS, explanations, guard
from faregate.adapters.postgres.queries import statement
from faregate.adapters.postgres.schema import find_differences
from faregate.domain.errors import ConfigurationError, HiddenRowsError
from faregate.domain.finding import Acknowledgement, DriftKind, Finding
from faregate.domain.identity import LedgerIdentity
from faregate.domain.user import User
from faregate.ports import Copy, Cursor

#: The most findings of each kind in one verification.
FINDINGS_MAX = 1_000

#: The reader of an export may be slow, and its transaction waits.
_BOUNDS = Bounds(statement_ms_max=600_000, lock_ms_max=5_000, idle_ms_max=600_000)
_FIRST = UUID(int=0)
_BIGINT_MAX = 2**63 - 1


class PostgresAudit:
    """The port `Audit`. For one thread; connects on first use.

    Every method raises `ArchiveUnavailableError` where Postgres does not answer in time, and
    `ConfigurationError` where it has not been migrated. A role that may not see all rows is a
    `HiddenRowsError`. A standby is a `StandbyError`: compared with a live ledger, its rows would be
    behind.
    """

    def __init__(self, conninfo: str) -> None:
        self._connector = Connector(conninfo, "faregate audit", _BOUNDS)
        #: Whether the role is known to see all rows. A role that does not would report drift.
        self._sees_all = False

    def identity(self) -> LedgerIdentity:
        """Return the identity of the ledger, fixed when it was created."""
        for row in self._rows(statement("read_identity"), {}):
            return LedgerIdentity(**row)
        raise ConfigurationError("the ledger has no identity; run `faregate migrate`")

    def cursors(self) -> Mapping[int, Cursor]:
        """Return the newest cursor of each shard that has one."""
        return cursors_of(self._rows(statement("read_cursors"), {}))

    def users(
        self, after: UUID | None, count_max: int, since: datetime | None = None
    ) -> Sequence[UUID]:
        """Return the next users by id: all that have a profile or a row; see the port."""
        # No user has the nil UUID, so it comes before the first.
        bounds = {"after": after or _FIRST, "count_max": count_max, "since": since}
        name = "list_users" if since is None else "list_users_since"
        return [row["user_id"] for row in self._rows(_audit(name), bounds)]

    def users_estimate(self) -> int | None:
        """Return the estimated number of users; None where Postgres has no statistics."""
        (row,) = self._rows(_audit("estimate_users"), {})
        return None if row["users"] < 0 else int(row["users"])

    def reached(self, users: Sequence[UUID]) -> Mapping[UUID, User]:
        """Return how far the rows of users go: sequence and epoch are those of the last one."""
        rows = self._rows(_audit("read_reached"), {"user_ids": list(users)})
        return {
            row["user_id"]: User(
                id=row["user_id"],
                credits=row["credits"],
                sequence=row["sequence_max"],
                epoch=row["epoch"],
            )
            for row in rows
        }

    def compare(
        self, users: Sequence[UUID], live: Mapping[UUID, User], copies: Sequence[Copy]
    ) -> Sequence[Finding]:
        """Compare live balances with rows, dead letters and stream copies, in one snapshot.

        Only rows and copies up to a user's live sequence count, so traffic may flow meanwhile. Read
        `live` before `copies`: each record is then among the copies or was drained before, and a
        copy that was drained since is known by its content. For a user that is not in `live`, only
        the profile is compared. A deleted user has no finding.
        """
        rows = self._rows(_audit("sum_users"), _sums(users, live, copies))
        return [finding for row in rows for finding in _drift(row, live.get(row["user_id"]))]

    def verify(self, users: Sequence[UUID] | None = None) -> Sequence[Finding]:
        """Check the invariants of rows, dead letters and schema; see the port.

        At most `FINDINGS_MAX` of each kind about rows are returned.
        """
        findings: list[Finding] = []
        asked = {"findings_max": FINDINGS_MAX, "user_ids": None if users is None else list(users)}
        with self.snapshot() as connection:
            for name, read in CHECKS.items():
                cursor = connection.cursor(row_factory=dict_row)
                findings += map(read, cursor.execute(_audit(name), asked))
            if users is None:
                # Last, since from here on the search path is empty.
                findings += map(guard, find_differences(connection))
        return findings

    def acknowledgements(self) -> Mapping[str, Acknowledgement]:
        """Return the acknowledgements by the ids of their findings; a fork explains some."""
        rows = self._rows(_audit("read_acknowledgements"), {})
        accepted = {row.pop("finding_id"): Acknowledgement(**row) for row in rows}
        users = [
            row["user_id"] for row in self._rows(statement("list_fork_users", "forks.sql"), {})
        ]
        asked = {"findings_max": FINDINGS_MAX, "user_ids": users}
        explained = self._rows(_audit("find_forks"), asked) if users else []
        return explanations(explained) | accepted

    def digest(self) -> str:
        """Return a digest of all rows ever written, to be stored elsewhere."""
        (row,) = self._rows(_audit("read_digest"), {})
        return str(row["digest"])

    def dead_letter_count(self) -> int:
        """Return the number of dead letters that are not discarded."""
        return sum(self.dead_letter_counts().values())

    def dead_letter_counts(self) -> Mapping[str, int]:
        """Return how many dead letters are not discarded, by their kind."""
        rows = self._rows(statement("count_dead_letters"), {})
        return {row["kind"]: row["letter_count"] for row in rows}

    def close(self) -> None:
        """Close the connection; the next query opens another."""
        self._connector.close()

    def _rows(self, query: LiteralString, parameters: Mapping[str, object]) -> list[DictRow]:
        with self.snapshot() as connection:
            return connection.cursor(row_factory=dict_row).execute(query, parameters).fetchall()

    @contextmanager
    def snapshot(self) -> Iterator[psycopg.Connection]:
        """Open a read-only transaction that sees all rows as of one moment."""
        with (
            unavailable("read the rows"),
            migrated(),
            self._connector.transaction(is_snapshot=True) as connection,
        ):
            if not self._sees_all:
                require_primary(connection)
                check(connection, AUDITOR, AUDIT_RIGHTS, HiddenRowsError)
                self._sees_all = True
            yield connection


def _audit(name: str) -> LiteralString:
    return statement(name, "audit.sql")


def _sums(
    users: Sequence[UUID], live: Mapping[UUID, User], copies: Sequence[Copy]
) -> dict[str, object]:
    """Return the parameters of a query: users, their sequences, and the sums of their copies."""
    asked = list(dict.fromkeys(users))
    reached = {user_id: live[user_id].sequence for user_id in asked if user_id in live}
    pending = [copy for copy in copies if copy.sequence <= reached.get(copy.user_id, 0)]
    return {
        "user_ids": asked,
        "sequences": [_column(reached.get(user_id)) for user_id in asked],
        "copy_stream_ids": [copy.stream_id for copy in pending],
        "copy_ids": [copy.id for copy in pending],
        "copy_user_ids": [copy.user_id for copy in pending],
        "copy_amounts": [copy.amount for copy in pending],
        "copy_types": [copy.type.value for copy in pending],
        "copy_sequences": [_column(copy.sequence) for copy in pending],
        "copy_epochs": [copy.epoch for copy in pending],
    }


def _column(sequence: int | None) -> int | None:
    """Clamp a number that was tampered with to the range of a column."""
    return None if sequence is None else min(sequence, _BIGINT_MAX)


def _drift(row: Mapping[str, Any], live: User | None) -> Iterator[Finding]:
    user_id, durable, total = row["user_id"], row["credits"], int(row["row_total"])
    if durable != total:
        says = "has no profile" if durable is None else f"has {durable} credits in its profile"
        yield Finding(
            kind=DriftKind.PROJECTION,
            user_id=user_id,
            sequence=row["credits_sequence"],
            expected=total,
            found=durable,
            detail=f"User {user_id} {says}, but its rows add up to {total}.",
        )
    expected = int(row["live_total"])
    if live is not None and live.credits != expected:
        yield Finding(
            kind=DriftKind.LIVE,
            user_id=user_id,
            sequence=live.sequence,
            expected=expected,
            found=live.credits,
            detail=f"User {user_id} has {live.credits} live credits at sequence {live.sequence},"
            f" but rows and pending records up to there add up to {expected}"
            f" ({live.credits - expected:+}).",
        )
