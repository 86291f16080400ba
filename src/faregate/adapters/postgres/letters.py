"""Dead letters for operators: list, discard, retry, and resolve as rows.

A letter becomes a row in a transaction of its own, under the lock of its shard, as in a drain. The
transaction writes the row, the balance, the leaf of the row, and a note with actor and reason. If
two operators treat the same letter, the second gets the answer `repeated`.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from faregate.adapters.postgres.archive import (
    CONTENTION,
    CONTENTION_S_MAX,
    LOCK_MS_MAX,
    PAUSE_S_MAX,
    lock_shard,
)
from faregate.adapters.postgres.connection import Bounds, Connector, migrated, owned, unavailable
from faregate.adapters.postgres.dead_letters import DeadLetter, letter_row
from faregate.adapters.postgres.letter_rows import Letter, Made, resolve, retry
from faregate.adapters.postgres.queries import statement
from faregate.domain.dead_letter import LetterKind, LetterOutcome, LetterResult
from faregate.domain.errors import InvalidArgumentError, ShardBlockedError
from faregate.domain.operator import Operator
from faregate.ports import StreamEntry

_FILE = "letters.sql"
_BOUNDS = Bounds(statement_ms_max=30_000, lock_ms_max=5_000)
_SCRUBBED = "its user was deleted, and nothing is left of the record"

#: Reads the record of a dead letter from its address and its bytes.
Read: TypeAlias = Callable[[str, bytes], StreamEntry]
_Row: TypeAlias = Mapping[str, Any]
_MAKERS = {LetterOutcome.RETRIED: retry, LetterOutcome.RESOLVED: resolve}


class PostgresLetters:
    """Dead letters, in the role that ran the migrations. For one thread.

    Every method raises `ArchiveUnavailableError` where Postgres does not answer in time, and
    `ConfigurationError` where it has not been migrated or the role may not do this.
    """

    def __init__(self, conninfo: str, read: Read) -> None:
        """Connect at first use."""
        self._connector = Connector(conninfo, "faregate dead letters", _BOUNDS)
        self._read = read

    def listed(
        self, kind: LetterKind | None, user_id: UUID | None, count_max: int, *, is_all: bool
    ) -> Sequence[_Row]:
        """Return dead letters, the oldest first; with `is_all` also those that were treated."""
        asked = {"kind": kind, "user_id": user_id, "count_max": count_max, "is_all": is_all}
        with self._transaction() as connection:
            return _rows(connection, "list_letters", asked)

    def of_kind(self, kind: LetterKind) -> Sequence[int]:
        """Return the ids of all dead letters of a kind that were not treated yet."""
        with self._transaction() as connection:
            return [row["id"] for row in _rows(connection, "open_letters_of_kind", {"kind": kind})]

    def letters(self, ids: Sequence[int]) -> Sequence[_Row]:
        """Return dead letters with their bytes, in the order of their ids.

        Raises:
            InvalidArgumentError: There is no such letter.
        """
        with self._transaction() as connection:
            found = _rows(connection, "read_letters", {"ids": list(ids)})
        if unknown := set(ids) - {row["id"] for row in found}:
            raise InvalidArgumentError(f"there is no dead letter {min(unknown)}")
        return found

    def record(self, letter: _Row) -> StreamEntry:
        """Read the record of a letter."""
        if letter["payload"]:
            return self._read(letter["stream_id"], bytes(letter["payload"]))
        place = letter["stream_id"]
        return StreamEntry(stream_id=place, payload=b"", transaction=None, problem=_SCRUBBED)

    def discard(self, letters: Sequence[_Row], who: Operator) -> Sequence[LetterResult]:
        """Discard letters, all in one commit. Their records never become rows."""
        with self._transaction() as connection:
            ended = _end(connection, letters, LetterOutcome.DISCARDED, who)
            return [
                _result(letter, LetterOutcome.DISCARDED)
                if letter["id"] in ended
                else _repeated(connection, letter["id"])
                for letter in letters
            ]

    def make_row(self, letter: _Row, outcome: LetterOutcome, who: Operator) -> LetterResult:
        """Make a row of a letter: the record as it is, or a row in its place.

        Args:
            letter: As `letters` has read it.
            outcome: `RETRIED` for the record as it is, `RESOLVED` for a row in its place.
            who: Who does it, and why.
        """
        give_up_at = time.monotonic() + CONTENTION_S_MAX
        while True:
            try:
                with self._transaction() as connection:
                    return self._made(connection, letter, outcome, who)
            except CONTENTION as error:
                if time.monotonic() >= give_up_at:
                    raise ShardBlockedError(f"dead letter {letter['id']}: {error}") from error
                # As in a drain, the deletion of a user never gives way.
                time.sleep(random.uniform(0, PAUSE_S_MAX))  # noqa: S311

    def _made(
        self, connection: psycopg.Connection, row: _Row, outcome: LetterOutcome, who: Operator
    ) -> LetterResult:
        lock_shard(connection, row["shard"])
        connection.execute(statement("bound_lock_wait"), {"lock_ms_max": str(LOCK_MS_MAX)})
        if not _rows(connection, "lock_letter", {"id": row["id"]}):
            return _repeated(connection, row["id"])
        # The user of a record may have been deleted meanwhile.
        (row,) = _rows(connection, "read_letters", {"ids": [row["id"]]})
        letter = Letter(
            id=row["id"],
            shard=row["shard"],
            kind=LetterKind(row["kind"]),
            entry=self.record(row),
        )
        if not row["payload"]:
            return _unchanged(connection, row, letter.stays(_SCRUBBED), who)
        made = _MAKERS[outcome](connection, letter, who)
        if isinstance(made, DeadLetter):
            return _unchanged(connection, row, made, who)
        _append(connection, row["shard"], made)
        _end(connection, [row], outcome, who, made.row_id)
        return _result({**row, **_known(letter.entry)}, outcome, row_id=made.row_id)

    @contextmanager
    def _transaction(self) -> Iterator[psycopg.Connection]:
        with (
            unavailable("treat dead letters"),
            migrated(),
            owned("treat dead letters"),
            self._connector.transaction() as connection,
        ):
            yield connection

    def close(self) -> None:
        """Close the connection; the next query opens another."""
        self._connector.close()


def _rows(
    connection: psycopg.Connection, name: str, asked: Mapping[str, object]
) -> list[dict[str, Any]]:
    cursor = connection.cursor(row_factory=dict_row)
    return cursor.execute(statement(name, _FILE), asked).fetchall()


def _end(
    connection: psycopg.Connection,
    letters: Sequence[_Row],
    outcome: LetterOutcome,
    who: Operator,
    row_id: UUID | None = None,
) -> set[int]:
    """Note the outcome of letters; return the ids of those that had none."""
    asked = {
        "ids": [letter["id"] for letter in letters],
        "outcome": outcome,
        "row_id": row_id,
        "actor": who.actor,
        "actor_reason": who.reason,
    }
    return {row["id"] for row in _rows(connection, "end_letters", asked)}


def _repeated(connection: psycopg.Connection, letter_id: int) -> LetterResult:
    (now,) = _rows(connection, "read_letters", {"ids": [letter_id]})
    # A letter that was discarded by SQL has no outcome.
    outcome = LetterOutcome(now["outcome"] or LetterOutcome.DISCARDED)
    return _result(now, outcome, row_id=now["row_id"], repeated=True)


def _unchanged(
    connection: psycopg.Connection, row: _Row, letter: DeadLetter, who: Operator
) -> LetterResult:
    asked = {**letter_row(letter), "id": row["id"], "actor": who.actor, "actor_reason": who.reason}
    connection.execute(statement("save_letter", _FILE), asked)
    unchanged = {**row, **_known(letter.entry), "kind": letter.kind}
    return _result(unchanged, LetterOutcome.STAYS, reason=letter.reason)


def _known(entry: StreamEntry) -> dict[str, Any]:
    """Return the columns of a record that may have been unreadable when it was stored."""
    made = entry.transaction
    return {"user_id": made and made.user_id, "amount": made and made.amount}


def _append(connection: psycopg.Connection, shard: int, made: Made) -> None:
    asked = {"shard": shard, "leaves": made.leaves}
    if made.leaves and not connection.execute(statement("append_leaves", _FILE), asked).rowcount:
        raise ShardBlockedError(
            f"the newest batch of shard {shard} was changed by hand: see `faregate verify`"
        )


def _result(letter: _Row, outcome: LetterOutcome, **more: Any) -> LetterResult:
    names = ("id", "kind", "user_id", "amount")
    return LetterResult(outcome=outcome, **{name: letter[name] for name in names}, **more)
