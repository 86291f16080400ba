"""One drain: what it moves, in which order, and where it stops."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from uuid import UUID

import pytest

from durable import ListedBatch
from faregate.domain.errors import ArchiveUnavailableError, LedgerUnavailableError
from faregate.domain.identity import LedgerIdentity
from faregate.ports import Batch, Cursor, Fork, Stored, StreamEntry
from faregate_worker.drain import Drained, DrainLimits, drain, drain_step

SHARD = 7
LIMITS = DrainLimits(batch_size_max=2, seconds_max=60.0)
IDENTITY = LedgerIdentity(
    ledger_id=UUID(int=1), shard_count=16, starting_credits=3, epoch=1, installed=True
)


class FakeStream:
    """A list of names that notes every call, in a journal shared with the archive."""

    shard_count = 16

    def __init__(self, journal: list[str], names: Sequence[str]) -> None:
        self.journal = journal
        self.names = list(names)
        self.answers = True

    def shards_pending(self) -> Sequence[int]:
        raise NotImplementedError

    def read(self, shard: int, cursor: Cursor | None, count_max: int) -> Batch | None:
        assert shard == SHARD
        if not self.answers:
            raise LedgerUnavailableError("Redis is away")
        start = 0 if cursor is None else self.names.index(cursor.position) + 1
        names = self.names[start : start + count_max]
        self.journal.append(f"read {' '.join(names)}".rstrip())
        entries = [
            StreamEntry(stream_id=name, payload=b"", transaction=None, problem="fake")
            for name in names
        ]
        return ListedBatch(shard, entries, cursor) if entries else None

    def fork(self, shard: int, cursor: object, places: object) -> None:
        raise NotImplementedError

    def lacking(self, cursors: object) -> Sequence[int]:
        raise NotImplementedError

    def wait(self, cursors: object, seconds_max: float) -> Sequence[int]:
        raise NotImplementedError

    def note_stored(self, shard: int, cursor: Cursor | None) -> int:
        assert shard == SHARD
        self.journal.append(f"stored {cursor.position if cursor else 'nothing'}")
        return 5

    def identity_fields(self) -> dict[str, str]:
        return IDENTITY.identity_fields

    def forget(self, user_ids: Iterable[UUID]) -> None:
        gone = list(user_ids)
        if gone:
            self.journal.append(f"forget {len(gone)}")

    def pending_count(self) -> int:
        raise NotImplementedError


class FakeArchive:
    """The names that are stored, and the cursor; a record called `dead...` is a dead letter."""

    def __init__(self, journal: list[str]) -> None:
        self.journal = journal
        self.cursor: Cursor | None = None
        self.batches_until_outage: int | None = None
        self.deleted_users: frozenset[UUID] = frozenset()

    def identity(self) -> LedgerIdentity:
        return IDENTITY

    def cursors(self) -> Mapping[int, Cursor]:
        return {SHARD: self.cursor} if self.cursor else {}

    def lock_holder(self) -> str:
        raise NotImplementedError

    def check_writes(self) -> None:
        raise NotImplementedError

    def places(self, shard: int, before: Cursor) -> Iterator[Cursor]:
        raise NotImplementedError

    def rewind(self, fork: Fork) -> Stored:
        raise NotImplementedError

    def store(self, batch: Batch) -> Stored:
        if self.batches_until_outage == 0:
            self.journal.append("store fails")
            raise ArchiveUnavailableError("Postgres is away")
        if self.batches_until_outage is not None:
            self.batches_until_outage -= 1
        if batch.after != self.cursor:
            self.journal.append("drop")
            return Stored(cursor=self.cursor, is_stale=True)
        names = [record.stream_id for record in batch.records()]
        self.journal.append(f"store {' '.join(names)}")
        self.cursor = batch.end
        dead = sum(name.startswith("dead") for name in names)
        inserted = len(names) - dead
        return Stored(
            inserted=inserted,
            dead_letters=dead,
            cursor=self.cursor,
            deleted_users=self.deleted_users,
        )


@pytest.fixture
def journal() -> list[str]:
    """Every call of stream and archive, in order."""
    return []


@pytest.fixture
def archive(journal: list[str]) -> FakeArchive:
    return FakeArchive(journal)


def test_a_batch_is_read_then_stored_then_noted(journal: list[str], archive: FakeArchive) -> None:
    """Redis is told what is stored after the commit, and never before."""
    stream = FakeStream(journal, ["1", "2", "3"])

    drained, cursor = drain_step(stream, archive, SHARD, None, batch_size_max=2)

    assert journal == ["read 1 2", "store 1 2", "stored 2"]
    assert drained == Drained(read=2, inserted=2, trimmed=5)
    assert cursor == archive.cursor


def test_an_idle_shard_costs_postgres_nothing_and_its_cursor_is_noted_again(
    journal: list[str], archive: FakeArchive
) -> None:
    """So an older value that came late is corrected."""
    stream = FakeStream(journal, ["1"])
    _, cursor = drain_step(stream, archive, SHARD, None, batch_size_max=2)
    journal.clear()

    drained, same = drain_step(stream, archive, SHARD, cursor, batch_size_max=2)

    assert journal == ["read", "stored 1"]
    assert (drained.read, same) == (0, cursor)


def test_nothing_is_noted_when_storing_fails(journal: list[str], archive: FakeArchive) -> None:
    """The batch is read again after the same cursor."""
    stream = FakeStream(journal, ["1", "2"])
    archive.batches_until_outage = 0

    with pytest.raises(ArchiveUnavailableError):
        drain_step(stream, archive, SHARD, None, batch_size_max=2)

    assert journal == ["read 1 2", "store fails"]


def test_a_batch_that_another_drain_was_faster_with_is_dropped(
    journal: list[str], archive: FakeArchive
) -> None:
    """The drain goes on from where the other one is."""
    stream = FakeStream(journal, ["1", "2", "3"])
    drain_step(stream, archive, SHARD, None, batch_size_max=2)
    journal.clear()

    drained, cursor = drain_step(stream, archive, SHARD, None, batch_size_max=2)
    assert (drained, cursor) == (Drained(), archive.cursor)
    drain_step(stream, archive, SHARD, cursor, batch_size_max=2)

    assert journal == ["read 1 2", "drop", "read 3", "store 3", "stored 3"]


def test_a_drain_goes_on_until_the_shard_is_idle(journal: list[str], archive: FakeArchive) -> None:
    """One drain moves all there is, in bounded batches, from the cursor on."""
    stream = FakeStream(journal, ["0", "1", "2", "3"])
    drain_step(stream, archive, SHARD, None, batch_size_max=1)
    journal.clear()

    drained = drain(stream, archive, SHARD, limits=LIMITS)

    assert journal == [
        *["read 1 2", "store 1 2", "stored 2"],
        *["read 3", "store 3", "stored 3"],
        *["read", "stored 3"],
    ]
    assert replace(drained, trimmed=0) == Drained(read=3, inserted=3)


def test_dead_letters_are_counted_and_hold_up_nothing(
    journal: list[str], archive: FakeArchive
) -> None:
    """Balances of users who are gone are deleted."""
    archive.deleted_users = frozenset([UUID(int=1)])
    stream = FakeStream(journal, ["1", "dead-2", "3"])

    drained = drain(stream, archive, SHARD, limits=LIMITS)

    assert replace(drained, trimmed=0) == Drained(read=3, inserted=2, dead_letters=1)
    assert journal[:4] == ["read 1 dead-2", "store 1 dead-2", "forget 1", "stored dead-2"]


def test_no_batch_is_begun_after_the_time_is_up(journal: list[str], archive: FakeArchive) -> None:
    """A shard under steady traffic gives the worker back to the others."""
    stream = FakeStream(journal, [str(number) for number in range(100)])
    seconds = count(0.0, 1.0)
    limits = DrainLimits(batch_size_max=2, seconds_max=3.0)

    drained = drain(stream, archive, SHARD, limits=limits, clock=lambda: next(seconds))

    assert drained.read == 6


def test_a_drain_without_time_still_moves_one_batch(
    journal: list[str], archive: FakeArchive
) -> None:
    """Every drain makes progress, however late it is run."""
    stream = FakeStream(journal, ["1", "2", "3"])
    limits = DrainLimits(batch_size_max=2, seconds_max=0.0)

    assert drain(stream, archive, SHARD, limits=limits).read == 2


def test_an_outage_ends_the_drain_and_loses_no_stored_batch(
    journal: list[str], archive: FakeArchive
) -> None:
    """No hot loop against a Postgres that is away: the next tick tries again."""
    stream = FakeStream(journal, ["1", "2", "3", "4"])
    archive.batches_until_outage = 1

    with pytest.raises(ArchiveUnavailableError):
        drain(stream, archive, SHARD, limits=LIMITS)

    assert journal[-2:] == ["read 3 4", "store fails"]
    assert archive.cursor is not None
    assert archive.cursor.position == "2"


def test_a_redis_that_is_away_ends_the_drain(journal: list[str], archive: FakeArchive) -> None:
    """The error of the stream comes through unchanged."""
    stream = FakeStream(journal, ["1"])
    stream.answers = False

    with pytest.raises(LedgerUnavailableError):
        drain(stream, archive, SHARD, limits=LIMITS)

    assert journal == []
