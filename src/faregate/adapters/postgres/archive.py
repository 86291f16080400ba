"""Makes rows of records, exactly once.

A batch is one transaction, and its order of locks is what keeps it out of everybody's way:

1. The shard, so that a second drain of it waits instead of meeting the first one's rows.
2. The users, by the foreign key's check at the end of the insert, in id order. Deleting a user
   locks it before anything that belongs to it; so the profiles come after the users here too.
3. The profiles, in id order.

A lock other than the shard's is waited for briefly: less long than Postgres lets two transactions
block each other before it ends one of them (`deadlock_timeout`, a second), so that the one that
gives way is this one and never somebody who deletes users. A batch that gave way, or met a user
that was deleted in the middle, is run again in two halves, each with half of the users: so the
few that somebody works on hold up nobody else, however many are deleted at the same time.
"""

import json
import random
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import psycopg
from psycopg import errors
from psycopg.rows import class_row

from faregate.adapters.postgres.connection import Bounds, Connector, bounded, unavailable
from faregate.adapters.postgres.dead_letters import DeadLetter, keep, kept
from faregate.adapters.postgres.queries import statement
from faregate.domain.errors import ConfigurationError
from faregate.domain.identity import LedgerIdentity
from faregate.domain.transaction import CreditTransaction
from faregate.ports import Stored, StreamEntry

#: For how long a batch tries to get past others, in seconds, and how long it pauses in between.
CONTENTION_S_MAX = 10.0
PAUSE_S_MAX = 0.05
LOCK_MS_MAX = 200

_BOUNDS = Bounds(statement_ms_max=30_000, lock_ms_max=5_000)
#: Keeps our advisory locks apart from those of others: "Fare" in ASCII.
_LOCK_NAMESPACE = 0x46617265
#: Made once: `json.dumps` makes an encoder for each value whenever it is given an option.
_JSON = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


class _ProfileVanishedError(psycopg.OperationalError):
    """A profile was deleted after it had been seen, by somebody who left its user alone."""


