"""Drains one shard in a process of its own, and kills it by SIGKILL at a named point.

python drain_process.py REDIS_URL POSTGRES_URL SHARD POINT
"""

import os
import signal
import sys
from contextlib import closing

from faregate.adapters.postgres.archive import PostgresArchive
from faregate.adapters.redis.stream import RedisStream
from faregate_worker.drain import DrainLimits, drain
from points import watch

LIMITS = DrainLimits(batch_size_max=50, seconds_max=60.0)


def main() -> None:
    redis_url, postgres_url, shard, point = sys.argv[1:]

    def reach(reached: str) -> None:
        if reached == point:
            os.kill(os.getpid(), signal.SIGKILL)

    with (
        closing(RedisStream.from_url(redis_url, 1)) as stream,
        closing(PostgresArchive(postgres_url)) as rows,
    ):
        watch(stream, rows, reach)
        drain(stream, rows, int(shard), limits=LIMITS)


if __name__ == "__main__":
    main()
