"""The stream of records: reads pending records, and deletes old stored ones.

Postgres knows how far records are rows, by the cursor of each shard. The worker passes this to
Redis, which then knows how many are pending and may delete old ones. Stored records stay for a
while: they identify retries, and a Postgres that was restored from a backup finds lost records
there.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Self
from uuid import UUID

from redis import Redis

from faregate.adapters.redis import keys
from faregate.adapters.redis.batches import BatchReader, RedisBatch
from faregate.adapters.redis.client import Client
from faregate.adapters.redis.urls import check_url
from faregate.adapters.redis.values import Account, ShardState
from faregate.domain.errors import LedgerCorruptError
from faregate.domain.transaction import CreditTransaction
from faregate.domain.user import User
from faregate.domain.windows import RETENTION_MS, STORED_MS
from faregate.ports import Cursor, ShardRecords

#: How many entries of a stream may stay for longer than the window of retries.
STORED_COUNT_MAX = 500_000
#: About how many keys one call of the script `erase` scans: at most a millisecond of Redis.
ERASE_COUNT = 250
#: The most entries that one call of the script `stored` deletes.
TRIM_COUNT_MAX = 10_000
#: How many records are decoded at once.
_BATCH_SIZE = 1_000


class RedisStream:
    """The ports `TransactionStream`, `LiveBalances` and `UserKeys`."""

    def __init__(
        self,
        client: Redis,
        shard_count: int,
        *,
        stored_ms: int = STORED_MS,
        stored_count_max: int = STORED_COUNT_MAX,
    ) -> None:
        """Make a stream over the connections of a client.

        Args:
            client: A client of the server.
            shard_count: The number of shards.
            stored_ms: For how long a stored record stays.
            stored_count_max: The number of entries in a shard beyond which stored ones stay only
                for the window of retries.
        """
        self._client = Client(client)
        self._retention = stored_ms, min(stored_ms, RETENTION_MS), stored_count_max
        self._shards = keys.shards(shard_count)
        self._batches = BatchReader(self._client, shard_count)
        self.shard_count = shard_count

    @classmethod
    def from_url(cls, url: str, shard_count: int, *, stored_ms: int = STORED_MS) -> Self:
        """Connect at first use, and never repeat a command."""
        return cls(Redis.from_url(check_url(url)), shard_count, stored_ms=stored_ms)

    def shards_pending(self) -> Sequence[int]:
        """Return the shards with pending records."""
        states = enumerate(self._states())
        return [shard for shard, state in states if state is not None and state.pending_count]

    def pending_count(self) -> int:
        """Return the number of pending records."""
        return sum(state.pending_count for state in self._states() if state is not None)

    def read(self, shard: int, cursor: Cursor | None, count_max: int) -> RedisBatch | None:
        """Return the batch after a cursor, of about `count_max` records; see the port."""
        return self._batches.read(shard, cursor, count_max)

    def wait(self, cursors: Mapping[int, Cursor | None], seconds_max: float) -> Sequence[int]:
        """Wait until a record follows a cursor; return the shards where one does."""
        if not cursors:
            return []
        shards = {self._shards[shard].stream: shard for shard in cursors}
        places = [cursor.position if cursor else "0" for cursor in cursors.values()]
        options = "COUNT", 1, "BLOCK", max(1, round(seconds_max * 1_000))
        reply = self._client.ask("XREAD", *options, "STREAMS", *shards, *places)
        return [shards[name] for name, _ in reply or ()]

    def note_stored(self, shard: int, cursor: Cursor | None) -> int:
        """Note how far records are rows, and delete old ones; return how many entries."""
        if cursor is None:
            return 0
        names = self._shards[shard].state, self._shards[shard].stream
        place = cursor.epoch, cursor.ordinal, cursor.position
        return int(self._client.run("stored", names, *place, *self._retention, TRIM_COUNT_MAX)[1])

    def pending_of(
        self, user_id: UUID, cursors: Mapping[int, Cursor]
    ) -> Iterator[CreditTransaction]:
        """Iterate over the records of a user that follow the cursor of its shard."""
        shard = keys.shard_of(user_id, self.shard_count)
        place = cursors.get(shard)
        while batch := self.read(shard, place, _BATCH_SIZE):
            made = (entry.transaction for entry in batch.records())
            yield from (one for one in made if one is not None and one.user_id == user_id)
            place = batch.end
            if batch.count < _BATCH_SIZE:
                break

    def read_many(self, user_ids: Sequence[UUID]) -> Mapping[UUID, User]:
        """Return the live balances of known users."""
        epochs = self.epochs()
        names = [keys.account(user_id, self.shard_count) for user_id in user_ids]
        packed = self._client.ask("MGET", *names) if names else []
        found = {}
        for user_id, value in zip(user_ids, packed, strict=True):
            if value is not None:
                epoch = epochs[keys.shard_of(user_id, self.shard_count)] or 0
                found[user_id] = _account(value).user(user_id, epoch)
        return found

    def epochs(self) -> Sequence[int | None]:
        """Return the epoch of each shard, None where Redis holds none."""
        return [None if state is None else state.epoch for state in self._states()]

    def closed_count(self) -> int:
        """Return the number of closed shards."""
        return sum(state is not None and state.is_closed for state in self._states())

    def left_count(self) -> int:
        """Return the number of shards that a moved ledger has given up here; see the port."""
        return int(self._client.ask("EXISTS", *(shard.left for shard in self._shards)))

    def identity_fields(self) -> Mapping[str, str]:
        """Return the identity of the ledger in Redis; empty if Redis was wiped."""
        flat = self._client.ask("HGETALL", keys.ledger(self.shard_count))
        texts = [part.decode() for part in flat]
        return dict(zip(texts[::2], texts[1::2], strict=True))

    def memory(self) -> tuple[int, int]:
        """Return how much memory Redis uses, and how much it may, in bytes; 0 for no limit."""
        info = self._client.info("memory")
        return int(info["used_memory"]), int(info["maxmemory"])

    def forget(self, user_ids: Iterable[UUID]) -> None:
        """Delete the live balances of users that were deleted in Postgres."""
        for user_id in user_ids:
            self._client.ask("DEL", keys.account(user_id, self.shard_count))

    def records(self, user_ids: Sequence[UUID]) -> Mapping[UUID, ShardRecords]:
        """Return the numbers of records in the shard of each user; a wiped one has none."""
        states = [state or ShardState(epoch=0) for state in self._states()]
        shards = [ShardRecords(state.epoch, state.ordinal, state.stored) for state in states]
        return {user_id: shards[keys.shard_of(user_id, self.shard_count)] for user_id in user_ids}

    def erase(self, user_ids: Sequence[UUID]) -> Iterator[int]:
        """Scan all keys in steps, and delete those of users; see the port."""
        users = [user_id.bytes for user_id in user_ids]
        place: bytes | int = 0
        while True:
            place, count = self._client.run("erase", (), place, ERASE_COUNT, *users)
            yield count
            if place == b"0":
                return

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _states(self) -> list[ShardState | None]:
        packed = self._client.ask("MGET", *(shard.state for shard in self._shards))
        return [None if state is None else ShardState.unpack(state) for state in packed]


def _account(packed: bytes) -> Account:
    """Read an account. An unreadable one counts as empty, which makes a finding."""
    try:
        return Account.unpack(packed)
    except LedgerCorruptError:
        return Account(credits=0, sequence=0)
