"""The near end of the pipe to Postgres: what the scripts appended and no row is known to hold yet.

Acknowledged records stay in the stream for a while, as the memory by which a retry is known. So
"pending" never means "in the stream": it means delivered and not acknowledged, or not delivered.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Self
from uuid import UUID

from redis import Redis

from faregate.adapters.redis import keys
from faregate.adapters.redis.client import Client
from faregate.adapters.redis.group import DrainGroup
from faregate.adapters.redis.urls import check_url
from faregate.adapters.redis.values import Account, ShardState
from faregate.domain.user import User
from faregate.domain.windows import RETENTION_MS
from faregate.ports import StreamEntry

#: How many entries one call of the script `stored` deletes at most.
TRIM_COUNT_MAX = 10_000
#: As the retention: longer than any record is old.
_KEEP_ALL_MS = 2**48 - 1


class RedisStream:
    """The ports `TransactionStream` and `LiveBalances`."""

    def __init__(
        self, client: Redis, shard_count: int, *, retention_ms: int = RETENTION_MS
    ) -> None:
        self._client = Client(client)
        self._retention_ms = retention_ms
        self._shards = keys.shards(shard_count)
        self._group = DrainGroup(self._client, shard_count)
        self.shard_count = shard_count

    @classmethod
    def from_url(cls, url: str, shard_count: int) -> Self:
        """Connect at first use, and never repeat a command."""
        return cls(Redis.from_url(check_url(url)), shard_count)

    def shards_pending(self) -> Sequence[int]:
        """Return the shards that hold records not yet acknowledged."""
        states = enumerate(self._states())
        return [shard for shard, state in states if state is not None and state.pending_count]

    def pending_count(self) -> int:
        """Return how many records are not known to be acknowledged."""
        return sum(state.pending_count for state in self._states() if state is not None)

    def read(self, shard: int, count_max: int) -> Sequence[StreamEntry]:
        """Return records to store: those delivered before and not acknowledged, then new ones.

        Whole entries are read, so there may be more than `count_max`.
        """
        records = self._group.read(shard, count_max, "0") or self._group.read(shard, count_max, ">")
        if not records:
            # A shard is pending by its state. Where that is late, this is how it catches up.
            self._store(shard, _KEEP_ALL_MS)
        return records

    def acknowledge(self, shard: int, stream_ids: Sequence[str]) -> None:
        """Note that records are durable. An entry is acknowledged once all its records are."""
        if self._group.acknowledge(shard, stream_ids):
            self._store(shard, _KEEP_ALL_MS)

    def trim(self, shard: int) -> int:
        """Delete acknowledged entries older than the window of retries; return how many."""
        return self._store(shard, self._retention_ms)

    def _store(self, shard: int, retention_ms: int) -> int:
        """Note how far records are durable; return how many entries that deleted."""
        names = self._shards[shard].state, self._shards[shard].stream
        arguments = keys.GROUP, retention_ms, TRIM_COUNT_MAX
        return int(self._client.run("stored", names, *arguments)[1])

    def unacknowledged(self, shard: int) -> Iterator[StreamEntry]:
        """Iterate over every record that is not known to be durable, reading nothing away.

        These are those from the oldest unacknowledged entry on, so a few may have been
        acknowledged. One that is acknowledged while this runs is a row already: the commit came
        first.
        """
        return self._group.unacknowledged(shard)

    def read_many(self, user_ids: Sequence[UUID]) -> Mapping[UUID, User]:
        """Return the live balances of the users that the ledger knows."""
        epochs = self.epochs()
        names = [keys.account(user_id, self.shard_count) for user_id in user_ids]
        packed = self._client.ask("MGET", *names) if names else []
        found = {}
        for user_id, value in zip(user_ids, packed, strict=True):
            if value is not None:
                epoch = epochs[keys.shard_of(user_id, self.shard_count)] or 0
                found[user_id] = Account.unpack(value).user(user_id, epoch)
        return found

    def epochs(self) -> Sequence[int | None]:
        """Return the epoch of each shard, None where Redis holds none."""
        return [None if state is None else state.epoch for state in self._states()]

    def marks(self) -> Mapping[str, str]:
        """Return what Redis keeps of the identity of its ledger; empty if it was wiped."""
        flat = self._client.ask("HGETALL", keys.ledger(self.shard_count))
        texts = [part.decode() for part in flat]
        return dict(zip(texts[::2], texts[1::2], strict=True))

    def forget(self, user_ids: Iterable[UUID]) -> None:
        """Delete the live balances of users that Postgres knows to be gone."""
        for user_id in user_ids:
            self._client.ask("DEL", keys.account(user_id, self.shard_count))

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _states(self) -> list[ShardState | None]:
        packed = self._client.ask("MGET", *(shard.state for shard in self._shards))
        return [None if state is None else ShardState.unpack(state) for state in packed]
