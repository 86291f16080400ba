"""Sorts a batch in which some records cannot be stored as they are.

A record may be stored already. Its user may be deleted, or have no profile. Its epoch may be over.
Or Postgres refuses it. Records that cannot be rows become dead letters, and the others become rows,
in the same transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from uuid import UUID

import psycopg
from psycopg import errors
from psycopg.rows import dict_row

from faregate.adapters.postgres.dead_letters import DeadLetter, save_letters
from faregate.adapters.postgres.inserts import NOTHING, Inserted, insert, rows_of
from faregate.adapters.postgres.queries import statement
from faregate.domain.dead_letter import LetterKind
from faregate.domain.errors import ShardBlockedError
from faregate.domain.transaction import (
    CreditTransaction,
    CreditTransactionId,
    TransactionType,
)
from faregate.ports import Stored, StreamEntry

#: Errors that the content of a record causes. A `ValueError` is raised before the server sees the
#: record, by text that is not UTF-8 or metadata that is not JSON.
REFUSALS = (
    errors.DataError,
    errors.CheckViolation,
    errors.NotNullViolation,
    errors.UniqueViolation,
    errors.ExclusionViolation,
    errors.ProgramLimitExceeded,
    errors.RaiseException,
    ValueError,
)


class RecordRefusedError(Exception):
    """Postgres refuses some records of a batch that is too long to be halved."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A record that may become a row."""

    entry: StreamEntry
    transaction: CreditTransaction


@dataclass(slots=True)
class _Parted:
    """Records by what is known of their ids."""

    unknown: list[_Candidate] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    repeated: int = 0
    #: Records that were made again after Redis lost them.
    again: list[UUID] = field(default_factory=list)


@dataclass(slots=True)
class Sorter:
    """Stores the records of one batch, in one transaction."""

    connection: psycopg.Connection
    shard: int
    #: The epoch of the ledger. Records of an older one are stored only where they go on from rows.
    epoch: int
    #: Whether Postgres refused some of them, which halving must find.
    has_refused: bool = False
    letters: list[DeadLetter] = field(default_factory=list)
    inserted: Inserted = NOTHING
    repeated: int = 0
    letters_before: int = 0
    deleted_users: set[UUID] = field(default_factory=set)

    def store(self, records: Sequence[StreamEntry]) -> Stored:
        """Store all records as rows or dead letters."""
        self.sort(self._not_letters(records))
        self._find_refused()
        save_letters(self.connection, self.shard, self.letters)
        self._scrub()
        return Stored(
            inserted=self.inserted.count,
            repeated=self.repeated,
            dead_letters=self.letters_before + len(self.letters),
            deleted_users=frozenset(self.deleted_users),
        )

    def sort(self, records: Sequence[StreamEntry]) -> None:
        """Store the records that can be rows, and note why the others cannot."""
        self._insert(self._of_users(self._unknown(self._readable(records))))

    def _scrub(self) -> None:
        """Remove user ids from letters of deleted users, not of users that never existed."""
        users = {made.user_id for letter in self.letters if (made := letter.entry.transaction)}
        if users:
            asked = {"user_ids": list(users)}
            self.connection.execute(statement("scrub_dead_letters"), asked)

    def _give_up(self, entry: StreamEntry, kind: LetterKind, reason: str) -> None:
        self.letters.append(DeadLetter(entry=entry, kind=kind, reason=reason))

    def _not_letters(self, records: Sequence[StreamEntry]) -> list[StreamEntry]:
        """Leave out records that are dead letters already: they must not become rows as well."""
        asked = {"shard": self.shard, "stream_ids": [record.stream_id for record in records]}
        cursor = self.connection.execute(statement("find_dead_letters"), asked)
        known = {(stream_id, bytes(digest)) for stream_id, digest in cursor}
        if not known:
            return list(records)
        left = [
            record
            for record in records
            if (record.stream_id, sha256(record.payload).digest()) not in known
        ]
        self.letters_before = len(records) - len(left)
        return left

    def _readable(self, records: Sequence[StreamEntry]) -> list[_Candidate]:
        candidates = []
        for entry in records:
            if entry.transaction is None:
                self._give_up(entry, LetterKind.UNREADABLE, entry.problem)
            else:
                candidates.append(_Candidate(entry, entry.transaction))
        return candidates

    def _unknown(self, candidates: Sequence[_Candidate]) -> list[_Candidate]:
        """Leave out records whose id is that of a row, or of an earlier record."""
        parted = _part_by_id(self.connection, candidates)
        self.repeated += parted.repeated
        self.letters += parted.letters
        return parted.unknown

    def _of_users(self, candidates: Sequence[_Candidate]) -> list[_Candidate]:
        """Leave out records of deleted users, and those whose history is not that of the rows."""
        user_ids = list({candidate.transaction.user_id for candidate in candidates})
        cursor = self.connection.execute(statement("find_users"), {"user_ids": user_ids})
        reached: dict[UUID, int | None] = dict(cursor.fetchall())
        new = [user_id for user_id, sequence in reached.items() if sequence is None]
        if new:
            # Before the insert, since a new profile may sum up the rows that exist.
            asked = {"user_ids": new, "provision": False}
            opened = self.connection.execute(statement("open_users"), asked).fetchall()
            reached |= dict.fromkeys(new, 0) | {row[0]: row[2] for row in opened}
        left = []
        for candidate in candidates:
            transaction = candidate.transaction
            user_id = transaction.user_id
            sequence = reached.get(user_id)
            if sequence is None:
                self.deleted_users.add(user_id)
                reason = "the user was deleted before the record was stored"
                self._give_up(candidate.entry, LetterKind.DELETED_USER, reason)
            elif transaction.epoch < self.epoch and transaction.sequence != sequence + 1:
                reason = f"epoch {transaction.epoch} is over, and the rows do not go on with this"
                self._give_up(candidate.entry, LetterKind.FORK, reason)
            else:
                reached[user_id] = max(sequence, transaction.sequence)
                left.append(candidate)
        return left

    def _insert(self, candidates: Sequence[_Candidate]) -> None:
        """Insert the records that Postgres accepts; find those that it refuses by halving."""
        if not candidates:
            return
        fill = rows_of([candidate.transaction for candidate in candidates])
        try:
            self.inserted += insert(self.connection, fill)
        except REFUSALS as error:
            if not self.has_refused:
                raise RecordRefusedError from error
            if len(candidates) == 1:
                self._give_up(candidates[0].entry, LetterKind.REFUSED, str(error))
            else:
                middle = len(candidates) // 2
                self._insert(candidates[:middle])
                self._insert(candidates[middle:])
        else:
            self.connection.execute(statement("discard_rows"))

    def _find_refused(self) -> None:
        """Check that the refused records are at fault: Postgres accepts another or a typical one.

        Raises:
            ShardBlockedError: The schema refuses every record.
        """
        refused = [letter.entry for letter in self.letters if letter.kind == LetterKind.REFUSED]
        if self.inserted.count or not refused:
            return
        probe = _usual(next(entry.transaction for entry in refused if entry.transaction))
        try:
            with self.connection.transaction(force_rollback=True):
                insert(self.connection, rows_of([probe]))
        except REFUSALS as error:
            raise ShardBlockedError(
                f"the schema refuses every record of shard {self.shard}: {str(error).strip()}"
                " (a constraint or a trigger that was added: change it, and records are stored)"
            ) from error


