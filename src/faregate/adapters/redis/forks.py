"""Finds out whether Redis has lost the entry of a cursor, and what it still has of the history.

After a failover, a restart without the end of the append-only file, or a restore, Redis continues
from an older state: ordinals and sequences are given again. History keeps a beginning in common
with the one before. An entry that was trimmed, or that somebody deleted, is no fork: then no other
entry has its ordinal.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final, Self
from uuid import UUID

from faregate.adapters.redis import keys
from faregate.adapters.redis.batches import RawEntry
from faregate.adapters.redis.client import Client, checked
from faregate.adapters.redis.lost import LostReport
from faregate.adapters.redis.routes import Address
from faregate.adapters.redis.sending import Command
from faregate.adapters.redis.shard_states import answered
from faregate.adapters.redis.urls import check_url
from faregate.adapters.redis.values import ShardState
from faregate.domain.errors import LedgerCorruptError
from faregate.ports import Cursor, Fork, ReportedAnswers

#: How many places are compared, and how many entries are read, in one pipeline.
_PAGE: Final = 200
_UNIX_START: Final = datetime(1970, 1, 1, tzinfo=UTC)

_logger = logging.getLogger(__name__)


class ForkFinder:
    """Compares cursors with the streams."""

    def __init__(self, client: Client, shard_count: int) -> None:
        self._client = client
        self._shards = keys.shards(shard_count)

    def find(self, shard: int, cursor: Cursor, places: Iterable[Cursor]) -> Fork | None:
        """Return the fork that has lost the entry of a cursor, or None; see the port."""
        names = self._shards[shard]
        ((entry, state),) = self._at(names, [cursor])
        if state is None or state.epoch != cursor.epoch or not cursor.ordinal:
            return None
        if _is(entry, cursor) and state.ordinal >= cursor.ordinal:
            return None
        after, since = self._last_common(names, state, places)
        follows = list(self._following(names, state, cursor, after))
        if state.ordinal >= cursor.ordinal and not any(
            _is_other(follower, cursor) for follower in follows
        ):
            return None
        common = [record for follower in follows for record in _records(follower)]
        return Fork(shard=shard, before=cursor, after=after, lost_since=since, common=common)

    def lacking(self, cursors: Mapping[int, Cursor]) -> Sequence[int]:
        """Return the shards that lack the entry of their cursor; see the port."""
        replies = answered(
            self._ask((self._shards[shard], cursor.position) for shard, cursor in cursors.items())
        )
        pairs = zip(cursors.items(), replies[::2], replies[1::2], strict=True)
        return [shard for (shard, cursor), *found in pairs if _lacks(cursor, *found)]

    def _last_common(
        self, names: keys.Shard, state: ShardState, places: Iterable[Cursor]
    ) -> tuple[Cursor | None, datetime]:
        """Return the newest place that the stream still has, and its time."""
        left = iter(places)
        while page := tuple(islice(left, _PAGE)):
            found = self._at(names, page)
            for place, (entry, _) in zip(page, found, strict=True):
                if place.epoch != state.epoch:
                    return None, _time(state.oldest_ms * 1_000)
                if place.ordinal and entry and entry.header and _is(entry, place):
                    return place, _time(entry.header.time_us)
            if _ms(page[-1].position) < state.oldest_ms:
                break
        return None, _time(state.oldest_ms * 1_000)

    def _following(
        self, names: keys.Shard, state: ShardState, cursor: Cursor, after: Cursor | None
    ) -> Iterator[RawEntry]:
        """Iterate over the entries after a place whose ordinals the cursor has passed."""
        start = f"({after.position}" if after else "-"
        while True:
            reply = self._client.ask(names, "XRANGE", names.stream, start, "+", "COUNT", _PAGE)
            page = [RawEntry.of(position, fields) for position, fields in reply]
            for entry in page:
                if entry.header and entry.header.is_of(state):
                    if entry.header.first > cursor.ordinal:
                        return
                    yield entry
            if len(page) < _PAGE:
                return
            start = f"({page[-1].position}"

    def _at(
        self, names: keys.Shard, places: Sequence[Cursor]
    ) -> list[tuple[RawEntry | None, ShardState | None]]:
        """Return the entry at each place, and the state of the shard read after it."""
        replies = map(checked, self._ask((names, place.position) for place in places))
        return [
            (
                RawEntry.of(*page[0]) if page else None,
                None if packed is None else ShardState.unpack(packed),
            )
            for page, packed in zip(replies, replies, strict=True)
        ]

    def _ask(self, places: Iterable[tuple[keys.Shard, str]]) -> list[Any]:
        """Return for each place its entry, and then the state of its shard, or errors."""
        commands: list[tuple[keys.Shard, Command]] = []
        for names, place in places:
            commands.append((names, ("XRANGE", names.stream, place, place)))
            commands.append((names, ("GET", names.state)))
        return self._client.ask_all(commands)


class RedisLostAnswers:
    """The port `LostAnswerReports`."""

    def __init__(self, address: Address, shard_count: int) -> None:
        """Connect at first use."""
        self._client = Client(address)
        self._shards = keys.shards(shard_count)

    @classmethod
    def from_url(cls, url: str, shard_count: int) -> Self:
        """Connect at first use, and never repeat a command."""
        return cls(check_url(url), shard_count)

    def read(self) -> Sequence[ReportedAnswers]:
        """Return all reports; see the port."""
        commands: list[tuple[keys.Shard, Command]] = []
        for shard in self._shards:
            commands += [(shard, ("HGETALL", shard.lost)), (shard, ("GET", shard.state))]
        replies = answered(self._client.ask_all(commands))
        found = list[ReportedAnswers]()
        for shard, flat, packed in zip(self._shards, replies[::2], replies[1::2], strict=True):
            if flat and packed:
                epoch = ShardState.unpack(packed).epoch
                pairs = zip(flat[::2], flat[1::2], strict=True)
                found += [_answers(shard.number, epoch, *pair) for pair in pairs]
        return found

    def forget(self, answers: ReportedAnswers) -> None:
        """Delete a report that is stored; see the port."""
        shard = self._shards[answers.shard]
        self._client.ask(shard, "HDEL", shard.lost, bytes.fromhex(answers.report))

    def close(self) -> None:
        """Close all connections."""
        self._client.close()


def _answers(shard: int, epoch: int, field: bytes, value: bytes) -> ReportedAnswers:
    """Return a report. An unreadable one has no ids, and is deleted like any other."""
    ids: Sequence[UUID] = ()
    is_at_least = True
    try:
        report = LostReport.unpack(field, value)
        ids, is_at_least = report.ids, report.is_at_least
    except LedgerCorruptError as error:
        _logger.warning("lost answers not counted: shard=%d: %s", shard, error)
    return ReportedAnswers(
        shard=shard, epoch=epoch, report=field.hex(), ids=ids, is_at_least=is_at_least
    )


def _is(entry: RawEntry | None, cursor: Cursor) -> bool:
    return entry is not None and (entry.position, entry.digest) == (cursor.position, cursor.digest)


def _lacks(cursor: Cursor, page: Sequence[Any] | None, packed: bytes | None) -> bool:
    """Return whether the entry of a cursor is not there, and was not trimmed."""
    if page is None or packed is None or not cursor.ordinal:
        return False
    state = ShardState.unpack(packed)
    if state.epoch != cursor.epoch:
        return False
    if state.ordinal < cursor.ordinal:
        return True
    is_trimmed = not page and _ms(cursor.position) < state.oldest_ms
    return not is_trimmed and not _is(RawEntry.of(*page[0]) if page else None, cursor)


def _is_other(entry: RawEntry, cursor: Cursor) -> bool:
    """Return whether an entry has the ordinal of a cursor, and is not its entry."""
    header = entry.header
    return bool(header and header.first <= cursor.ordinal <= header.last) and not _is(entry, cursor)


def _records(entry: RawEntry) -> Iterator[tuple[UUID, datetime]]:
    for record in entry.records():
        if made := record.transaction:
            yield made.id.value, made.timestamp


def _ms(position: str) -> int:
    return int(position.partition("-")[0])


def _time(us: int) -> datetime:
    return _UNIX_START + timedelta(microseconds=us)
