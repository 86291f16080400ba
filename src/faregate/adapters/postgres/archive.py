"""Stores records as rows, exactly once.

A batch is one transaction: rows, balances, and the cursor, which says how far the records of its
shard are stored. A batch is stored only if the cursor that it follows is still the newest one,
under a lock on the shard. So a batch that two drains read is stored once, and a batch that was not
committed is read again.

For any other lock the drain waits less than `deadlock_timeout` (a second), after which Postgres
would end one of two transactions that block each other. So the drain always gives way, and never a
transaction that deletes users. The drain then tries again with a smaller part of the batch.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

import psycopg
from psycopg import errors
from psycopg.rows import class_row, dict_row

from faregate.adapters.postgres.access import WORKER, check
from faregate.adapters.postgres.connection import (
    Bounds,
    Connector,
    migrated,
    require_primary,
    unavailable,
)
from faregate.adapters.postgres.cursors import Newest, cursors_of, read_newest, write_batch
from faregate.adapters.postgres.inserts import ProfileVanishedError, insert, lines_of
from faregate.adapters.postgres.queries import statement
from faregate.adapters.postgres.rewinds import PLACES_MAX, places, take_back
from faregate.adapters.postgres.sorting import REFUSALS, RecordRefusedError, Sorter
from faregate.domain.errors import (
    ArchiveUnavailableError,
    ConfigurationError,
    ShardBlockedError,
)
from faregate.domain.identity import LedgerIdentity
from faregate.ports import Batch, Cursor, Fork, Stored

#: For how long a batch that meets locks is tried again, and the longest pause between two tries, in
#: seconds.
CONTENTION_S_MAX = 2.0
PAUSE_S_MAX = 0.05
LOCK_MS_MAX = 200
#: The size of a batch in which some records cannot be stored as they are.
SORTED_COUNT_MAX = 2_000
#: The size of a batch of which Postgres refuses some records, since those are found by halving.
REFUSED_COUNT_MAX = 256
#: How many records of a shard may become dead letters in a minute; then it waits for a person.
DEAD_LETTERS_A_MINUTE_MAX = 500

_BOUNDS = Bounds(statement_ms_max=30_000, lock_ms_max=5_000)
#: Keeps our advisory locks apart from those of others: "Fare" in ASCII.
LOCK_NAMESPACE: Final = 0x46617265

_HOLDER = (
    "backend {0} (role {1}, application {2!r}, {3}) has locked users or tables since {4}: end its"
    " transaction, or run `select pg_terminate_backend({0})`"
)

#: Conflicts with another transaction, which end.
CONTENTION = (
    errors.ForeignKeyViolation,
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.LockNotAvailable,
    ProfileVanishedError,
)
#: Reasons to store a batch record by record: a known id, a missing user or profile, a refusal.
_UNUSUAL = (*REFUSALS, errors.ForeignKeyViolation, ProfileVanishedError)


class PostgresArchive:
    """The ports `TransactionArchive` and `Deletions`. For one thread; connects on first use."""

    def __init__(self, conninfo: str) -> None:
        self._connector = Connector(conninfo, "faregate drain", _BOUNDS)

    def identity(self) -> LedgerIdentity:
        """Return the identity of the ledger, fixed when it was created."""
        with (
            unavailable("read what the ledger was created with"),
            migrated(),
            self._connector.transaction() as connection,
        ):
            cursor = connection.cursor(row_factory=class_row(LedgerIdentity))
            row = cursor.execute(statement("read_identity")).fetchone()
        if row is None:
            raise ConfigurationError("the ledger has no identity; run `faregate migrate`")
        return row

    def cursors(self) -> Mapping[int, Cursor]:
        """Return the newest cursor of each shard that has one."""
        with (
            unavailable("read the cursors of the shards"),
            migrated(),
            self._connector.transaction() as connection,
        ):
            cursor = connection.cursor(row_factory=dict_row)
            return cursors_of(cursor.execute(statement("read_cursors")))

    def dead_letters(self) -> Mapping[str, int]:
        """Return how many dead letters are not discarded, by their kind."""
        with (
            unavailable("count dead letters"),
            migrated(),
            self._connector.transaction() as connection,
        ):
            return dict(connection.execute(statement("count_dead_letters")).fetchall())

    def check_writes(self) -> None:
        """Run the statements of a drain without rows, to check its rights; see the port."""
        with (
            unavailable("store records"),
            migrated(),
            self._connector.transaction() as connection,
            connection.transaction(force_rollback=True),
        ):
            require_primary(connection)
            insert(connection, lines_of(b""))
            connection.execute(statement("rehearse_batch"))
            # Statements without rows pass even where row level security would refuse rows.
            check(connection, WORKER)

    def store(self, batch: Batch) -> Stored:
        """Store a batch and its cursor in one commit, or nothing; see the port."""
        held = batch

        def store(connection: psycopg.Connection) -> Stored:
            return _store(connection, held)

        def shorten() -> None:
            # Records before the one that cannot be stored now need not wait for it.
            nonlocal held
            held = held.head(held.count // 2)

        return self._retried(batch.shard, store, shorten)

    def places(self, shard: int, before: Cursor) -> Iterator[Cursor]:
        """Iterate over the ends of the batches before a cursor; see the port."""
        number = before.number
        while number > 0:
            with unavailable(f"read batches of shard {shard}"), self._connector.transaction() as at:
                found = places(at, shard, number)
            yield from found
            number = found[-1].number if len(found) == PLACES_MAX else 0

    def rewind(self, fork: Fork) -> Stored:
        """Take the cursor of a shard back, and name what Redis has lost; see the port."""
        return self._retried(fork.shard, lambda connection: _rewind(connection, fork))

    def _retried(
        self,
        shard: int,
        act: Callable[[psycopg.Connection], Stored],
        before_another: Callable[[], None] = lambda: None,
    ) -> Stored:
        """Act in a transaction, again while it meets locks."""
        give_up_at = time.monotonic() + CONTENTION_S_MAX
        with unavailable(f"store records of shard {shard}"):
            while True:
                try:
                    with self._connector.transaction() as connection:
                        return act(connection)
                except CONTENTION as error:
                    if time.monotonic() >= give_up_at:
                        raise self._blocked(shard, error) from error
                    # The other transaction needs a moment. A random pause keeps two from meeting
                    # again.
                    time.sleep(random.uniform(0, PAUSE_S_MAX))  # noqa: S311
                    before_another()

    def _blocked(self, shard: int, error: Exception) -> ShardBlockedError:
        holder = self.lock_holder() if isinstance(error, errors.LockNotAvailable) else ""
        said = f"cannot store records of shard {shard}: {str(error).strip()}"
        return ShardBlockedError(f"{said}; {holder}" if holder else said)

    def lock_holder(self) -> str:
        """Return the transaction whose lock may block the drain; see the port."""
        with unavailable("read who holds locks"), self._connector.transaction() as connection:
            holders = connection.execute(statement("read_lock_holder")).fetchall()
        return "".join(_HOLDER.format(*holder) for holder in holders)

    def users_to_erase(self, count_max: int) -> Sequence[UUID]:
        """Return deleted users whose keys may still be in Redis; see the port."""
        with unavailable("read who was deleted"), self._connector.transaction() as connection:
            cursor = connection.execute(statement("users_to_erase"), {"count_max": count_max})
            return [user_id for (user_id,) in cursor]

    def note_erased(self, user_ids: Sequence[UUID]) -> None:
        """Note that the keys of deleted users are erased."""
        with unavailable("note who is forgotten"), self._connector.transaction() as connection:
            connection.execute(statement("note_erased"), {"user_ids": list(user_ids)})

    def close(self) -> None:
        """Close the connection; the next batch opens another."""
        self._connector.close()


def lock_shard(connection: psycopg.Connection, shard: int) -> None:
    """Keep all others from storing records of a shard until the transaction ends."""
    connection.execute(statement("lock_shard"), {"namespace": LOCK_NAMESPACE, "shard": shard})


def _check_epoch(cursor: Cursor, newest: Newest) -> None:
    if newest.ledger_epoch != cursor.epoch:
        raise ConfigurationError(
            f"Redis is of epoch {cursor.epoch}, and the ledger of {newest.ledger_epoch}"
        )


def _rewind(connection: psycopg.Connection, fork: Fork) -> Stored:
    lock_shard(connection, fork.shard)
    newest = read_newest(connection, fork.shard)
    if newest.cursor != fork.before:
        return Stored(cursor=newest.cursor, is_stale=True)
    _check_epoch(fork.before, newest)
    connection.execute(statement("bound_lock_wait"), {"lock_ms_max": str(LOCK_MS_MAX)})
    take_back(connection, fork, newest)
    return Stored(cursor=fork.end)


def _store(connection: psycopg.Connection, batch: Batch) -> Stored:
    lock_shard(connection, batch.shard)
    newest = read_newest(connection, batch.shard)
    if newest.cursor != batch.after:
        return Stored(cursor=newest.cursor, is_stale=True)
    _check_epoch(batch.end, newest)
    connection.execute(statement("bound_lock_wait"), {"lock_ms_max": str(LOCK_MS_MAX)})
    stored = _store_at_once(connection, batch, newest)
    if stored is None:
        try:
            stored = _sort(connection, batch.head(SORTED_COUNT_MAX), newest)
        except RecordRefusedError:
            stored = _sort(connection, batch.head(REFUSED_COUNT_MAX), newest, has_refused=True)
    return stored


def _store_at_once(connection: psycopg.Connection, batch: Batch, newest: Newest) -> Stored | None:
    """Store a batch whose records are all new and plain; return None for any other."""
    if batch.lines is None or not newest.is_new(batch):
        return None
    try:
        inserted = insert(connection, lines_of(batch.lines))
    except _UNUSUAL:
        return None
    write_batch(connection, batch, newest, inserted.count, inserted.leaves)
    return Stored(inserted=inserted.count, cursor=batch.end)


def _sort(
    connection: psycopg.Connection, batch: Batch, newest: Newest, *, has_refused: bool = False
) -> Stored:
    """Store a batch in parts, down to single records where needed."""
    records = batch.records()
    sorter = Sorter(connection, batch.shard, newest.ledger_epoch, has_refused)
    stored = sorter.store(records)
    _bound_dead_letters(connection, batch.shard)
    if stored.count != len(records):
        # Without this check a record could be lost for good; the batch is read again instead.
        raise ArchiveUnavailableError(
            f"{len(records)} records were sent to Postgres, but {stored.count}"
            " were stored or set aside"
        )
    write_batch(connection, batch, newest, stored.count, sorter.inserted.leaves)
    return replace(stored, cursor=batch.end)


def _bound_dead_letters(connection: psycopg.Connection, shard: int) -> None:
    """Stop a shard with too many refused records, since then the schema is likely at fault."""
    query = statement("count_recent_dead_letters")
    ((count,),) = connection.execute(query, {"shard": shard}).fetchall()
    if count > DEAD_LETTERS_A_MINUTE_MAX:
        raise ShardBlockedError(
            f"shard {shard} waits: {count} of its records would be dead letters within a minute;"
            " see the reasons in faregate.dead_letters"
        )
