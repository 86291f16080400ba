"""The stream of records: reads pending records, and deletes old stored ones.

Postgres knows how far records are rows, by the cursor of each shard. The worker passes this to
Redis, which then knows how many are pending and may delete old ones. Stored records stay for a
while: they identify retries, and a Postgres that was restored from a backup finds lost records
there.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Self
from uuid import UUID

from faregate.adapters.redis import keys
from faregate.adapters.redis.batches import BatchReader, RedisBatch
from faregate.adapters.redis.client import Client, checked
from faregate.adapters.redis.forks import ForkFinder
from faregate.adapters.redis.record_wait import RecordWait
from faregate.adapters.redis.routes import Address
from faregate.adapters.redis.shard_states import ShardStates
from faregate.adapters.redis.urls import check_url
from faregate.adapters.redis.user_keys import RedisUserKeys
from faregate.adapters.redis.values import Account
from faregate.domain.errors import LedgerCorruptError
from faregate.domain.transaction import CreditTransaction
from faregate.domain.user import User
from faregate.domain.windows import RETENTION_MS, STORED_MS
from faregate.ports import Cursor, Fork

#: How many entries of a stream may stay for longer than the window of retries.
STORED_COUNT_MAX = 500_000
#: The most entries that one call of the script `stored` deletes.
TRIM_COUNT_MAX = 10_000
#: The numbers of shards that a ledger may have had.
COUNTS = range(1, keys.COUNT_MAX + 1)


class RedisStream:
    """The ports `TransactionStream` and `LiveBalances`; `user_keys` is the port `UserKeys`."""

    def __init__(
        self,
        address: Address,
        shard_count: int,
        *,
        stored_ms: int = STORED_MS,
        stored_count_max: int = STORED_COUNT_MAX,
    ) -> None:
        """Make a stream, which connects at first use.

        Args:
            address: The URL of a Redis, or a client of a server, whose connections are not used.
            shard_count: The number of shards.
            stored_ms: For how long a stored record stays.
            stored_count_max: The number of entries in a shard beyond which stored ones stay only
                for the window of retries.
        """
        self._client = Client(address)
        self._retention = stored_ms, min(stored_ms, RETENTION_MS), stored_count_max
        self._shards = keys.shards(shard_count)
        self._batches = BatchReader(self._client, shard_count)
        self._forks = ForkFinder(self._client, shard_count)
        self._record_wait = RecordWait(self._client, self._shards)
        self._states = ShardStates(self._client, self._shards)
        self.user_keys = RedisUserKeys(self._client, self._shards)
        self.shard_count = shard_count

    @classmethod
    def from_url(cls, url: str, shard_count: int, *, stored_ms: int = STORED_MS) -> Self:
        """Connect at first use, and never repeat a command."""
        return cls(check_url(url), shard_count, stored_ms=stored_ms)

    def shards_pending(self) -> Sequence[int]:
        """Return the shards with pending records."""
        states = enumerate(self._states.read_answered())
        return [shard for shard, state in states if state is not None and state.pending_count]

    def pending_count(self) -> int:
        """Return the number of pending records."""
        return sum(state.pending_count for state in self._states.read() if state is not None)

    def read(self, shard: int, cursor: Cursor | None, count_max: int) -> RedisBatch | None:
        """Return the batch after a cursor, of about `count_max` records; see the port."""
        return self._batches.read(shard, cursor, count_max)

    def fork(self, shard: int, cursor: Cursor, places: Iterable[Cursor]) -> Fork | None:
        """Return the fork that has lost the entry of a cursor, or None; see the port."""
        return self._forks.find(shard, cursor, places)

    def lacking(self, cursors: Mapping[int, Cursor]) -> Sequence[int]:
        """Return the shards whose stream lacks the entry of its cursor; see the port."""
        return self._forks.lacking(cursors)

    def wait(self, cursors: Mapping[int, Cursor | None], seconds_max: float) -> Sequence[int]:
        """Wait until a record follows a cursor; return the shards where one does; see the port."""
        return self._record_wait.wait(cursors, seconds_max)

    def note_stored(self, shard: int, cursor: Cursor | None) -> int:
        """Note how far records are rows, and delete old ones; return how many entries."""
        if cursor is None:
            return 0
        one = self._shards[shard]
        place = cursor.epoch, cursor.ordinal, cursor.position, *self._retention
        names = one.state, one.stream
        return int(self._client.run("stored", one, names, *place, TRIM_COUNT_MAX)[1])

    def pending_of(
        self, user_id: UUID, cursors: Mapping[int, Cursor]
    ) -> Iterator[CreditTransaction]:
        """Iterate over the records of a user that follow the cursor of its shard."""
        shard = keys.shard_of(user_id, self.shard_count)
        return self._batches.of_user(user_id, shard, cursors.get(shard))

    def read_many(self, user_ids: Sequence[UUID]) -> Mapping[UUID, User]:
        """Return the live balances of known users."""
        epochs = self.epochs()
        packed = self._client.get_all(map(self._account, user_ids))
        found = {}
        for user_id, value in zip(user_ids, map(checked, packed), strict=True):
            if value is not None:
                epoch = epochs[keys.shard_of(user_id, self.shard_count)] or 0
                found[user_id] = _account(value).user(user_id, epoch)
        return found

    def epochs(self) -> Sequence[int | None]:
        """Return the epoch of each shard, None where Redis holds none."""
        return [None if state is None else state.epoch for state in self._states.read()]

    def made_count(self) -> int:
        """Return the number of records that all shards have made in their epochs."""
        return sum(state.ordinal for state in self._states.read() if state is not None)

    def closed_count(self) -> int:
        """Return the number of closed shards."""
        return sum(state is not None and state.is_closed for state in self._states.read())

    def left_count(self) -> int:
        """Return the number of shards that a moved ledger has given up here; see the port."""
        found = {one.left: one for count in COUNTS for one in keys.shards(count)}
        replies = self._client.ask_all((one, ("EXISTS", name)) for name, one in found.items())
        return sum(map(checked, replies))

    def identity_fields(self) -> Mapping[str, str]:
        """Return the identity of the ledger in Redis; see the port."""
        return self._states.identity_fields()

    def memory(self) -> tuple[int, int]:
        """Return how much memory Redis uses, and how much it may, in bytes; 0 for no limit.

        Of a cluster it is the primary that is nearest to its limit.
        """
        fields = self._client.info_each("memory").values()
        found = [(int(info["used_memory"]), int(info["maxmemory"])) for info in fields]
        return max(found, key=lambda one: (one[0] / (one[1] or math.inf), one[0]))

    def forget(self, user_ids: Iterable[UUID]) -> None:
        """Delete the live balances of users that were deleted in Postgres."""
        self.user_keys.forget(user_ids)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _account(self, user_id: UUID) -> tuple[keys.Shard, bytes]:
        shard = keys.shard_for(user_id, self._shards)
        return shard, shard.account(user_id.bytes)


def _account(packed: bytes) -> Account:
    """Read an account. An unreadable one counts as empty, which makes a finding."""
    try:
        return Account.unpack(packed)
    except LedgerCorruptError:
        return Account(credits=0, sequence=0)
