"""Ends expired holds, for the worker."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Self
from uuid import UUID

from faregate.adapters.redis import keys
from faregate.adapters.redis.client import Client, checked
from faregate.adapters.redis.holds import expiry_arguments, read_member
from faregate.adapters.redis.routes import Address
from faregate.adapters.redis.sending import Command
from faregate.adapters.redis.topology import Node
from faregate.adapters.redis.urls import check_url
from faregate.domain.errors import NodeUnavailableError
from faregate.domain.hold import OpenHold
from faregate.domain.transaction import CreditTransactionId

#: The most holds that one sweep of a shard ends.
SWEEP_COUNT_MAX = 500
#: The size of a page of listed holds.
PAGE_COUNT = 1_000


class RedisSweeper:
    """The port `HoldSweeper`."""

    def __init__(
        self, address: Address, shard_count: int, *, now_ms: Callable[[], int] | None = None
    ) -> None:
        """Sweep the holds of a ledger.

        Args:
            address: The Redis; see `RedisStream`.
            shard_count: The number of shards of the ledger.
            now_ms: A clock in Unix milliseconds; by default that of each node.
        """
        self._client = Client(address)
        self._shards = keys.shards(shard_count)
        self._now_ms = now_ms

    @classmethod
    def from_url(cls, url: str, shard_count: int) -> Self:
        """Connect at first use, and never repeat a command."""
        return cls(check_url(url), shard_count)

    def shards_due(self) -> list[int]:
        """Return the shards with expired open holds, on the nodes that answer; see the port."""
        times_ms = self._times_ms()
        asked = [
            (shard, _due(shard, times_ms[node], 1))
            for shard in self._shards
            if (node := self._client.node(shard)) in times_ms
        ]
        replies = zip(asked, self._client.ask_all(asked), strict=True)
        return [
            shard.number
            for (shard, _), due in replies
            if not isinstance(due, NodeUnavailableError) and checked(due)
        ]

    def sweep(self, shard: int) -> int:
        """End expired holds of a shard; see the port.

        A hold may have ended since it was found due; the script checks again.
        """
        place = self._shards[shard]
        now_ms = self._now_ms() if self._now_ms else _ms(self._client.ask(place, "TIME"))
        ended = 0
        for member in self._client.ask(place, *_due(place, now_ms, SWEEP_COUNT_MAX)):
            hold_id, user_id = read_member(member)
            names = place.state, place.stream, place.account(user_id.bytes)
            reply = self._client.run("end", place, names, *expiry_arguments(hold_id))
            ended += reply[0] == b"allowed"
        return ended

    def open_holds(self) -> frozenset[CreditTransactionId]:
        """Return the ids of all open holds, including expired ones."""
        replies = self._client.ask_all(
            (shard, ("ZRANGE", shard.holds, 0, -1)) for shard in self._shards
        )
        members = [member for reply in replies for member in checked(reply)]
        return frozenset(read_member(member)[0] for member in members)

    def list_holds(self, user_id: UUID | None, count_max: int) -> list[OpenHold]:
        """Return at most `count_max` open holds of a user or of all users, by their expiry.

        A hold that ends meanwhile is left out.
        """
        places = self._shards
        if user_id is not None:
            places = (places[keys.shard_of(user_id, len(places))],)
        found = [
            (expires_ms, place, member)
            for place in places
            for expires_ms, member in islice(self._members(place, user_id), count_max)
        ]
        found.sort(key=lambda one: one[0])
        asked = [(place, read_member(member), ms) for ms, place, member in found[:count_max]]
        replies = self._client.ask_all(
            (place, ("HMGET", place.deduct(ids[0]), "state", "cost", "opened"))
            for place, ids, _ in asked
        )
        return [
            OpenHold(
                id=hold_id,
                user_id=owner,
                amount=int(cost),
                opened_at=_time_of(int(opened_ms)),
                expires_at=_time_of(expires_ms),
            )
            for (_, (hold_id, owner), expires_ms), (state, cost, opened_ms) in zip(
                asked, map(checked, replies), strict=True
            )
            if state == b"open"
        ]

    def _members(self, place: keys.Shard, user_id: UUID | None) -> Iterator[tuple[int, bytes]]:
        """Iterate over the open holds of a shard with their expiry, in pages."""
        start = 0
        words = "ZRANGEBYSCORE", place.holds, "-inf", "+inf", "WITHSCORES", "LIMIT"
        while page := self._client.ask(place, *words, start, PAGE_COUNT):
            for member, score in zip(page[::2], page[1::2], strict=True):
                if user_id is None or read_member(member)[1] == user_id:
                    yield int(score), member
            start += PAGE_COUNT

    def _times_ms(self) -> dict[Node, int]:
        """Return the time of each node that answers.

        Raises:
            LedgerUnavailableError: None answers.
        """
        if self._now_ms:
            return dict.fromkeys(self._client.nodes, self._now_ms())
        replies = self._client.ask_each("TIME")
        found = {
            node: _ms(checked(reply))
            for node, reply in replies.items()
            if not isinstance(reply, NodeUnavailableError)
        }
        for reply in replies.values() if not found else ():
            checked(reply)
        return found

    def close(self) -> None:
        """Close all connections."""
        self._client.close()


def _due(shard: keys.Shard, now_ms: int, count_max: int) -> Command:
    """Return the command that lists expired holds."""
    return "ZRANGEBYSCORE", shard.holds, "-inf", now_ms, "LIMIT", 0, count_max


def _ms(time: list[bytes]) -> int:
    """Return the time of a reply to TIME, in Unix milliseconds."""
    return int(time[0]) * 1_000 + int(time[1]) // 1_000


def _time_of(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1_000, UTC)
