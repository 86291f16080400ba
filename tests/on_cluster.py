"""What tests of a ledger on a cluster share: users in all shards, and credits for them."""

import time
from collections.abc import Sequence
from contextlib import closing
from uuid import UUID, uuid4

from cluster_rig import Cluster
from durable import Database
from faregate import Settings
from faregate.adapters.redis import keys
from faregate.adapters.redis.client import Client
from faregate.bootstrap import open_admin, open_credits, open_installer
from faregate.domain.decision import Decision
from faregate.domain.redis_url import RedisUrl
from faregate.domain.request import Credit
from faregate.domain.transaction import CreditTransactionId, TransactionType
from faregate_worker.jobs import work_on
from faregate_worker.runtime import Stop
from tcp_redis import TcpRedis

#: The longest time of a job, in seconds: it reads the topology before its first batch.
JOB_S = 2.0


def ledger_with_users(settings: Settings, tables: Database) -> Sequence[UUID]:
    """Create a ledger, with users in all of its shards."""
    create(settings)
    found = [UUID(int=uuid4().int >> 16 << 16 | shard) for shard in range(settings.shard_count)]
    tables.run("insert into auth.users (id) select unnest(%s::uuid[])", found)
    install(settings, found)
    return found


def opened(settings: Settings) -> closing[Client]:
    return closing(Client(RedisUrl.parse(settings.redis_url)))


def create(settings: Settings) -> None:
    """Create the ledger, as the first gate does."""
    with open_admin(settings) as admin, open_installer(settings) as installer:
        assert installer.create(admin.identity())


def install(settings: Settings, users: Sequence[UUID]) -> None:
    with open_admin(settings) as admin, open_installer(settings) as installer:
        assert installer.install(admin.open(users)) == len(users)


def credit(settings: Settings, users: Sequence[UUID], amount: int = 5) -> Sequence[object]:
    """Give credits to users; return the answers."""
    now_ms = time.time_ns() // 1_000_000
    given = [
        Credit(
            user_id=user_id,
            transaction_id=CreditTransactionId.mint(now_ms),
            type=TransactionType.ADD,
            amount=amount,
            description="a gift",
        )
        for user_id in users
    ]
    with open_credits(settings) as credits_:
        return list(credits_.add(given))


def credit_all(settings: Settings, users: Sequence[UUID]) -> None:
    """Give credits to all users; each has them."""
    answers = credit(settings, users)
    assert [type(answer) for answer in answers] == [Decision] * len(users), answers


def stored_of(
    settings: Settings, users: Sequence[UUID], tables: Database, seconds_max: float = JOB_S
) -> Sequence[int]:
    """Let a job work; return how many rows each user has then."""
    work_on(settings, Stop(), seconds_max)
    return [len(tables.rows(user)) for user in users]


def owner(cluster: Cluster, settings: Settings, user_id: UUID) -> TcpRedis:
    """Return the primary of a user."""
    return cluster.owner(keys.shard_for(user_id, keys.shards(settings.shard_count)).slot)
