"""With full_shard.py all that the benchmarks know of Faregate beside its public interface.

A change of the layout in Redis needs a change here, and nowhere else in this folder.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from uuid import UUID

from redis import Redis

from benchmarks.servers import CREDITS, SHARDS
from faregate.adapters.redis import keys
from faregate.adapters.redis.scripts import load
from faregate.adapters.redis.values import ShardState

SHARD_COUNT = SHARDS
_PIPELINE_MAX = 2_000


def install_users(redis_url: str, user_ids: Iterable[UUID]) -> None:
    """Bring users in by the script that the gate uses, many at once, past Postgres.

    The ledger must have been attached, which the start of any gate does.
    """
    with Redis.from_url(redis_url) as client:
        state = client.get(keys.shards(SHARD_COUNT)[0].state)
        epoch = ShardState.unpack(state).epoch
        _, sha = load("install").run_command
        client.execute_command(*load("install").load)
        remaining = iter(user_ids)
        while some := list(islice(remaining, _PIPELINE_MAX)):
            pipeline = client.pipeline(transaction=False)
            for user_id in some:
                shard = _shard_of(user_id)
                names = (shard.state, shard.stream, shard.account(user_id.bytes))
                pipeline.evalsha(sha, 3, *names, CREDITS, 1, epoch, 0, 0)
            pipeline.execute()


def account_bytes(redis_url: str, user_ids: Sequence[UUID]) -> float:
    """Return how many bytes an account takes, by MEMORY USAGE, on the average of some users."""
    with Redis.from_url(redis_url) as client:
        pipeline = client.pipeline(transaction=False)
        for user_id in user_ids:
            pipeline.memory_usage(_shard_of(user_id).account(user_id.bytes), samples=0)
        sizes = pipeline.execute()
    return float(sum(sizes) / len(sizes))


def _shard_of(user_id: UUID) -> keys.Shard:
    return keys.shard_for(user_id, keys.shards(SHARD_COUNT))