#: Somebody else was there at the same time, and will not be for ever.
_RERUN = (
    errors.ForeignKeyViolation,
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.LockNotAvailable,
    _ProfileVanishedError,
)
#: A record's own fault: it would be refused again. A `ValueError` comes before the server has seen
#: it, from text that is not UTF-8 or metadata that is not JSON.
_REFUSED = (
    errors.DataError,
    errors.CheckViolation,
    errors.NotNullViolation,
    errors.UniqueViolation,
    errors.ExclusionViolation,
    errors.ProgramLimitExceeded,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An entry that may become a row."""

    entry: StreamEntry
    transaction: CreditTransaction


@dataclass(frozen=True, slots=True)
class _Part:
    """What became of the candidates, or of a part of them."""

    inserted: int
    letters: Sequence[DeadLetter]


class PostgresArchive:
    """The port `TransactionArchive`. For one thread; connects on first use."""

    def __init__(self, conninfo: str) -> None:
        self._connector = Connector(bounded(conninfo, "faregate drain", _BOUNDS))

    def identity(self) -> LedgerIdentity:
        """Return what the ledger was created with."""
        with unavailable("read what the ledger was created with"):
            cursor = self._connector.connection().cursor(row_factory=class_row(LedgerIdentity))
            row = cursor.execute(statement("read_identity")).fetchone()
        if row is None:
            raise ConfigurationError("the ledger has no identity; run `faregate migrate`")
        return row

    def store(self, shard: int, entries: Sequence[StreamEntry]) -> Stored:
        """Store a batch, in one transaction unless somebody is in its way.

        When this returns, every entry is durable.

        Raises:
            ArchiveUnavailableError: Not all was stored, or it is not known to be; read again.
        """
        outcomes: list[Stored] = []
        parts = deque([entries] if entries else [])
        give_up_at = time.monotonic() + CONTENTION_S_MAX
        with unavailable(f"store records of shard {shard}"):
            while parts:
                part = parts.popleft()
                try:
                    outcomes.append(_store(self._connector.connection(), shard, part))
                except _RERUN:
                    if time.monotonic() >= give_up_at:
                        raise
                    parts.extend(_halves(part))
                    # Whoever is in the way needs a moment; chance keeps two from meeting again.
                    time.sleep(random.uniform(0, PAUSE_S_MAX))  # noqa: S311
        return Stored(
            inserted=sum(outcome.inserted for outcome in outcomes),
            repeated=sum(outcome.repeated for outcome in outcomes),
            dead_letters=sum(outcome.dead_letters for outcome in outcomes),
            users_gone=frozenset().union(*(outcome.users_gone for outcome in outcomes)),
        )

    def close(self) -> None:
        """Let go of the connection; the next batch opens another."""
        self._connector.close()


def _halves(entries: Sequence[StreamEntry]) -> list[Sequence[StreamEntry]]:
    """Part entries by user, each user's in their order."""
    ordered = sorted(entries, key=lambda e: e.transaction.user_id.int if e.transaction else 0)
    middle = len(ordered) // 2
    return [half for half in (ordered[middle:], ordered[:middle]) if half]


def _store(connection: psycopg.Connection, shard: int, entries: Sequence[StreamEntry]) -> Stored:
    with connection.transaction():
        lock = {"namespace": _LOCK_NAMESPACE, "shard": shard}
        connection.execute(statement("lock_shard"), lock)
        connection.execute(statement("bound_lock_wait"), {"lock_ms_max": str(LOCK_MS_MAX)})
        known = kept(connection, shard, entries)
        fresh = [entry for entry in entries if entry.stream_id not in known]
        unreadable = [
            DeadLetter(entry=entry, kind="unreadable", reason=entry.problem)
            for entry in fresh
            if entry.transaction is None
        ]
        readable = [_Candidate(e, e.transaction) for e in fresh if e.transaction is not None]
        candidates, orphans = _split_by_user(connection, readable)
        part = _insert_isolating(connection, candidates)
        letters = [*unreadable, *orphans, *part.letters]
        keep(connection, shard, letters)
    dead_letters = len(entries) - len(fresh) + len(letters)
    gone = [letter.entry for letter in orphans]
    return Stored(
        inserted=part.inserted,
        repeated=len(entries) - part.inserted - dead_letters,
        dead_letters=dead_letters,
        users_gone=frozenset(e.transaction.user_id for e in gone if e.transaction),
    )


def _split_by_user(
    connection: psycopg.Connection, candidates: Sequence[_Candidate]
) -> tuple[list[_Candidate], list[DeadLetter]]:
    """Part the candidates whose user exists, and now has a profile, from the others."""
    user_ids = list({candidate.transaction.user_id for candidate in candidates})
    cursor = connection.execute(statement("find_users"), {"user_ids": user_ids})
    has_profile: dict[UUID, bool] = dict(cursor.fetchall())
    for user_id in (user_id for user_id, found in has_profile.items() if not found):
        # Before the insert: what makes a profile may add up the rows that are there.
        connection.execute(statement("open_user"), {"user_id": user_id, "provision": False})
    present = [c for c in candidates if c.transaction.user_id in has_profile]
    reason = "the user was deleted before the record was stored"
    orphans = [
        DeadLetter(entry=c.entry, kind="deleted_user", reason=reason)
        for c in candidates
        if c.transaction.user_id not in has_profile
    ]
    return present, orphans


def _insert_isolating(connection: psycopg.Connection, candidates: Sequence[_Candidate]) -> _Part:
    """Insert all that Postgres takes; what it refuses is found by halving."""
    try:
        with connection.transaction():
            return _insert(connection, candidates)
    except _REFUSED as error:
        if len(candidates) == 1:
            letter = DeadLetter(entry=candidates[0].entry, kind="refused", reason=str(error))
            return _Part(0, [letter])
    middle = len(candidates) // 2
    first = _insert_isolating(connection, candidates[:middle])
    second = _insert_isolating(connection, candidates[middle:])
    return _Part(first.inserted + second.inserted, [*first.letters, *second.letters])


def _insert(connection: psycopg.Connection, candidates: Sequence[_Candidate]) -> _Part:
    """Insert what is new, compare what is not, and add the new amounts to the profiles."""
    if not candidates:
        return _Part(0, [])
    connection.execute(statement("prepare_batch"))
    connection.execute(statement("empty_batch"))
    with connection.cursor().copy(statement("copy_batch")) as copy:
        for place, candidate in enumerate(candidates):
            copy.write_row((place, *_columns(candidate.transaction)))
    new = connection.execute(statement("insert_new")).fetchall()
    inserted = sum(row_count for _, _, _, row_count in new)
    _project(connection, new)
    if inserted == len(candidates):
        return _Part(inserted, [])
    places = connection.execute(statement("find_conflicts")).fetchall()
    return _Part(inserted, [_conflict(candidates[place]) for (place,) in places])


def _project(connection: psycopg.Connection, new: Sequence[tuple[UUID, int, int, int]]) -> None:
    user_ids = [user_id for user_id, *_ in new]
    connection.execute(statement("lock_profiles"), {"user_ids": user_ids})
    changes = {
        "user_ids": user_ids,
        "amounts": [amount for _, amount, _, _ in new],
        "sequences": [sequence for _, _, sequence, _ in new],
    }
    changed = connection.execute(statement("add_to_profiles"), changes).rowcount
    if changed != len(new):
        raise _ProfileVanishedError(f"{len(new) - changed} profiles vanished during the batch")


def _columns(transaction: CreditTransaction) -> tuple[object, ...]:
    return (
        transaction.id.value,
        transaction.user_id,
        transaction.amount,
        transaction.type.value,
        transaction.description,
        _json(transaction.metadata),
        transaction.timestamp,
        transaction.sequence,
        transaction.balance_after,
        transaction.epoch,
        None if transaction.refund_of is None else transaction.refund_of.value,
        transaction.allowance_amount,
        transaction.allowance_after,
        transaction.period_start,
    )


def _json(metadata: Mapping[str, object] | None) -> str | None:
    if metadata is None:
        return None
    try:
        return _JSON.encode(dict(metadata))
    except (TypeError, RecursionError) as error:
        raise ValueError(f"the metadata is not JSON: {error}") from error


def _conflict(candidate: _Candidate) -> DeadLetter:
    reason = f"transaction {candidate.transaction.id} is stored already, with other content"
    return DeadLetter(entry=candidate.entry, kind="conflict", reason=reason)
