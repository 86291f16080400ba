"""Users of both servers, their charges, and a drain, for tests of what becomes of records."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg.conninfo import conninfo_to_dict

from durable import Database, Sink
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.stream import RedisStream
from faregate.domain.user import User
from faregate_worker.drain import Drained, DrainLimits, drain
from redis_ledger import SHARD, spend
from waiting import WAIT_S_MAX

CREDITS = 3
LIMITS = DrainLimits(batch_size_max=50, seconds_max=WAIT_S_MAX)


class Charger:
    """Users of both servers, and their charges in Redis."""

    def __init__(self, ledger: RedisLedger, tables: Database, count: int) -> None:
        self.ledger = ledger
        self.users = [user.user_id for user in tables.users(count)]

    async def install(self) -> None:
        for user_id in self.users:
            user = User(id=user_id, credits=CREDITS, sequence=1, epoch=1)
            assert await self.ledger.install(user)

    async def charge(self) -> None:
        """Charge each user once; some of it at once, as one entry."""
        for half in (self.users[::2], self.users[1::2]):
            await asyncio.gather(*(spend(self.ledger, user_id) for user_id in half))


def drained(stream: RedisStream, rows: Sink) -> Drained:
    return drain(stream, rows.archive, SHARD, limits=LIMITS)


def name_of(url: str) -> str:
    return str(conninfo_to_dict(url)["dbname"])


def batches(tables: Database) -> list[dict[str, Any]]:
    return tables.run("select * from faregate.batches order by shard, number")


def counts(tables: Database, users: Sequence[UUID]) -> set[int]:
    """How many rows users have, and that their profiles agree."""
    assert tables.is_exact()
    return {len(tables.rows(user_id)) for user_id in users}
