"""What the tests of Postgres share: users, their histories as records, and a look at the tables."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from faregate.adapters.postgres.archive import PostgresArchive
from faregate.domain.transaction import CreditTransaction, CreditTransactionId, TransactionType
from faregate.domain.user import User
from faregate.ports import Copy, Cursor, Stored, StreamEntry
from waiting import wait_for

STARTING_CREDITS = 3
EPOCH = 1
STARTED_AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

_places = count(1)


def as_role(conninfo: str, role: str) -> str:
    """The same database, entered in the given role."""
    options = conninfo_to_dict(conninfo).get("options") or ""
    return make_conninfo(conninfo, options=f"{options} -c role={role}".strip())


def entry(transaction: CreditTransaction, payload: bytes = b"a record") -> StreamEntry:
    """A record at a place of its own in its stream."""
    return StreamEntry(stream_id=f"{next(_places)}-0", payload=payload, transaction=transaction)


def unreadable(payload: bytes, problem: str) -> StreamEntry:
    """An entry that holds no record."""
    return StreamEntry(
        stream_id=f"{next(_places)}-0", payload=payload, transaction=None, problem=problem
    )


def transactions(entries: Sequence[StreamEntry]) -> list[CreditTransaction]:
    """What the entries hold."""
    return [e.transaction for e in entries if e.transaction is not None]


def copies(entries: Sequence[StreamEntry]) -> list[Copy]:
    """What a reconciliation keeps of the entries that can be read."""
    return [
        Copy(
            stream_id=one.stream_id,
            id=made.id.value,
            user_id=made.user_id,
            amount=made.amount,
            type=made.type,
            sequence=made.sequence,
            epoch=made.epoch,
        )
        for one in entries
        if (made := one.transaction)
    ]


def stored(
    inserted: int = 0, repeated: int = 0, dead_letters: int = 0, gone: Iterable[UUID] = ()
) -> Stored:
    """The expected outcome of a batch."""
    return Stored(
        inserted=inserted,
        repeated=repeated,
        dead_letters=dead_letters,
        deleted_users=frozenset(gone),
    )


@dataclass(frozen=True, slots=True)
class ListedBatch:
    """The port `Batch` over records of a test, each of which stands for an entry."""

    shard: int
    entries: Sequence[StreamEntry]
    after: Cursor | None = None
    is_from_start: bool = False
    epoch: int = EPOCH

    @property
    def count(self) -> int:
        return len(self.entries)

    @property
    def first_position(self) -> str:
        return self.entries[0].stream_id

    @property
    def first_ordinal(self) -> int:
        return self._ordinal_before() + 1

    @property
    def end(self) -> Cursor:
        last = self.entries[-1]
        return Cursor(
            number=1 if self.after is None else self.after.number + 1,
            epoch=self.epoch,
            position=last.stream_id,
            digest=sha256(last.payload).digest(),
            ordinal=self._ordinal_before() + len(self.entries),
        )

    @property
    def lines(self) -> bytes | None:
        """The records in the text form of COPY, where all are of this epoch."""
        found = transactions(self.entries)
        if len(found) < len(self.entries) or {one.epoch for one in found} != {self.epoch}:
            return None
        try:
            return "".join(_line(place, one) for place, one in enumerate(found)).encode()
        except (ValueError, TypeError, RecursionError):
            return None

    def records(self) -> Sequence[StreamEntry]:
        return self.entries

    def head(self, count_max: int) -> "ListedBatch":
        return replace(self, entries=self.entries[: max(1, count_max)])

    def _ordinal_before(self) -> int:
        return 0 if self.after is None or self.is_from_start else self.after.ordinal


def _line(place: int, made: CreditTransaction) -> str:
    metadata = None if made.metadata is None else json.dumps(made.metadata, allow_nan=False)
    refund_of = None if made.refund_of is None else made.refund_of.value
    start = made.period_start and made.period_start.isoformat()
    before = (place, made.id, made.user_id, made.amount, made.type, made.description, metadata)
    place_of = (made.timestamp.isoformat(), made.sequence, made.balance_after, made.epoch)
    after = (refund_of, made.allowance_amount, made.allowance_after, start)
    return "\t".join(map(_field, (*before, *place_of, *after))) + "\n"


def _field(value: object) -> str:
    if value is None:
        return "\\N"
    text = str(value).replace("\\", "\\\\")
    return text.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


class Sink:
    """Stores records of tests after the newest cursor, as a drain does."""

    def __init__(self, rows: PostgresArchive, url: str) -> None:
        self.archive = rows
        #: The database, as superuser.
        self.url = url
        self._seen: set[str] = set()

    def store(self, shard: int, entries: Sequence[StreamEntry]) -> Stored:
        """Store records as one batch, and say what became of them."""
        stored = Stored()
        while left := entries[stored.count :]:
            cursor = self.archive.cursors().get(shard)
            names = {record.stream_id for record in left}
            # What comes again is read from the beginning of a stream whose history has changed.
            batch = ListedBatch(shard, left, cursor, is_from_start=bool(names & self._seen))
            step = self.archive.store(batch)
            self._seen |= {record.stream_id for record in left[: step.count]}
            stored = Stored(
                inserted=stored.inserted + step.inserted,
                repeated=stored.repeated + step.repeated,
                dead_letters=stored.dead_letters + step.dead_letters,
                deleted_users=stored.deleted_users | step.deleted_users,
            )
        return stored


class History:
    """A user as Redis knows it, from its starting credits on: makes its records in order."""

    def __init__(self, user_id: UUID, starting_credits: int = STARTING_CREDITS) -> None:
        self.user_id = user_id
        self.credits = starting_credits
        self.sequence = 1 if starting_credits else 0

    @property
    def live(self) -> User:
        """The live balance."""
        return User(id=self.user_id, credits=self.credits, sequence=self.sequence, epoch=EPOCH)

    def record(self, amount: int, kind: str = "deduct", **given: Any) -> StreamEntry:
        """Change the balance, and return the record of it."""
        self.credits += amount
        self.sequence += 1
        values: dict[str, Any] = {
            "id": CreditTransactionId.mint(1_767_000_000_000 + self.sequence),
            "user_id": self.user_id,
            "amount": amount,
            "type": TransactionType(kind),
            "description": "GET /",
            "timestamp": STARTED_AT + timedelta(seconds=self.sequence),
            "sequence": self.sequence,
            "balance_after": self.credits,
            "epoch": EPOCH,
        }
        return entry(CreditTransaction(**(values | given)))

    def deducts(self, number: int) -> list[StreamEntry]:
        """Several charges of one credit."""
        return [self.record(-1) for _ in range(number)]


class Database:
    """The tables, seen and changed by a superuser."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def run(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        """Run a statement of a test; return its rows."""
        cursor = self._connection.cursor(row_factory=dict_row)
        cursor.execute(statement, parameters or None)
        return cursor.fetchall() if cursor.description else []

    def disconnect(self) -> None:
        """Let the database be copied."""
        self._connection.close()

    def user(self) -> History:
        """A new user, with its profile and starting row."""
        (history,) = self.users(1)
        return history

    def users(self, number: int) -> list[History]:
        """New users in the order of their ids, with their profiles and starting rows."""
        ids = sorted(uuid4() for _ in range(number))
        self.run("insert into auth.users (id) select unnest(%s::uuid[])", ids)
        return [History(user_id) for user_id in ids]

    def wait_for_lock(self, application: str) -> None:
        """Wait, for a bounded time, until a session of that name waits for a lock."""
        query = (
            "select pid from pg_stat_activity where application_name = %s"
            " and datname = current_database() and wait_event_type = 'Lock'"
        )
        wait_for(lambda: self.run(query, application), f"{application} waits for a lock")

    def profile(self, user_id: UUID) -> tuple[int, int]:
        """The durable credits and how far they reach."""
        query = "select credits, credits_sequence from public.profiles where id = %s"
        (row,) = self.run(query, user_id)
        return row["credits"], row["credits_sequence"]

    def rows(self, user_id: UUID) -> list[dict[str, Any]]:
        """The user's rows but for the starting one, in order."""
        query = (
            "select * from public.credit_transactions"
            " where user_id = %s and epoch > 0 order by sequence, id"
        )
        return self.run(query, user_id)

    def insert_dead_letter(self, user_id: UUID | None = None) -> None:
        """Keep a record that Postgres has refused."""
        names = "shard, stream_id, kind, reason, payload, payload_digest, user_id"
        values = "0, '1-1/1', 'refused', 'a test', '', sha256(''), %s"
        query = f"insert into faregate.dead_letters ({names}) values ({values})"  # noqa: S608
        self.run(query, user_id)

    def dead_letters(self) -> list[dict[str, Any]]:
        """All dead letters, in the order in which they were kept."""
        return self.run("select * from faregate.dead_letters order by id")

    def is_exact(self) -> bool:
        """Whether every profile holds what its user's rows add up to."""
        query = (
            "select p.id from public.profiles as p"
            " left join public.credit_transactions as t on p.id = t.user_id"
            " group by p.id having p.credits <> coalesce(sum(t.amount), 0)"
        )
        return self.run(query) == []


@contextmanager
def database(conninfo: str) -> Iterator[Database]:
    """Look at a database for the time of a test."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        yield Database(connection)


@contextmanager
def archive(conninfo: str) -> Iterator[Sink]:
    """What stores records in the worker's role, over a connection of its own."""
    opened = PostgresArchive(as_role(conninfo, "faregate_worker"))
    try:
        yield Sink(opened, conninfo)
    finally:
        opened.close()
