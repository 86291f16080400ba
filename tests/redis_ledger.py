"""What the tests of a real Redis share: a ledger of one shard, users in it, and their spends."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from redis import Redis

from faregate.adapters.redis import keys
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.values import Account, ShardState
from faregate.domain.attempt import Attempt
from faregate.domain.decision import Decision
from faregate.domain.identity import LedgerIdentity
from faregate.domain.policy import CreditPolicy
from faregate.domain.spend import NO_OPTIONS, Spend, SpendOptions
from faregate.domain.user import User
from faregate.ports import Cursor, StreamEntry, TransactionStream

IDENTITY = LedgerIdentity(
    ledger_id=UUID(int=1), shard_count=1, starting_credits=10, epoch=1, installed=False
)
POLICY = CreditPolicy()
#: The number of the only shard, and the names of its keys.
SHARD = 0
KEYS = keys.shards(1)[SHARD]
#: For tests that are not about time: the machine may be busy with whatever else runs.
TIMEOUT_MS = 30_000


def make_ledger(
    url: str, *, shard_count: int = 1, pending_max: int = 1_000_000, timeout_ms: int = TIMEOUT_MS
) -> RedisLedger:
    return RedisLedger.from_url(
        url, shard_count=shard_count, pending_max=pending_max, decision_timeout_ms=timeout_ms
    )


def records_after(
    stream: TransactionStream, shard: int = SHARD, cursor: Cursor | None = None
) -> Iterator[StreamEntry]:
    """Read every record of a shard that follows a cursor."""
    while batch := stream.read(shard, cursor, 1_000):
        yield from batch.records()
        cursor = batch.end


async def install(ledger: RedisLedger, credits_: int = 10, user_id: UUID | None = None) -> UUID:
    user_id = user_id or uuid4()
    assert await ledger.install(User(id=user_id, credits=credits_, sequence=1, epoch=1))
    return user_id


def attempt_of(
    user_id: UUID, cost: int = 1, policy: CreditPolicy = POLICY, **options: Any
) -> Attempt:
    asked = SpendOptions(**options) if options else NO_OPTIONS
    return Attempt(Spend(user_id, cost, policy, asked))


async def spend(
    ledger: RedisLedger,
    user_id: UUID,
    cost: int = 1,
    policy: CreditPolicy = POLICY,
    **options: Any,
) -> Decision:
    return await ledger.decide(attempt_of(user_id, cost, policy, **options))


async def balance(ledger: RedisLedger, user_id: UUID) -> int:
    user = await ledger.read(user_id)
    assert user is not None
    return user.credits


def everything(client: Redis) -> dict[bytes, Any]:
    """Every key with its value, to be compared byte by byte."""
    return {name: client.dump(name) for name in client.scan_iter()}


def value(client: Any, name: bytes) -> bytes:
    """The packed value of a key, which is there."""
    found = client.get(name)
    assert isinstance(found, bytes)
    return found


def state(client: Any) -> ShardState:
    """The state of the only shard."""
    return ShardState.unpack(value(client, KEYS.state))


def set_credits(client: Any, user_id: UUID, credits_: int) -> None:
    """Write a live balance to Redis past the scripts."""
    name = keys.account(user_id, 1)
    client.set(name, replace(Account.unpack(value(client, name)), credits=credits_).pack())


def entries(client: Any) -> list[tuple[str, bytes]]:
    """The entries in the stream of the only shard: positions and bytes."""
    return [(name.decode(), fields[b"r"]) for name, fields in client.xrange(KEYS.stream)]
