"""Requests and keys of one user in Redis, for an operator who erases the user. Writes nothing."""

from collections.abc import Iterator
from typing import Self
from uuid import UUID

from faregate.adapters.redis import keys
from faregate.adapters.redis.client import Client
from faregate.adapters.redis.layouts import TIME_MS_BYTES, whole
from faregate.adapters.redis.routes import Address
from faregate.adapters.redis.urls import check_url

#: From the lease of an idempotency key (`lua/lib/keys.lua`): its state, and the times of request
#: and lease.
_IN_FLIGHT = 1
_LEASED = slice(1 + TIME_MS_BYTES, 1 + 2 * TIME_MS_BYTES)


class RedisRequests:
    """The requests and keys of a user. Every method may raise `LedgerUnavailableError`."""

    def __init__(self, address: Address, shard_count: int) -> None:
        """Connect at first use."""
        self._client = Client(address)
        self._shards = keys.shards(shard_count)

    @classmethod
    def from_url(cls, url: str, shard_count: int) -> Self:
        """Connect at first use."""
        return cls(check_url(url), shard_count)

    def in_flight(self, user_id: UUID, lease_ms: int) -> int:
        """Return how many requests with idempotency keys have not been completed.

        Args:
            user_id: The user of the requests.
            lease_ms: The age from which a request counts as lost, in milliseconds.
        """
        shard = keys.shard_for(user_id, self._shards)
        seconds, microseconds = self._client.ask(shard, "TIME")
        since_ms = int(seconds) * 1_000 + int(microseconds) // 1_000 - lease_ms
        entries = [
            value
            for name in shard.idempotency(user_id.bytes)
            for field, value in _pairs(self._client.ask(shard, "HGETALL", name))
            if field[:1] == b"k"
        ]
        return sum(entry[0] == _IN_FLIGHT and whole(entry[_LEASED]) > since_ms for entry in entries)

    def idempotency_key_count(self, user_id: UUID) -> int:
        """Return how many keys have the user in their names: account and idempotency keys."""
        shard = keys.shard_for(user_id, self._shards)
        names = shard.account(user_id.bytes), *shard.idempotency(user_id.bytes)
        return int(self._client.ask(shard, "EXISTS", *names))

    def close(self) -> None:
        """Close all connections."""
        self._client.close()


def _pairs(flat: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)
