"""One drain: what it moves, in which order, and where it stops."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from uuid import UUID

import pytest

from faregate.domain.errors import ArchiveUnavailableError, LedgerUnavailableError
from faregate.domain.identity import LedgerIdentity
from faregate.ports import Stored, StreamEntry
from faregate_worker.drain import Drained, DrainLimits, drain, drain_step

SHARD = 7
LIMITS = DrainLimits(batch_size_max=2, seconds_max=60.0)


IDENTITY = LedgerIdentity(
    ledger_id=UUID(int=1), shard_count=16, starting_credits=3, epoch=1, installed=True
)


class FakeStream:
    """A stream in two lists that notes every call, in a journal shared with the archive."""

    shard_count = 16

    def __init__(self, journal: list[str], new: Sequence[str], pending: Sequence[str] = ()) -> None:
        self.journal = journal
        self.new = list(new)
        self.pending = list(pending)
        self.answers = True

    def shards_pending(self) -> Sequence[int]:
        return [SHARD] if self.new or self.pending else []

    def read(self, shard: int, count_max: int) -> Sequence[StreamEntry]:
        assert shard == SHARD
        if not self.answers:
            raise LedgerUnavailableError("Redis is away")
        if not self.pending:
            self.pending, self.new = self.new[:count_max], self.new[count_max:]
        batch = self.pending[:count_max]
        self.journal.append(f"read {' '.join(batch)}".rstrip())
        return [
            StreamEntry(stream_id=stream_id, payload=b"", transaction=None, problem="fake")
            for stream_id in batch
        ]

    def acknowledge(self, shard: int, stream_ids: Sequence[str]) -> None:
        assert shard == SHARD
        self.journal.append(f"acknowledge {' '.join(stream_ids)}")
        self.pending = [stream_id for stream_id in self.pending if stream_id not in stream_ids]

    def trim(self, shard: int) -> int:
        assert shard == SHARD
        self.journal.append("trim")
        return 5

    def marks(self) -> dict[str, str]:
        return IDENTITY.marks

    def forget(self, user_ids: Iterable[UUID]) -> None:
        gone = list(user_ids)
        if gone:
            self.journal.append(f"forget {len(gone)}")

    def pending_count(self) -> int:
        return len(self.new) + len(self.pending)

    def unacknowledged(self, shard: int) -> Iterator[StreamEntry]:
        raise NotImplementedError


class FakeArchive:
    """Rows as a set of ids; an entry called `dead...` becomes a dead letter."""

    def __init__(self, journal: list[str], rows: Sequence[str] = ()) -> None:
        self.journal = journal
        self.rows = set(rows)
        self.batches_until_outage: int | None = None
        self.forgets = False

    def identity(self) -> LedgerIdentity:
        return IDENTITY

    def store(self, shard: int, entries: Sequence[StreamEntry]) -> Stored:
        assert shard == SHARD
        if self.batches_until_outage == 0:
            self.journal.append("store fails")
            raise ArchiveUnavailableError("Postgres is away")
        if self.batches_until_outage is not None:
            self.batches_until_outage -= 1
        ids = {entry.stream_id for entry in entries}
        self.journal.append(f"store {' '.join(sorted(ids))}")
        dead = {stream_id for stream_id in ids if stream_id.startswith("dead")}
        repeated = ids & self.rows
        self.rows |= ids - dead
        inserted = len(ids) - len(dead) - len(repeated) - int(self.forgets)
        return Stored(inserted=inserted, repeated=len(repeated), dead_letters=len(dead))


@pytest.fixture
def journal() -> list[str]:
    """Every call of stream and archive, in order."""
    return []


def test_a_batch_is_read_then_stored_then_acknowledged(journal: list[str]) -> None:
    """Whatever dies in between leaves entries that are read again, never lost ones."""
    stream, archive = FakeStream(journal, ["1", "2", "3"]), FakeArchive(journal)

    drained = drain_step(stream, archive, SHARD, batch_size_max=2)

    assert journal == ["read 1 2", "store 1 2", "acknowledge 1 2"]
    assert drained == Drained(read=2, inserted=2)


def test_an_idle_shard_touches_nothing_but_the_stream(journal: list[str]) -> None:
    """A drain that finds nothing costs Postgres nothing."""
    drained = drain_step(FakeStream(journal, []), FakeArchive(journal), SHARD, batch_size_max=2)

    assert journal == ["read"]
    assert drained == Drained()


def test_nothing_is_acknowledged_when_storing_fails(journal: list[str]) -> None:
    """An entry stays pending until it is known to be durable."""
    stream, archive = FakeStream(journal, ["1", "2"]), FakeArchive(journal)
    archive.batches_until_outage = 0

    with pytest.raises(ArchiveUnavailableError):
        drain_step(stream, archive, SHARD, batch_size_max=2)

    assert journal == ["read 1 2", "store fails"]
    assert stream.pending == ["1", "2"]


def test_a_batch_that_is_not_wholly_accounted_for_is_not_acknowledged(journal: list[str]) -> None:
    """An archive that says less than it was given is not believed."""
    stream, archive = FakeStream(journal, ["1", "2"]), FakeArchive(journal)
    archive.forgets = True

    with pytest.raises(ArchiveUnavailableError, match=r"2 records .* 1 are accounted for"):
        drain_step(stream, archive, SHARD, batch_size_max=2)

    assert stream.pending == ["1", "2"]


def test_a_drain_goes_on_until_the_shard_is_idle_and_trims_at_the_end(journal: list[str]) -> None:
    """One drain moves all there is, in bounded batches."""
    stream = FakeStream(journal, ["1", "2", "3"])

    drained = drain(stream, FakeArchive(journal), SHARD, limits=LIMITS)

    assert journal == [
        *["read 1 2", "store 1 2", "acknowledge 1 2"],
        *["read 3", "store 3", "acknowledge 3"],
        *["read", "trim"],
    ]
    assert drained == Drained(read=3, inserted=3, trimmed=5)


def test_what_an_earlier_drain_left_unacknowledged_comes_first(journal: list[str]) -> None:
    """A drain that died after its commit is finished by the next one, without a second row."""
    stream = FakeStream(journal, new=["3"], pending=["1", "2"])
    archive = FakeArchive(journal, rows=["1"])

    drained = drain(stream, archive, SHARD, limits=LIMITS)

    assert journal[0] == "read 1 2"
    assert drained == Drained(read=3, inserted=2, repeated=1, trimmed=5)
    assert stream.pending_count() == 0


def test_dead_letters_are_acknowledged_and_counted(journal: list[str]) -> None:
    """A record that cannot be a row does not hold up those behind it."""
    stream = FakeStream(journal, ["1", "dead-2", "3"])

    drained = drain(stream, FakeArchive(journal), SHARD, limits=LIMITS)

    assert drained == Drained(read=3, inserted=2, dead_letters=1, trimmed=5)
    assert stream.pending_count() == 0


def test_no_batch_is_begun_after_the_time_is_up(journal: list[str]) -> None:
    """A shard under steady traffic gives the worker back to the others."""
    stream = FakeStream(journal, [str(number) for number in range(100)])
    seconds = count(0.0, 1.0)
    limits = DrainLimits(batch_size_max=2, seconds_max=3.0)

    drained = drain(stream, FakeArchive(journal), SHARD, limits=limits, clock=lambda: next(seconds))

    assert drained.read == 6
    assert journal[-1] == "trim"


def test_a_drain_without_time_still_moves_one_batch(journal: list[str]) -> None:
    """Every drain makes progress, however late it is run."""
    stream = FakeStream(journal, ["1", "2", "3"])

    drained = drain(
        stream,
        FakeArchive(journal),
        SHARD,
        limits=DrainLimits(batch_size_max=2, seconds_max=0.0),
    )

    assert drained.read == 2


def test_an_outage_ends_the_drain_and_keeps_what_was_acknowledged(journal: list[str]) -> None:
    """No hot loop against a Postgres that is away: the next tick tries again."""
    stream, archive = FakeStream(journal, ["1", "2", "3", "4"]), FakeArchive(journal)
    archive.batches_until_outage = 1

    with pytest.raises(ArchiveUnavailableError):
        drain(stream, archive, SHARD, limits=LIMITS)

    assert journal[-2:] == ["read 3 4", "store fails"]
    assert stream.pending == ["3", "4"]


def test_a_redis_that_is_away_ends_the_drain(journal: list[str]) -> None:
    """The error of the stream comes through unchanged."""
    stream = FakeStream(journal, ["1"])
    stream.answers = False

    with pytest.raises(LedgerUnavailableError):
        drain(stream, FakeArchive(journal), SHARD, limits=LIMITS)

    assert journal == []
