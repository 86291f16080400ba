"""What the tests of a real Redis share: a ledger of one shard, users in it, and their charges."""

from typing import Any
from uuid import UUID, uuid4

from redis import Redis

from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.runner import ScriptRunner
from faregate.domain.identity import LedgerIdentity
from faregate.domain.request import Charge
from faregate.domain.transaction import CreditTransactionId
from faregate.domain.user import User

IDENTITY = LedgerIdentity(
    ledger_id=UUID(int=1), shard_count=1, starting_credits=10, epoch=3, installed=False
)
SHARD = 0


def make_ledger(url: str, *, shard_count: int = 1, stream_length_max: int = 1000) -> RedisLedger:
    runner = ScriptRunner.from_url(url)
    return RedisLedger(runner, shard_count=shard_count, stream_length_max=stream_length_max)


async def install(ledger: RedisLedger, credits_: int = 10) -> UUID:
    user_id = uuid4()
    assert await ledger.install(User(id=user_id, credits=credits_, sequence=1, epoch=3))
    return user_id


def charge_of(ledger: RedisLedger, user_id: UUID, *, within_ms: int = 10_000) -> Charge:
    """A charge of one credit. Half of its time is waited for an answer that does not come."""
    now_ms = ledger.now_ms()
    return Charge(
        user_id=user_id,
        transaction_id=CreditTransactionId.mint(now_ms),
        cost=1,
        asked_at_ms=now_ms,
        deadline_ms=now_ms + within_ms,
        description="request",
        fresh=True,
    )


async def balance(ledger: RedisLedger, user_id: UUID) -> int:
    user = await ledger.read(user_id)
    assert user is not None
    return user.credits


def everything(client: Redis) -> dict[bytes, Any]:
    """Every key with its value, to be compared byte by byte."""
    return {name: client.dump(name) for name in client.scan_iter()}
