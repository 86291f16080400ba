"""Creates a ledger in an empty Redis, and installs users from Postgres, many at a time."""

from collections.abc import Sequence
from typing import Self

from faregate.adapters.redis import keys, scripts
from faregate.adapters.redis.client import Client, Run, checked
from faregate.adapters.redis.link import Argument
from faregate.adapters.redis.replies import error_of
from faregate.adapters.redis.routes import Address
from faregate.adapters.redis.urls import check_url
from faregate.domain.identity import LedgerIdentity
from faregate.domain.user import User
from faregate.ports import Unfinished


def creation(shard: keys.Shard, identity: LedgerIdentity) -> tuple[Argument, ...]:
    """Return the call of the script `create` for a shard; that of shard 0 comes last."""
    _, names, arguments = _creation(shard, identity)
    return *scripts.load("create").run_command, len(names), *names, *arguments


def _creation(shard: keys.Shard, identity: LedgerIdentity) -> Run:
    is_last = shard.number == 0
    identity_fields = (text for field in identity.identity_fields.items() for text in field)
    return shard, (shard.state, shard.ledger), (identity.epoch, int(is_last), *identity_fields)


class RedisInstaller:
    """The port `Installer`."""

    def __init__(self, address: Address, shard_count: int) -> None:
        """Connect at first use."""
        self._client = Client(address)
        self._shards = keys.shards(shard_count)

    @classmethod
    def from_url(cls, url: str, shard_count: int) -> Self:
        """Connect at first use, and never repeat a command."""
        return cls(check_url(url), shard_count)

    def create(self, identity: LedgerIdentity) -> bool:
        """Create a ledger in an empty Redis; see the port."""
        # Shard 0 comes last, since gates serve from then on.
        return self._create(self._shards[1:], identity) and self._create(self._shards[:1], identity)

    def _create(self, shards: Sequence[keys.Shard], identity: LedgerIdentity) -> bool:
        runs = [_creation(shard, identity) for shard in shards]
        return all(checked(reply) == [1] for reply in self._client.run_all("create", runs))

    def install(self, users: Sequence[User]) -> int:
        """Install durable balances; see the port."""
        replies = self._client.run_all("install", map(self._installation, users))
        count = 0
        for user, reply in zip(users, replies, strict=True):
            status = checked(reply)[0].decode()
            if status not in {"installed", "present"}:
                raise error_of(status, f"the installation of user {user.id}")
            count += status == "installed"
        return count

    def _installation(self, user: User) -> Run:
        shard = keys.shard_for(user.id, self._shards)
        names = shard.state, shard.stream, shard.account(user.id.bytes)
        balance = user.credits, user.sequence, user.epoch, user.allowance_left
        return shard, names, (*balance, user.period_start_ms or 0)

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
            status, shard_records, shard_holds = self._client.run("close", shard, names, mode)
            if status == b"corrupt":
                raise error_of("corrupt", f"closing shard {shard.number}")
            there += status == b"unfinished" or (status == b"done" and mode != "give_up")
            records += shard_records
            holds += shard_holds
        return Unfinished(shards=there, records=records, holds=holds)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()