def _usual(transaction: CreditTransaction) -> CreditTransaction:
    """Return a typical record of the same user."""
    return replace(
        transaction,
        id=CreditTransactionId.derive("probe", transaction.id.value),
        amount=0,
        type=TransactionType.DEDUCT,
        description="request",
        metadata=None,
        sequence=1,
        balance_after=0,
        epoch=1,
        refund_of=None,
        allowance_amount=0,
        allowance_after=0,
        period_start=None,
    )


def _part_by_id(connection: psycopg.Connection, candidates: Sequence[_Candidate]) -> _Parted:
    """Find records whose id is that of a row, or of an earlier record.

    A record that was made again after Redis lost it counts nothing, since a row stands for it. The
    live balance of its user includes it, and must be aligned.
    """
    ids = [candidate.transaction.id.value for candidate in candidates]
    known = known_contents(connection, ids)
    kept = kept_records(connection, ids) if ids else {}
    parted = _Parted()
    for candidate in candidates:
        made, fields = candidate.transaction, content(candidate.transaction)
        identity = made.id.value
        if known.get(identity) == fields:
            parted.repeated += 1
        elif kept.get(identity) == made.user_id:
            reason = "it was made again after Redis lost it; its first record counts"
            parted.letters.append(
                DeadLetter(
                    entry=candidate.entry, kind=LetterKind.FORK, reason=reason, is_discarded=True
                )
            )
            parted.again.append(identity)
        elif known.setdefault(identity, fields) is fields:
            parted.unknown.append(candidate)
        else:
            reason = f"transaction {made.id} is stored already, with other content"
            parted.letters.append(
                DeadLetter(entry=candidate.entry, kind=LetterKind.CONFLICT, reason=reason)
            )
    if parted.again:
        connection.execute(statement("reopen_kept", "forks.sql"), {"ids": parted.again})
    return parted


def known_contents(
    connection: psycopg.Connection, ids: Sequence[UUID]
) -> dict[UUID, tuple[object, ...]]:
    """Return the `content` of the transactions that are rows, by their ids."""
    cursor = connection.cursor(row_factory=dict_row)
    rows = cursor.execute(statement("find_known"), {"ids": list(ids)})
    return {row.pop("id"): tuple(row.values()) for row in rows}


def kept_records(connection: psycopg.Connection, ids: Sequence[UUID]) -> dict[UUID, UUID]:
    """Return those of the ids whose records Redis has lost after they were stored, with users."""
    asked = {"ids": list(ids)}
    return dict(connection.execute(statement("find_kept", "forks.sql"), asked).fetchall())


def content(transaction: CreditTransaction) -> tuple[object, ...]:
    """Return the fields that two records with one id must have in common."""
    return (
        transaction.user_id,
        transaction.amount,
        transaction.type.value,
        transaction.sequence,
        transaction.epoch,
    )
