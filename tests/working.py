"""A job of the worker over fakes: streams, cursors, holds and time that stand still."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from uuid import UUID

from clocks import Seconds
from durable import ListedBatch
from faregate.domain.identity import LedgerIdentity
from faregate.ports import Batch, Cursor, Fork, Stored, StreamEntry
from faregate_worker.counts import Counts
from faregate_worker.work import Work, WorkLimits

IDENTITY = LedgerIdentity(
    ledger_id=UUID(int=1), shard_count=16, starting_credits=3, epoch=1, installed=True
)


class FakeStop:
    """Lets time pass at once, and stops when it is told to."""

    def __init__(self, clock: Seconds) -> None:
        self.clock = clock
        self.requested = False

    def pause(self, seconds: float) -> None:
        self.clock.advance(seconds)


class FakeStream:
    """A list of names for each shard; waiting takes all of its time where nothing is new."""

    shard_count = 16

    def __init__(self, clock: Seconds) -> None:
        self.clock = clock
        self.names: dict[int, list[str]] = {shard: [] for shard in range(self.shard_count)}
        self.noted: dict[int, str] = {}
        self.waited_for: list[list[int]] = []
        self.errors: list[Exception] = []
        self.on_wait: Callable[[], None] = lambda: None
        #: Whether no entry of the stream is that of the cursor.
        self.is_changed = False

    def shards_pending(self) -> Sequence[int]:
        raise NotImplementedError

    def fork(self, shard: int, cursor: object, places: object) -> None:
        """No history was lost."""

    def lacking(self, cursors: object) -> Sequence[int]:
        raise NotImplementedError

    def wait(self, cursors: Mapping[int, Cursor | None], seconds_max: float) -> Sequence[int]:
        self.on_wait()
        self.waited_for.append(list(cursors))
        awake = [shard for shard, cursor in cursors.items() if self._after(shard, cursor)]
        if not awake:
            self.clock.advance(seconds_max)
        return awake

    def read(self, shard: int, cursor: Cursor | None, count_max: int) -> Batch | None:
        if self.errors:
            raise self.errors.pop()
        names = self._after(shard, cursor)[:count_max]
        entries = [
            StreamEntry(stream_id=name, payload=b"", transaction=None, problem="fake")
            for name in names
        ]
        if not entries:
            return None
        return ListedBatch(shard, entries, cursor, is_from_start=self.is_changed)

    def _after(self, shard: int, cursor: Cursor | None) -> list[str]:
        names = self.names[shard]
        return names if cursor is None else names[names.index(cursor.position) + 1 :]

    def note_stored(self, shard: int, cursor: Cursor | None) -> int:
        if cursor:
            self.noted[shard] = cursor.position
        return 0

    def identity_fields(self) -> dict[str, str]:
        return IDENTITY.identity_fields

    def forget(self, user_ids: object) -> None:
        pass

    def pending_count(self) -> int:
        raise NotImplementedError


class FakeArchive:
    """The cursor of each shard, and what was stored in which batches."""

    def __init__(self) -> None:
        self.known: dict[int, Cursor] = {}
        self.batches: list[tuple[int, int]] = []
        self.errors: list[Exception] = []
        self.cut_to = 1_000_000
        self.of: LedgerIdentity = IDENTITY
        self.before_store: Callable[[Batch], None] = lambda _: None

    def identity(self) -> LedgerIdentity:
        return self.of

    def cursors(self) -> Mapping[int, Cursor]:
        return dict(self.known)

    def check_writes(self) -> None:
        raise NotImplementedError

    def lock_holder(self) -> str:
        raise NotImplementedError

    def places(self, shard: int, before: Cursor) -> Iterator[Cursor]:
        return iter(())

    def rewind(self, fork: Fork) -> Stored:
        raise NotImplementedError

    def store(self, batch: Batch) -> Stored:
        self.before_store(batch)
        if self.errors:
            raise self.errors.pop()
        if batch.after != self.known.get(batch.shard):
            return Stored(cursor=self.known.get(batch.shard), is_stale=True)
        batch = batch.head(self.cut_to)
        self.known[batch.shard] = batch.end
        self.batches.append((batch.shard, batch.count))
        return Stored(inserted=batch.count, cursor=batch.end)


class FakeSweeper:
    """Shards whose holds are due."""

    def __init__(self) -> None:
        self.due: list[int] = []
        self.error: Exception | None = None

    def shards_due(self) -> Sequence[int]:
        if self.error:
            raise self.error
        return list(self.due)

    def sweep(self, shard: int) -> int:
        self.due.remove(shard)
        return 1


class Job:
    """A job over fakes."""

    def __init__(self, seconds_max: float = 60.0, batch_size_max: int = 10) -> None:
        self.clock = Seconds()
        self.stop = FakeStop(self.clock)
        self.stream = FakeStream(self.clock)
        self.archive = FakeArchive()
        self.sweeper = FakeSweeper()
        self.counts = Counts()
        self.work = Work(
            self.stream,
            self.archive,
            self.sweeper,
            limits=WorkLimits(batch_size_max=batch_size_max, seconds_max=seconds_max),
            counts=self.counts,
            stop=self.stop,
            clock=self.clock,
        )

    def fill(self, shard: int, count: int) -> None:
        names = self.stream.names[shard]
        names += [f"{shard}-{len(names) + n}" for n in range(count)]
