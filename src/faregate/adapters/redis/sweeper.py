"""Ends holds whose owners did not, for the worker."""

from collections.abc import Callable
from typing import Self

from redis import Redis

from faregate.adapters.redis import keys
from faregate.adapters.redis.client import Client, checked
from faregate.adapters.redis.holds import expiry_arguments, read_member
from faregate.adapters.redis.urls import check_url
from faregate.domain.transaction import CreditTransactionId

#: How many due holds one sweep of a shard ends at most.
SWEEP_COUNT_MAX = 500


class RedisSweeper:
    """The port `HoldSweeper`."""

    def __init__(
        self, client: Redis, shard_count: int, *, now_ms: Callable[[], int] | None = None
    ) -> None:
        """Sweep the holds of a ledger.

        Args:
            client: Connects to the server.
            shard_count: How many shards the ledger has.
            now_ms: Returns Unix milliseconds; the clock of Redis unless it is given.
        """
        self._client = Client(client)
        self._shards = keys.shards(shard_count)
        self._now_ms = now_ms or self._server_ms

    @classmethod
    def from_url(cls, url: str, shard_count: int) -> Self:
        """Connect at first use, and never repeat a command."""
        return cls(Redis.from_url(check_url(url)), shard_count)

    def shards_due(self) -> list[int]:
        """Return the shards that have open holds that have expired."""
        window = "-inf", self._now_ms(), "LIMIT", 0, 1
        replies = self._client.ask_all(
            [("ZRANGEBYSCORE", shard.holds, *window) for shard in self._shards]
        )
        return [shard for shard, due in enumerate(replies) if checked(due)]

    def sweep(self, shard: int) -> int:
        """Give back or keep expired holds of a shard; see the port.

        Whatever has happened to a hold since it was found due, its script looks again.
        """
        place = self._shards[shard]
        window = "-inf", self._now_ms(), "LIMIT", 0, SWEEP_COUNT_MAX
        ended = 0
        for member in self._client.ask("ZRANGEBYSCORE", place.holds, *window):
            hold_id, user_id = read_member(member)
            names = place.state, place.stream, place.account(user_id.bytes)
            reply = self._client.run("end", names, *expiry_arguments(hold_id))
            ended += reply[0] == b"allowed"
        return ended

    def open_holds(self) -> frozenset[CreditTransactionId]:
        """Return the ids of all holds that nobody has ended, those that have expired included."""
        replies = self._client.ask_all([("ZRANGE", shard.holds, 0, -1) for shard in self._shards])
        members = [member for reply in replies for member in checked(reply)]
        return frozenset(read_member(member)[0] for member in members)

    def _server_ms(self) -> int:
        seconds, microseconds = self._client.ask("TIME")
        return int(seconds) * 1_000 + int(microseconds) // 1_000

    def close(self) -> None:
        """Close all connections."""
        self._client.close()
