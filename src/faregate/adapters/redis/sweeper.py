"""Ends holds whose owners did not, for the worker."""

from itertools import chain
from typing import Any, Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from faregate.adapters.redis import keys
from faregate.adapters.redis.hold_keys import end_ids, end_keys, read_pair
from faregate.adapters.redis.scripts import load
from faregate.adapters.redis.urls import check_no_cluster, check_url
from faregate.domain.errors import LedgerUnavailableError
from faregate.domain.transaction import CreditTransactionId

#: How many due holds one sweep of a shard ends at most.
SWEEP_COUNT_MAX = 500
_TIMEOUT_S = 5.0


class RedisSweeper:
    """The port `HoldSweeper`."""

    def __init__(self, client: Redis, shard_count: int) -> None:
        self._redis = client
        self._shard_count = shard_count
        self._due = client.register_script(load("due").source)
        self._expire = client.register_script(load("expire").source)

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

    def shards_due(self) -> list[int]:
        """Return the shards that have open holds whose time is over."""
        return [shard for shard in range(self._shard_count) if self._named(shard, 1)]

    def sweep(self, shard: int) -> int:
        """Give back or keep due holds of a shard; see the port.

        Whatever has happened to a hold since it was found due, its script looks again.
        """
        ended = 0
        for hold_id, user_id in map(read_pair, self._named(shard, SWEEP_COUNT_MAX)):
            names, arguments = end_keys(shard, user_id, hold_id), end_ids(user_id, hold_id)
            ended += self._ask(self._expire, names, arguments)[0] == b"allowed"
        return ended

    def open_holds(self) -> frozenset[CreditTransactionId]:
        """Return the ids of all holds that nobody has ended, those that are due included."""
        pipeline = self._redis.pipeline(transaction=False)
        for shard in range(self._shard_count):
            pipeline.zrange(keys.holds(shard), 0, -1)
        try:
            members = chain.from_iterable(pipeline.execute())
        except (RedisError, OSError) as error:
            check_no_cluster(error)
            raise LedgerUnavailableError(f"holds cannot be listed: {error}") from error
        return frozenset(read_pair(member)[0] for member in members)

    def _named(self, shard: int, count_max: int) -> list[bytes]:
        found: list[bytes] = self._ask(self._due, (keys.holds(shard),), (count_max,))[4]
        return found

    def _ask(self, script: Any, names: tuple[str, ...], arguments: tuple[Any, ...]) -> Any:
        try:
            return script(keys=names, args=arguments)
        except (RedisError, OSError) as error:
            check_no_cluster(error)
            raise LedgerUnavailableError(f"holds cannot be swept: {error}") from error

    def close(self) -> None:
        """Close all connections."""
        self._redis.close()
