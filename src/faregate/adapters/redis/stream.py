"""The near end of the pipe to Postgres: what the scripts appended and no row is known to hold yet.

Acknowledged records stay in the stream for a while, as the memory by which a retry is known. So
"pending" never means "in the stream": it means delivered and not acknowledged, or not delivered.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from redis import Redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from faregate.adapters.redis import keys
from faregate.adapters.redis.records import FIELD, entry
from faregate.adapters.redis.scripts import load
from faregate.adapters.redis.urls import check_no_cluster, check_url
from faregate.domain.errors import LedgerUnavailableError
from faregate.domain.user import User
from faregate.ports import StreamEntry

#: The window of a retry by id (60 s), and what clocks and slow callers may add to it.
RETENTION_MS = 90_000
#: How many records one call of the trim script deletes at most.
TRIM_COUNT_MAX = 10_000

_TIMEOUT_S = 5.0
_PAGE_SIZE = 1_000


class RedisStream:
    """The ports `TransactionStream` and `LiveBalances`."""

    def __init__(
        self, client: Redis, shard_count: int, *, retention_ms: int = RETENTION_MS
    ) -> None:
        self._redis = client
        self._retention_ms = retention_ms
        self.shard_count = shard_count

    @classmethod
    def from_url(cls, url: str, shard_count: int) -> Self:
        """Connect at first use, and never repeat a command."""
        client = Redis.from_url(
            check_url(url),
            protocol=2,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        return cls(client, shard_count)

    def shards_pending(self) -> Sequence[int]:
        """Return the shards that hold records not yet acknowledged."""
        states = self._states(range(self.shard_count))
        return [shard for shard, state in states.items() if state.is_pending]

    def read(self, shard: int, count_max: int) -> Sequence[StreamEntry]:
        """Return entries to store: those delivered before and not acknowledged, then new ones."""
        delivered = self._read_group(shard, "0", count_max)
        return delivered or self._read_group(shard, ">", count_max)

    def _read_group(self, shard: int, start: str, count_max: int) -> Sequence[StreamEntry]:
        name = keys.stream(shard)
        names = (keys.GROUP, keys.CONSUMER, {name: start})
        reply = self._ask("xreadgroup", *names, count=count_max)
        if reply is None:
            # The group is made from 0: what had been read before is known to Postgres by its id.
            self._ask("xgroup_create", name, keys.GROUP, "0", mkstream=True)
            return self._read_group(shard, start, count_max)
        return [_entry(*pair) for _, pairs in reply for pair in pairs]

    def acknowledge(self, shard: int, stream_ids: Sequence[str]) -> None:
        """Note that entries are durable."""
        if stream_ids:
            self._ask("xack", keys.stream(shard), keys.GROUP, *stream_ids)

    def trim(self, shard: int) -> int:
        """Delete acknowledged entries older than the window of retries; return how many."""
        arguments = (keys.stream(shard), keys.GROUP, self._retention_ms, TRIM_COUNT_MAX)
        return int(self._ask("eval", load("trim").source, 1, *arguments)[0])

    def unacknowledged(self, shard: int) -> Iterator[StreamEntry]:
        """Iterate over every entry that is not known to be durable, reading nothing away.

        These are the entries from the oldest unacknowledged one on, so a few may have been
        acknowledged. One that is acknowledged while this runs is a row already: the commit came
        first.
        """
        state = self._states([shard])[shard]
        start = f"({state.delivered_id}"
        if state.delivered_count:
            start = self._oldest_delivered(shard) or start
        for pair in self._range(shard, start):
            yield _entry(*pair)

    def _oldest_delivered(self, shard: int) -> str | None:
        summary = self._ask("xpending", keys.stream(shard), keys.GROUP)
        return summary["min"].decode() if summary["pending"] else None

    def _range(self, shard: int, start: str) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
        while start:
            page = self._ask("xrange", keys.stream(shard), start, "+", count=_PAGE_SIZE)
            yield from page
            start = f"({page[-1][0].decode()}" if len(page) == _PAGE_SIZE else ""

    def pending_count(self) -> int:
        """Return how many records are not acknowledged."""
        count = 0
        for shard, state in self._states(range(self.shard_count)).items():
            count += state.delivered_count
            if state.has_new:
                count += sum(1 for _ in self._range(shard, f"({state.delivered_id}"))
        return count

    def read_many(self, user_ids: Sequence[UUID]) -> Mapping[UUID, User]:
        """Return the live balances of the users that the ledger knows."""
        epochs = self.epochs()
        shards = [keys.shard_of(user_id, self.shard_count) for user_id in user_ids]
        pipeline = self._redis.pipeline(transaction=False)
        for user_id, shard in zip(user_ids, shards, strict=True):
            pipeline.hmget(keys.user(shard, user_id), "c", "s")
        found = {}
        replies = self._execute(pipeline)
        for user_id, shard, (balance, sequence) in zip(user_ids, shards, replies, strict=True):
            if balance is not None:
                found[user_id] = User(
                    id=user_id,
                    credits=int(balance),
                    sequence=int(sequence),
                    epoch=epochs[shard] or 0,
                )
        return found

    def epochs(self) -> Sequence[int | None]:
        """Return the epoch of each shard, None where Redis holds none."""
        pipeline = self._redis.pipeline(transaction=False)
        for shard in range(self.shard_count):
            pipeline.get(keys.epoch(shard))
        return [None if epoch is None else int(epoch) for epoch in self._execute(pipeline)]

    def marks(self) -> Mapping[str, str]:
        """Return what Redis keeps of the identity of its ledger; empty if it was wiped."""
        flat = self._ask("hgetall", keys.ledger())
        return {name.decode(): mark.decode() for name, mark in flat.items()}

    def forget(self, user_ids: Iterable[UUID]) -> None:
        """Delete the live balances of users that Postgres knows to be gone."""
        for user_id in user_ids:
            self._ask("delete", keys.user(keys.shard_of(user_id, self.shard_count), user_id))

    def close(self) -> None:
        """Close all connections."""
        self._redis.close()

    def _states(self, shards: Sequence[int]) -> dict[int, "_State"]:
        pipeline = self._redis.pipeline(transaction=False)
        for shard in shards:
            pipeline.xinfo_stream(keys.stream(shard))
            pipeline.xinfo_groups(keys.stream(shard))
        replies = self._execute(pipeline)
        states = zip(shards, replies[::2], replies[1::2], strict=True)
        return {shard: _state(stream, groups) for shard, stream, groups in states}

    def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Send one command. A group that is missing is an answer: None."""
        try:
            return getattr(self._redis, method)(*arguments, **options)
        except (RedisError, OSError) as error:
            if isinstance(error, ResponseError) and str(error).startswith("NOGROUP"):
                return None
            check_no_cluster(error)
            raise LedgerUnavailableError(f"Redis cannot be read: {error}") from error

    def _execute(self, pipeline: Pipeline) -> list[Any]:
        """Run a pipeline. A stream that is missing is an answer: an exception in its place."""
        try:
            replies: list[Any] = pipeline.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            raise LedgerUnavailableError(f"Redis cannot be read: {error}") from error
        for reply in replies:
            if isinstance(reply, Exception) and "no such key" not in str(reply):
                check_no_cluster(reply)
                raise LedgerUnavailableError(f"Redis cannot be read: {reply}") from reply
        return replies


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """How far a shard's stream has been read."""

    #: The last entry that was delivered to the drain.
    delivered_id: str
    #: How many delivered entries are not acknowledged.
    delivered_count: int
    #: Whether there are entries after the last one delivered.
    has_new: bool

    @property
    def is_pending(self) -> bool:
        return self.has_new or self.delivered_count > 0


def _state(stream: Any, groups: Any) -> _State:
    if isinstance(stream, Exception) or isinstance(groups, Exception):
        return _State(delivered_id="0-0", delivered_count=0, has_new=False)
    ours = [group for group in groups if group["name"] == keys.GROUP.encode()]
    if not ours:
        return _State(delivered_id="0-0", delivered_count=0, has_new=stream["length"] > 0)
    delivered_id = ours[0]["last-delivered-id"].decode()
    return _State(
        delivered_id=delivered_id,
        delivered_count=ours[0]["pending"],
        has_new=stream["last-generated-id"].decode() != delivered_id,
    )


def _entry(stream_id: bytes, fields: Mapping[bytes, bytes] | None) -> StreamEntry:
    return entry(stream_id.decode(), (fields or {}).get(FIELD))
