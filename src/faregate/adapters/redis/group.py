"""The consumer group of the drain: entries as Redis delivers them, records as the drain reads them.

An entry holds all records of one call, so it is acknowledged once all of them are durable.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from faregate.adapters.redis import keys
from faregate.adapters.redis.client import Client, checked
from faregate.adapters.redis.pages import PageSizes
from faregate.adapters.redis.records import FIELD, read_entry
from faregate.ports import StreamEntry

#: How many entries are read at once where all are read.
_PAGE_SIZE = 100


class DrainGroup:
    """Reads and acknowledges the records of all shards."""

    def __init__(self, client: Client, shard_count: int) -> None:
        self._client = client
        self._shards = keys.shards(shard_count)
        self._sizes = PageSizes()
        #: By shard and position, the records of an entry that are yet to be acknowledged.
        self._open: dict[tuple[int, str], set[str]] = {}

    def read(self, shard: int, count_max: int, start: str) -> list[StreamEntry]:
        """Read whole entries until they hold about `count_max` records.

        Args:
            shard: Whose stream it is.
            count_max: How many records are enough.
            start: ">" for new entries, "0" for those that were delivered before.
        """
        records: list[StreamEntry] = []
        while len(records) < count_max:
            size = self._sizes.next(shard, count_max - len(records))
            page = self._read_page(shard, start, size)
            if not page:
                break
            entries = [read_entry(position.decode(), payload(fields)) for position, fields in page]
            self._sizes.note(shard, max(map(len, entries)))
            for entry in entries:
                self._open[shard, position_of(entry[0])] = {record.stream_id for record in entry}
                records += entry
            if start != ">":
                start = position_of(records[-1])
        return records

    def _read_page(self, shard: int, start: str, count: int) -> list[Any]:
        stream = self._shards[shard].stream
        group = "GROUP", keys.GROUP, keys.CONSUMER
        command = ("XREADGROUP", *group, "COUNT", count, "STREAMS", stream, start)
        (reply,) = self._client.ask_all([command])
        if isinstance(reply, Exception) and str(reply).startswith("NOGROUP"):
            # The group is made from 0: what had been read before is known to Postgres by its id.
            self._client.ask("XGROUP", "CREATE", stream, keys.GROUP, "0", "MKSTREAM")
            return self._read_page(shard, start, count)
        return checked(reply)[0][1] if reply else []

    def acknowledge(self, shard: int, stream_ids: Sequence[str]) -> int:
        """Note that records are durable; return how many entries that acknowledged."""
        done = []
        for address in stream_ids:
            position = address.partition("/")[0]
            left = self._open.get((shard, position))
            if left is None:
                left = self._open[shard, position] = self._find(shard, position)
            left.discard(address)
            if not left:
                del self._open[shard, position]
                done.append(position)
        if done:
            self._client.ask("XACK", self._shards[shard].stream, keys.GROUP, *done)
        return len(done)

    def _find(self, shard: int, position: str) -> set[str]:
        """Return the records of an entry that another reader has read."""
        stream = self._shards[shard].stream
        found = self._client.ask("XRANGE", stream, position, position)
        fields = found[0][1] if found else None
        return {record.stream_id for record in read_entry(position, payload(fields))}

    def unacknowledged(self, shard: int) -> Iterator[StreamEntry]:
        """Iterate over all records from the oldest unacknowledged entry on."""
        stream = self._shards[shard].stream
        start = self._oldest_pending(shard)
        while start:
            page = self._client.ask("XRANGE", stream, start, "+", "COUNT", _PAGE_SIZE)
            for position, fields in page:
                yield from read_entry(position.decode(), payload(fields))
            start = f"({page[-1][0].decode()}" if len(page) == _PAGE_SIZE else ""

    def _oldest_pending(self, shard: int) -> str:
        """Return where entries begin that are not acknowledged, as XRANGE takes it."""
        stream = self._shards[shard].stream
        groups, pending = self._client.ask_all(
            [("XINFO", "GROUPS", stream), ("XPENDING", stream, keys.GROUP)]
        )
        if isinstance(groups, Exception) and "no such key" in str(groups):
            return ""
        for group in checked(groups):
            facts = dict(zip(group[::2], group[1::2], strict=True))
            if facts[b"name"] == keys.GROUP.encode():
                count, oldest = checked(pending)[:2]
                return str((oldest if count else b"(" + facts[b"last-delivered-id"]).decode())
        return "-"


def payload(fields: list[bytes] | None) -> bytes | None:
    """Return the bytes of an entry, None where they are gone."""
    if fields is None:
        return None
    return dict(zip(fields[::2], fields[1::2], strict=True)).get(FIELD)


def position_of(record: StreamEntry) -> str:
    """Return the position of the entry of a record."""
    return record.stream_id.partition("/")[0]
