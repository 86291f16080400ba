"""Drains one shard in a process of its own, and kills it by SIGKILL at a named point.

python drain_process.py REDIS_URL POSTGRES_URL SHARD POINT
"""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

from faregate.adapters.postgres import archive as archive_module
from faregate.adapters.postgres import cursors, inserts
from faregate.adapters.postgres.archive import PostgresArchive
from faregate.adapters.redis.stream import RedisStream
from faregate_worker.drain import DrainLimits, drain

LIMITS = DrainLimits(batch_size_max=50, seconds_max=60.0)
#: Points inside the transaction: the statement that is asked for next.
BEFORE_STATEMENT = {"after copy": "insert_rows", "after insert": "add_to_profiles"}
POINTS = (
    "after read",
    *BEFORE_STATEMENT,
    "before cursor",
    "before commit",
    "after commit",
    "before trim",
)


def die(*_: object, **__: object) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def dying_after(act: Callable[..., Any]) -> Callable[..., Any]:
    """Do something, and die before anybody learns what came of it."""

    def done(*arguments: Any, **named: Any) -> Any:
        act(*arguments, **named)
        die()

    return done


def arrange(point: str, stream: RedisStream, rows: PostgresArchive) -> None:
    """Let this process die when it reaches a point."""
    made: Any = stream
    opened: Any = rows
    in_archive: Any = archive_module
    in_inserts: Any = inserts
    if point == "after read":
        made.read = dying_after(stream.read)
    elif point in BEFORE_STATEMENT:
        ask = in_inserts.statement

        def statement(name: str) -> Any:
            return die() if name == BEFORE_STATEMENT[point] else ask(name)

        in_inserts.statement = statement
    elif point == "before cursor":
        in_archive.write_batch = die
    elif point == "before commit":
        in_archive.write_batch = dying_after(cursors.write_batch)
    elif point == "after commit":
        opened.store = dying_after(rows.store)
    elif point == "before trim":
        made.note_stored = die
    else:
        raise ValueError(point)


def main() -> None:
    redis_url, postgres_url, shard, point = sys.argv[1:]
    with (
        closing(RedisStream.from_url(redis_url, 1)) as stream,
        closing(PostgresArchive(postgres_url)) as rows,
    ):
        arrange(point, stream, rows)
        drain(stream, rows, int(shard), limits=LIMITS)


if __name__ == "__main__":
    main()
