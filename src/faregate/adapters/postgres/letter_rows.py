"""Makes rows of dead letters: the record as it is, or the part of it that can be stored."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite
from uuid import UUID

import psycopg

from faregate.adapters.postgres.cursors import read_newest
from faregate.adapters.postgres.dead_letters import DeadLetter
from faregate.adapters.postgres.inserts import ProfileVanishedError, insert, rows_of
from faregate.adapters.postgres.queries import statement
from faregate.adapters.postgres.sorting import REFUSALS, Sorter, content, known_contents
from faregate.domain.dead_letter import LetterKind
from faregate.domain.operator import Operator
from faregate.domain.transaction import CreditTransaction, CreditTransactionId
from faregate.ports import StreamEntry


@dataclass(frozen=True, slots=True)
class Made:
    """A row that was made for a dead letter."""

    row_id: UUID
    #: The leaf of the record, 16 bytes; empty if the record had been a row before.
    leaves: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A dead letter that is to become a row, in a transaction that holds the lock of its shard."""

    id: int
    shard: int
    kind: LetterKind
    entry: StreamEntry

    def stays(self, reason: str) -> DeadLetter:
        """Return the reason why it is still a dead letter."""
        return DeadLetter(entry=self.entry, kind=self.kind, reason=reason)


def retry(connection: psycopg.Connection, letter: Letter, _: Operator) -> Made | DeadLetter:
    """Store the record by the checks of the drain, or return why that is not possible now."""
    newest = read_newest(connection, letter.shard)
    sorter = Sorter(connection, letter.shard, newest.ledger_epoch, has_refused=True)
    sorter.sort([letter.entry])
    made = letter.entry.transaction
    if sorter.letters or made is None:
        return sorter.letters[0]
    return Made(made.id.value, sorter.inserted.leaves)


def resolve(connection: psycopg.Connection, letter: Letter, who: Operator) -> Made | DeadLetter:
    """Make a row in place of the record, or return why that is not possible.

    The row has the id, the place, the time and the metadata of the record, as far as they can be
    stored. If another row has the id, this row gets a new id, and its metadata name both.
    """
    made = letter.entry.transaction
    if made is None:
        return letter.stays(letter.entry.problem)
    user = {"user_id": made.user_id, "sequence": made.sequence}
    asked = {"user_ids": [made.user_id], "provision": False}
    if not connection.execute(statement("open_users"), asked).fetchall():
        return letter.stays("its user does not exist")
    known = known_contents(connection, [made.id.value]).get(made.id.value)
    if known == content(made):
        return Made(made.id.value, b"")
    row = _row(made, letter.id, who, is_known=known is not None)
    try:
        # A sequence may be too large for the query, too.
        with connection.transaction():
            ((is_used,),) = connection.execute(
                statement("is_place_used", "letters.sql"), user
            ).fetchall()
        if is_used:
            return letter.stays(f"transaction {made.sequence} of its user is another row")
        return Made(row.id.value, insert(connection, rows_of([row])).leaves)
    except (*REFUSALS, ProfileVanishedError) as error:
        return letter.stays(str(error))


def _row(
    made: CreditTransaction, letter_id: int, who: Operator, *, is_known: bool
) -> CreditTransaction:
    metadata = {str(_storable(name)): _storable(value) for name, value in _items(made.metadata)}
    metadata |= {"dead_letter": letter_id, "actor": who.actor, "reason": who.reason}
    row_id = made.id
    if is_known:
        metadata["original_id"] = str(made.id)
        row_id = CreditTransactionId.derive(f"dead letter {letter_id}", made.id.value)
    description = str(_storable(made.description))
    return replace(made, id=row_id, description=description, metadata=metadata)


def _items(metadata: Mapping[str, object] | None) -> list[tuple[str, object]]:
    return list((metadata or {}).items())


def _storable(value: object) -> object:
    """Replace characters and numbers that Postgres can store neither as text nor as JSON."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_storable(name): _storable(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_storable(part) for part in value]
    return str(value) if isinstance(value, float) and not isfinite(value) else value
