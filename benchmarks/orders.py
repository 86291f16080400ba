"""`python -m benchmarks.orders`: how long credits that SQL has ordered take to be usable.

Single ones at random moments, then many at once, with one worker on Debian's redis-server and
PostgreSQL. Credits are usable once the live balance has them.
"""

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from uuid import UUID, uuid4

import psycopg

from benchmarks.errors import BenchError
from benchmarks.reconcile import binaries
from benchmarks.records import SEED
from faregate import Settings, open_gate
from faregate.adapters.postgres.migrations import Migrator
from faregate.adapters.redis.stream import RedisStream
from faregate.bootstrap import open_orders, open_stream
from faregate.cli.servers import EmbeddedServers

SINGLE, MANY, USERS = 50, 10_000, 1_000
_POLL_S, _WAIT_S_MAX = 0.002, 120.0
_ADD_ONE = "select faregate.add_credits(%s, 1)"
_ADD_MANY = "select faregate.add_credits(id, 1) from auth.users, generate_series(1, %s)"


@contextmanager
def worker(settings: Settings) -> Iterator[None]:
    """Run a worker."""
    urls = {
        "FAREGATE_REDIS_URL": settings.redis_url,
        "FAREGATE_POSTGRES_URL": settings.postgres_url,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-m", "faregate_worker"]
    process = subprocess.Popen(command, env=os.environ | urls, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def seconds_until(condition: Callable[[], bool]) -> float:
    """Wait until something is so; return how long that took.

    Raises:
        BenchError: It never was.
    """
    began = time.perf_counter()
    while not condition():
        if time.perf_counter() - began > _WAIT_S_MAX:
            raise BenchError("orders are not made")
        time.sleep(_POLL_S)
    return time.perf_counter() - began


def measure(connection: psycopg.Connection, settings: Settings, stream: RedisStream) -> None:
    """Order, wait, and print."""
    users = [uuid4() for _ in range(USERS)]
    connection.execute("insert into auth.users (id) select unnest(%s::uuid[])", [users])

    def credits_of(asked: list[UUID]) -> int:
        return sum(user.credits for user in stream.read_many(asked).values())

    connection.execute(_ADD_ONE, [users[0]])
    seconds_until(lambda: credits_of(users[:1]) > 0)
    draw, waits = random.Random(SEED), []  # noqa: S311 - no secret.
    for user_id in users[:SINGLE]:
        time.sleep(draw.uniform(0, 0.5))
        before = credits_of([user_id])
        connection.execute(_ADD_ONE, [user_id])
        waits.append(seconds_until(lambda: credits_of([user_id]) > before))  # noqa: B023
    waits.sort()
    print(f"{SINGLE} single orders, usable after: median {1e3 * median(waits):.0f} ms,", end=" ")
    print(f"90 % {1e3 * waits[SINGLE * 9 // 10]:.0f} ms, at most {1e3 * waits[-1]:.0f} ms")

    start = settings.starting_credits * USERS + SINGLE + 1
    began = time.perf_counter()
    connection.execute(_ADD_MANY, [MANY // USERS])
    ordered = time.perf_counter() - began
    usable = seconds_until(lambda: credits_of(users) == start + MANY)
    with open_orders(settings) as orders:
        rows = usable + seconds_until(lambda: not orders.counts().waiting)
    print(f"{MANY:,} orders at once: ordered in {ordered:.1f} s, then all usable after", end=" ")
    print(f"{usable:.1f} s and rows after {rows:.1f} s")


def main() -> None:
    """Measure on empty servers."""
    with EmbeddedServers(binaries=binaries()) as servers:
        settings = Settings(redis_url=servers.redis_url, postgres_url=servers.postgres_url)
        Migrator(settings.postgres_url).apply()

        async def begin() -> None:
            async with open_gate(settings) as gate:
                await gate.balance(uuid4())

        asyncio.run(begin())
        with (
            worker(settings),
            psycopg.connect(settings.postgres_url, autocommit=True) as connection,
            open_stream(settings) as stream,
        ):
            measure(connection, settings, stream)


if __name__ == "__main__":
    main()
