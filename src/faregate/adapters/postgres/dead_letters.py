"""Stores the records that cannot be rows, so that none is lost and none blocks the others."""

from collections.abc import Iterable
from dataclasses import dataclass

import psycopg

from faregate.adapters.postgres.queries import statement
from faregate.domain.dead_letter import LetterKind
from faregate.ports import StreamEntry

REASON_LENGTH_MAX = 500

_BIGINT_MAX = 2**63 - 1
#: The columns that a letter shares with its transaction.
_NAMES = (
    "user_id",
    "amount",
    "type",
    "sequence",
    "epoch",
    "allowance_amount",
    "allowance_after",
    "period_start",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An entry that cannot be a row, and why."""

    entry: StreamEntry
    kind: LetterKind
    reason: str
    #: Whether it counts nothing from the start, since a row stands for its record.
    is_discarded: bool = False


def save_letters(connection: psycopg.Connection, shard: int, letters: Iterable[DeadLetter]) -> None:
    """Store entries, each once for its place in the stream."""
    rows = [
        {"shard": shard, "is_discarded": letter.is_discarded, **letter_row(letter)}
        for letter in letters
    ]
    if rows:
        connection.cursor().executemany(statement("insert_dead_letter"), rows)


def letter_row(letter: DeadLetter) -> dict[str, object]:
    """Return the columns of a letter, but for its shard."""
    transaction = letter.entry.transaction
    row: dict[str, object] = {
        "stream_id": letter.entry.stream_id,
        "kind": letter.kind,
        "reason": _printable(letter.reason),
        "payload": letter.entry.payload,
    }
    row |= {name: _bounded(getattr(transaction, name, None)) for name in _NAMES}
    refund_of = None if transaction is None else transaction.refund_of
    row["transaction_id"] = None if transaction is None else transaction.id.value
    row["refund_of"] = None if refund_of is None else refund_of.value
    return row


def _bounded(value: object) -> object:
    """Return None for a number that no column can hold; the payload still has it."""
    return None if isinstance(value, int) and abs(value) > _BIGINT_MAX else value


def _printable(text: str) -> str:
    """Shorten a reason, and replace characters that Postgres refuses."""
    text = text[:REASON_LENGTH_MAX].replace("\0", "?")
    return text.encode("utf-8", "replace").decode("utf-8")
