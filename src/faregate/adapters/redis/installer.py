"""Creates a ledger in an empty Redis, and installs users from Postgres, many at a time."""

from collections.abc import Sequence
from typing import Self

from redis import Redis

from faregate.adapters.redis import keys, scripts
from faregate.adapters.redis.client import Client, checked
from faregate.adapters.redis.link import Argument
from faregate.adapters.redis.replies import error_of
from faregate.adapters.redis.urls import check_url
from faregate.domain.identity import LedgerIdentity
from faregate.domain.user import User
from faregate.ports import Unfinished


def creation(shards: Sequence[keys.Shard], identity: LedgerIdentity) -> tuple[Argument, ...]:
    """Return the call of the script `create` that creates a ledger in an empty Redis."""
    names = keys.ledger(len(shards)), *(shard.state for shard in shards)
    identity_fields = (text for field in identity.identity_fields.items() for text in field)
    return *scripts.load("create").run_command, len(names), *names, identity.epoch, *identity_fields


def installation(shard: keys.Shard, user: User) -> tuple[Argument, ...]:
    """Return the call of the script `install` for a user."""
    names = shard.state, shard.stream, shard.account(user.id.bytes)
    balance = user.credits, user.sequence, user.epoch, user.allowance_left
    return (
        *scripts.load("install").run_command,
        len(names),
        *names,
        *balance,
        user.period_start_ms or 0,
    )


class RedisInstaller:
    """The port `Installer`."""

    def __init__(self, client: Redis, shard_count: int) -> None:
        self._client = Client(client)
        self._shards = keys.shards(shard_count)

    @classmethod
    def from_url(cls, url: str, shard_count: int) -> Self:
        """Connect at first use, and never repeat a command."""
        return cls(Redis.from_url(check_url(url)), shard_count)

    def create(self, identity: LedgerIdentity) -> bool:
        """Create a ledger in an empty Redis; see the port."""
        self._client.ask(*scripts.load("create").load)
        (is_made,) = self._client.ask(*creation(self._shards, identity))
        return bool(is_made)

    def install(self, users: Sequence[User]) -> int:
        """Install durable balances; see the port."""
        self._client.ask(*scripts.load("install").load)
        replies = self._client.ask_all(
            [installation(keys.shard_for(user.id, self._shards), user) for user in users]
        )
        count = 0
        for user, reply in zip(users, replies, strict=True):
            status = checked(reply)[0].decode()
            if status not in {"installed", "present"}:
                raise error_of(status, f"the installation of user {user.id}")
            count += status == "installed"
        return count

    def close_shards(self) -> Unfinished:
        """Close all shards to new changes; see the port."""
        return self._close("close")

    def open_shards(self) -> Unfinished:
        """Open closed shards again; see the port."""
        return self._close("open")

    def give_up(self) -> Unfinished:
        """Give up closed shards that have nothing left to do; see the port."""
        return self._close("give_up")

    def _close(self, mode: str) -> Unfinished:
        there = records = holds = 0
        for shard in self._shards:
            names = shard.state, shard.stream
            status, shard_records, shard_holds = self._client.run("close", names, mode)
            if status == b"corrupt":
                raise error_of("corrupt", f"closing shard {shard.number}")
            there += status == b"unfinished" or (status == b"done" and mode != "give_up")
            records += shard_records
            holds += shard_holds
        return Unfinished(shards=there, records=records, holds=holds)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()
