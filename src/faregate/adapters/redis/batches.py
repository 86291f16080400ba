"""Reads a stream in batches: whole entries that follow a cursor, as Redis stores them."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Self
from uuid import UUID

from faregate.adapters.redis import keys
from faregate.adapters.redis.client import Client, checked
from faregate.adapters.redis.lines import NotPlainError, write_lines
from faregate.adapters.redis.pages import PageSizes
from faregate.adapters.redis.records import FIELD, StreamEntryHeader, read_entry
from faregate.adapters.redis.values import ShardState
from faregate.domain.transaction import CreditTransaction
from faregate.ports import Cursor, StreamEntry

#: The smallest position of a stream, as XRANGE takes it.
_START = "-"
#: How many records are decoded at once to find those of a user.
_USER_BATCH_SIZE = 1_000


@dataclass(frozen=True, slots=True)
class RawEntry:
    """An entry as Redis stores it."""

    position: str
    #: The bytes of its records; None where it has none.
    payload: bytes | None
    #: The SHA-256 of its bytes.
    digest: bytes
    #: None where it cannot be read.
    header: StreamEntryHeader | None

    @classmethod
    def of(cls, position: bytes, fields: list[bytes]) -> Self:
        """Return an entry from a reply of XRANGE."""
        payload = fields[1] if fields[:1] == [FIELD] and not fields[2:] else None
        content = b"\0".join(fields) if payload is None else payload
        try:
            header = None if payload is None else StreamEntryHeader.unpack(payload)
        except (ValueError, struct.error):
            header = None
        return cls(position.decode(), payload, sha256(content).digest(), header)

    @property
    def count(self) -> int:
        """How many records it says that it holds."""
        return 1 if self.header is None else self.header.count

    def records(self) -> list[StreamEntry]:
        """Read its records. An unreadable entry counts as one record."""
        return read_entry(self.position, self.payload)


@dataclass(frozen=True, slots=True)
class RedisBatch:
    """The port `Batch`."""

    shard: int
    after: Cursor | None
    is_from_start: bool
    #: The state of its shard, read after the entries.
    state: ShardState
    entries: Sequence[RawEntry]
    lines: bytes | None = field(init=False)
    end: Cursor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lines", self._lines())
        object.__setattr__(self, "end", self._end())

    @property
    def first_position(self) -> str:
        """The position of its first entry."""
        return self.entries[0].position

    @property
    def first_ordinal(self) -> int:
        """The number of its first record; greater than that of its end if it has no numbers."""
        first = next(iter(self._headers()), None)
        return self._ordinal_before() + 1 if first is None else first.first

    @property
    def count(self) -> int:
        """How many records it says that it holds."""
        return sum(entry.count for entry in self.entries)

    def records(self) -> list[StreamEntry]:
        """Read all records; unreadable ones have their error in `problem`."""
        return [record for entry in self.entries for record in entry.records()]

    def head(self, count_max: int) -> "RedisBatch":
        """Return a batch of its first entries: at most `count_max` records, one entry at least."""
        length, count = 1, self.entries[0].count
        for entry in self.entries[1:]:
            count += entry.count
            if count > count_max:
                break
            length += 1
        part = self.entries[:length]
        return RedisBatch(self.shard, self.after, self.is_from_start, self.state, part)

    def _headers(self) -> Iterator[StreamEntryHeader]:
        """Iterate over the headers with valid ordinals: of this epoch, and written by a script."""
        headers = (entry.header for entry in self.entries)
        return (header for header in headers if header and header.is_of(self.state))

    def _ordinal_before(self) -> int:
        return 0 if self.after is None or self.is_from_start else self.after.ordinal

    def _end(self) -> Cursor:
        last = self.entries[-1]
        ordinals = [header.last for header in self._headers()]
        return Cursor(
            number=1 if self.after is None else self.after.number + 1,
            epoch=self.state.epoch,
            position=last.position,
            digest=last.digest,
            ordinal=max(ordinals, default=self._ordinal_before()),
        )

    def _lines(self) -> bytes | None:
        lines: list[str] = []
        try:
            for entry in self.entries:
                # Entries of another epoch may belong to another history than the rows.
                if entry.header is None or entry.header.epoch != self.state.epoch:
                    return None
                write_lines(entry.payload or b"", len(lines), lines)
        except NotPlainError:
            return None
        return "".join(lines).encode()


class BatchReader:
    """Reads the batches of all shards."""

    def __init__(self, client: Client, shard_count: int) -> None:
        self._client = client
        self._shards = keys.shards(shard_count)
        self._sizes = PageSizes()

    def read(self, shard: int, cursor: Cursor | None, count_max: int) -> RedisBatch | None:
        """Return the batch after the cursor, or the first one of the stream; see the port."""
        state, entries, is_from_start = self._first_page(
            shard, cursor, self._sizes.next(shard, count_max)
        )
        if not entries:
            return None
        while state and (count := sum(entry.count for entry in entries)) < count_max:
            self._sizes.note(shard, max(entry.count for entry in entries))
            size = self._sizes.next(shard, count_max - count)
            state, page = self._page(shard, f"({entries[-1].position}", size)
            entries += page
            if len(page) < size:
                break
        return RedisBatch(shard, cursor, is_from_start, state, entries) if state else None

    def of_user(
        self, user_id: UUID, shard: int, cursor: Cursor | None
    ) -> Iterator[CreditTransaction]:
        """Iterate over the records of a user that follow a cursor of its shard."""
        while batch := self.read(shard, cursor, _USER_BATCH_SIZE):
            made = (entry.transaction for entry in batch.records())
            yield from (one for one in made if one is not None and one.user_id == user_id)
            cursor = batch.end
            if batch.count < _USER_BATCH_SIZE:
                break

    def _first_page(
        self, shard: int, cursor: Cursor | None, size: int
    ) -> tuple[ShardState | None, list[RawEntry], bool]:
        """Return the state, entries that follow the cursor, and whether they begin the stream."""
        if cursor is not None:
            state, entries = self._page(shard, cursor.position, size + 1)
            if state is not None and state.epoch == cursor.epoch and _is_at(cursor, entries):
                return state, entries[1:], False
        return *self._page(shard, _START, size), True

    def _page(self, shard: int, start: str, size: int) -> tuple[ShardState | None, list[RawEntry]]:
        """Read entries and then the state, which covers all of them; None if it was wiped."""
        names = self._shards[shard]
        asked = self._client.ask_all(
            (names, command)
            for command in (
                ("XRANGE", names.stream, start, "+", "COUNT", size),
                ("GET", names.state),
            )
        )
        page, packed = map(checked, asked)
        entries = _entries(page)
        if _has_passed(packed, entries):
            # A node of a cluster sent the page elsewhere, while it still had the state.
            packed = self._client.ask(names, "GET", names.state)
        return None if packed is None else ShardState.unpack(packed), entries


def _entries(page: list[Any]) -> list[RawEntry]:
    return [RawEntry.of(position, fields) for position, fields in page]


def _has_passed(packed: bytes | None, entries: Sequence[RawEntry]) -> bool:
    """Return whether an entry is newer than the state of its shard."""
    if packed is None:
        return False
    state = ShardState.unpack(packed)
    headers = (entry.header for entry in entries if entry.header)
    return any(one.epoch == state.epoch and one.last > state.ordinal for one in headers)


def _is_at(cursor: Cursor, entries: Sequence[RawEntry]) -> bool:
    """Return whether the first entry is exactly that of the cursor."""
    first = entries[0] if entries else None
    return first is not None and (first.position, first.digest) == (cursor.position, cursor.digest)
