"""`python -m benchmarks.reconcile`: how long reconcile, verify and rebuild take, with what memory.

For ledgers of several sizes, on Debian's redis-server and PostgreSQL: each user has five rows, and
some records are pending. The commands run as operators run them, each as a process of its own.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import md5
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from redis import Redis

from benchmarks.errors import BenchError
from benchmarks.records import CREDITS, SEED, SHARDS, Made, charge
from benchmarks.servers import redis_program
from faregate import Settings
from faregate.adapters.postgres.migrations import Migrator
from faregate.adapters.postgres.queries import with_leaf
from faregate.adapters.redis import keys
from faregate.adapters.redis.values import Account, ShardState
from faregate.bootstrap import open_audit
from faregate.cli.servers import Binaries, EmbeddedServers

SIZES = 10_000, 100_000, 1_000_000
ROWS, PENDING = 5, 300_000
#: The last one begins with an empty Redis.
COMMANDS = "reconcile", "verify", "rebuild --all-users"
_POSTGRES = Path("/usr/lib/postgresql")
_LOAD = Path(__file__).with_suffix(".sql")
_PAGE = 10_000
_POLL_S = 0.02


def binaries() -> Binaries:
    """Return Debian's servers."""
    found = sorted(_POSTGRES.glob("*/bin/postgres"))
    if not found:
        raise BenchError("PostgreSQL is missing; on Debian and Ubuntu: apt-get install postgresql")
    return Binaries(redis=redis_program(), postgres=found[-1].parent)


@contextmanager
def ledger(servers: EmbeddedServers, users: int) -> Iterator[Settings]:
    """Make a ledger of so many users, and delete it at the end."""
    with psycopg.connect(servers.postgres_url, autocommit=True) as admin:
        admin.execute("create database bench_reconcile")
    url = servers.postgres.database_url("bench_reconcile")
    settings = Settings(redis_url=servers.redis_url, postgres_url=url, starting_credits=CREDITS)
    Migrator(url).apply(starting_credits=CREDITS, shard_count=SHARDS)
    fill_postgres(url, users)
    fill_redis(settings, users)
    yield settings
    with psycopg.connect(servers.postgres_url, autocommit=True) as admin:
        admin.execute("drop database bench_reconcile with (force)")
    with Redis.from_url(servers.redis_url) as redis:
        redis.flushall()


def fill_postgres(url: str, users: int) -> None:
    """Write users, rows and batches."""
    with psycopg.connect(url, autocommit=True) as connection:
        for name, number in (("users", users), ("rows", ROWS), ("credits", CREDITS)):
            connection.execute(f"set bench.{name} = {number}".encode())
        for statement in with_leaf(_LOAD.read_text(encoding="utf-8")).split(";\n\n"):
            connection.execute(statement.encode())


def fill_redis(settings: Settings, users: int) -> None:
    """Write accounts, and pending records behind the entry at each cursor."""
    ids = [UUID(bytes=md5(str(n).encode()).digest()) for n in range(1, users + 1)]  # noqa: S324
    made, chance = Made(ids), random.Random(SEED)  # noqa: S311
    with open_audit(settings) as audit, Redis.from_url(settings.redis_url) as redis:
        cursors = audit.cursors()
        stored = [cursors[shard].ordinal for shard in range(SHARDS)]
        made.counts = list(stored)
        pending = charge(made, islice(cycle(ids), PENDING), chance, rows=ROWS)
        for shard in keys.shards(SHARDS):
            pipe, count = redis.pipeline(transaction=False), made.counts[shard.number]
            pipe.xadd(shard.stream, {"r": b"stored"}, id="1-1")
            for payload in made.entries[shard.number]:
                pipe.xadd(shard.stream, {"r": payload})
            state = ShardState(epoch=1, ordinal=count, stored=stored[shard.number])
            pipe.set(shard.state, state.pack())
            pipe.execute()
        for start in range(0, users, _PAGE):
            pipe = redis.pipeline(transaction=False)
            for user_id in ids[start : start + _PAGE]:
                more = pending[user_id]
                account = Account(credits=CREDITS - ROWS + 1 - more, sequence=ROWS + more)
                pipe.set(keys.account(user_id, SHARDS), account.pack())
            pipe.execute()
        redis.hset(keys.ledger(SHARDS), mapping=dict(audit.identity().identity_fields))


def measure(settings: Settings, command: str) -> tuple[float, int, dict[str, Any]]:
    """Run a command; return its seconds, its peak memory in MB, and what it printed."""
    environment = os.environ | {
        "FAREGATE_REDIS_URL": settings.redis_url,
        "FAREGATE_POSTGRES_URL": settings.postgres_url,
        "FAREGATE_SHARD_COUNT": str(SHARDS),
    }
    started, peak_kb = time.perf_counter(), 0
    words = [sys.executable, "-m", "faregate.cli", *command.split(), "--json"]
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(words, env=environment, stdout=output) as process,
    ):
        # What wait4 tells begins with the memory of the process that forked.
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            found = re.search(r"VmHWM:\s+(\d+)", status.read_text(encoding="utf-8"))
            peak_kb = max(peak_kb, int(found[1])) if found else peak_kb
            time.sleep(_POLL_S)
        output.seek(0)
        told = output.read()
    if process.returncode not in {0, 1}:
        raise BenchError(f"faregate {command} exited with {process.returncode}")
    return time.perf_counter() - started, peak_kb // 1_024, json.loads(told)


def run(settings: Settings, command: str, users: int) -> bool:
    """Run a command and print its figures; return whether it found all to be as it should be."""
    if command.startswith("rebuild"):
        with Redis.from_url(settings.redis_url) as redis:
            redis.flushall()
    seconds, megabytes, told = measure(settings, command)
    findings = told.get("findings", [])
    print(
        f"{users:>9,} users  {command:<19} {seconds:6.1f} s  {megabytes:>5} MB"
        f"  {len(findings)} findings",
        flush=True,
    )
    return not findings and told.get("installed", users) == users


def main(arguments: Sequence[str]) -> int:
    """Run; return the exit status: 1 where a ledger is not exact."""
    parser = argparse.ArgumentParser(prog="make bench-reconcile")
    parser.add_argument("--users", type=int, nargs="+", default=SIZES)
    parser.add_argument("--commands", nargs="+", default=COMMANDS)
    given = parser.parse_args(arguments)
    exact = True
    with EmbeddedServers(binaries=binaries()) as servers:
        for users in given.users:
            with ledger(servers, users) as settings:
                for command in given.commands:
                    exact &= run(settings, command, users)
    return 0 if exact else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
