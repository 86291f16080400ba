"""`python -m benchmarks.drain`: how fast records become rows, beside a raw COPY of the same rows.

All in one run, on the same servers. Records lie in Redis before. The raw COPY goes into the same
table, with its indexes, checks and foreign key, as a superuser: no drain can be faster.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import psycopg
from redis import Redis

from benchmarks.records import CREDITS, LOADS, SHARDS, Load, Made, make
from benchmarks.servers import redis_program
from faregate import Settings, open_gate
from faregate.adapters.postgres.archive import PostgresArchive
from faregate.adapters.postgres.migrations import Migrator
from faregate.adapters.postgres.queries import statements
from faregate.adapters.redis import keys
from faregate.adapters.redis.lines import write_lines
from faregate.adapters.redis.stream import RedisStream
from faregate.adapters.redis.sweeper import RedisSweeper
from faregate.adapters.redis.values import ShardState
from faregate.cli.servers import Binaries, EmbeddedServers
from faregate.ports import ROW_COLUMNS
from faregate_worker.counts import Counts
from faregate_worker.runtime import Stop
from faregate_worker.work import Work, WorkLimits

BATCH_SIZE_MAX = 10_000
WAIT_S_MAX = 120.0
RATE_A_S, LATENCY_S, SETTLE_S = 50, 20.0, 5.0


@contextmanager
def ledger(servers: EmbeddedServers, made: Made) -> Iterator[Settings]:
    """Make a database with these users, and an empty Redis; drop the database at the end."""
    with psycopg.connect(servers.postgres_url, autocommit=True) as admin:
        admin.execute("drop database if exists bench_drain with (force)")
        admin.execute("create database bench_drain template bench_template")
    Redis.from_url(servers.redis_url).flushall()
    url = servers.postgres.database_url("bench_drain")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("insert into auth.users (id) select unnest(%s::uuid[])", [made.users])
        connection.execute("vacuum analyze")
        connection.execute("checkpoint")
    yield Settings(
        redis_url=servers.redis_url,
        postgres_url=url,
        starting_credits=CREDITS,
        decision_timeout_ms=10_000,
    )


async def attach(settings: Settings) -> None:
    """Let Redis be of this ledger."""
    async with open_gate(settings):
        pass


def fill(settings: Settings, made: Made) -> None:
    """Let Redis be of this ledger, and put the records into it, as pending ones."""
    asyncio.run(attach(settings))
    with Redis.from_url(settings.redis_url) as redis:
        for shard in keys.shards(SHARDS):
            pipe = redis.pipeline(transaction=False)
            for payload in made.entries[shard.number]:
                pipe.xadd(shard.stream, {"r": payload})
            pipe.set(shard.state, ShardState(epoch=1, ordinal=made.counts[shard.number]).pack())
            pipe.execute()


def copy_raw(settings: Settings, made: Made) -> float:
    """Copy the same rows straight into the table, and return how many seconds that takes."""
    lines: list[str] = []
    for entries in made.entries:
        for payload in entries:
            write_lines(payload, 0, lines)
    text = "".join(line.partition("\t")[2] for line in lines).encode()
    columns = ", ".join(ROW_COLUMNS[1:])
    with psycopg.connect(settings.postgres_url, autocommit=True) as connection:
        started = time.perf_counter()
        query = f"copy public.credit_transactions ({columns}) from stdin"
        with connection.cursor().copy(query.encode()) as copy:
            copy.write(text)
        return time.perf_counter() - started


def as_worker(settings: Settings) -> str:
    """Return the URL of the database in the role of the worker."""
    return psycopg.conninfo.make_conninfo(settings.postgres_url, options="-c role=faregate_worker")


def drain_here(settings: Settings, batch_size_max: int) -> float:
    """Drain in this process, and return how many seconds that takes."""
    with (
        closing(RedisStream.from_url(settings.redis_url, SHARDS)) as stream,
        closing(PostgresArchive(as_worker(settings))) as archive,
        closing(RedisSweeper.from_url(settings.redis_url, SHARDS)) as sweeper,
    ):
        stop = Stop()
        limits = WorkLimits(batch_size_max=batch_size_max, seconds_max=WAIT_S_MAX)
        wait = stream.wait

        def wait_or_stop(cursors: Any, seconds_max: float) -> Sequence[int]:
            if not stream.pending_count():
                stop.request()
                return ()
            return wait(cursors, seconds_max)

        stream.wait = wait_or_stop  # type: ignore[method-assign]
        started = time.perf_counter()
        work = Work(stream, archive, sweeper, limits=limits, counts=Counts(), stop=stop)
        work.run()
        return time.perf_counter() - started


@contextmanager
def worker(settings: Settings, log: Any = subprocess.DEVNULL) -> Iterator[None]:
    """Run the real worker."""
    environment = os.environ | {
        "FAREGATE_REDIS_URL": settings.redis_url,
        "FAREGATE_POSTGRES_URL": as_worker(settings),
        "FAREGATE_STARTING_CREDITS": str(CREDITS),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "faregate_worker"], env=environment, stdout=log, stderr=log
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(WAIT_S_MAX)


def drain_by_worker(settings: Settings, made: Made) -> float:
    """Let the real worker drain a backlog; return the seconds from its first commit, scaled."""
    total = sum(made.counts)
    with psycopg.connect(settings.postgres_url, autocommit=True) as connection:

        def stored() -> int:
            query = "select coalesce(sum(record_count), 0) from faregate.batches"
            return int(connection.execute(query).fetchall()[0][0])

        with worker(settings):
            ends_at = time.monotonic() + WAIT_S_MAX
            while not (first := stored()):
                time.sleep(0.005)
            started = time.perf_counter()
            while stored() < total and time.monotonic() < ends_at:
                time.sleep(0.02)
            return (time.perf_counter() - started) * total / (total - first)


def profile(settings: Settings, rows: int, batch_size_max: int) -> dict[str, float]:
    """Drain, and return how many microseconds a row each part takes."""
    names = {text: name for name, text in statements("queries.sql").items()}
    spent: defaultdict[str, float] = defaultdict(float)
    execute, write = psycopg.Cursor.execute, psycopg.Copy.__exit__

    def timed(name: Callable[..., str], act: Callable[..., Any]) -> Callable[..., Any]:
        def done(*given: Any, **named: Any) -> Any:
            started = time.perf_counter()
            try:
                return act(*given, **named)
            finally:
                spent[name(*given)] += time.perf_counter() - started

        return done

    parts: Any = psycopg
    parts.Cursor.execute = timed(lambda _, q, *__: names.get(q, "begin, commit"), execute)
    parts.Copy.__exit__ = timed(lambda *_: "copy_rows", write)
    reading: Any = RedisStream
    read, note = reading.read, reading.note_stored
    reading.read = timed(lambda *_: "read and encode (beside)", read)
    reading.note_stored = timed(lambda *_: "note_stored", note)
    storing: Any = PostgresArchive
    store = storing.store
    storing.store = timed(lambda *_: "store, all of it", store)
    try:
        spent["all"] = drain_here(settings, batch_size_max)
    finally:
        parts.Cursor.execute, parts.Copy.__exit__ = execute, write
        reading.read, reading.note_stored, storing.store = read, note, store
    return {
        name: round(1e6 * s / rows, 2) for name, s in sorted(spent.items(), key=lambda one: -one[1])
    }


def latencies(settings: Settings) -> list[float]:
    """Charge at a steady rate, and return how long each row takes to be visible, in ms."""
    waiting: dict[UUID, float] = {}
    seen: list[float] = []

    async def charge_all() -> None:
        users = [UUID(int=n << 64 | n) for n in range(1, 201)]
        async with open_gate(settings.model_copy(update={"provision_users": True})) as gate:
            for user in users:
                await gate.charge(user)
            await asyncio.sleep(3.0)
            looking = asyncio.create_task(look())
            began = time.perf_counter()
            for number in range(round(RATE_A_S * LATENCY_S)):
                await asyncio.sleep(began + number / RATE_A_S - time.perf_counter())
                decision = await gate.charge(users[number % len(users)])
                waiting[decision.transaction_id.value] = time.perf_counter()
            await asyncio.sleep(SETTLE_S)
            looking.cancel()
            assert not waiting, f"{len(waiting)} rows are missing"

    async def look() -> None:
        query = "select id from public.credit_transactions where id = any(%s)"
        async with await psycopg.AsyncConnection.connect(
            settings.postgres_url, autocommit=True
        ) as connection:
            while True:
                cursor = await connection.execute(query, [list(waiting)])
                now = time.perf_counter()
                for (found,) in await cursor.fetchall():
                    seen.append(1_000 * (now - waiting.pop(found)))
                await asyncio.sleep(0.004)

    with worker(settings):
        asyncio.run(charge_all())
    return seen


def measure(
    servers: EmbeddedServers, loads: Sequence[Load], rows: int, batch_size_max: int
) -> None:
    """Measure some loads once, and print what came of it."""
    for load in loads:
        made = make(load, rows)
        with ledger(servers, made) as settings:
            raw = copy_raw(settings, made)
        with ledger(servers, made) as settings:
            fill(settings, made)
            here = drain_here(settings, batch_size_max)
        with ledger(servers, made) as settings:
            fill(settings, made)
            real = drain_by_worker(settings, made)
        with ledger(servers, made) as settings:
            fill(settings, made)
            parts = profile(settings, rows, batch_size_max)
        told = {
            "raw COPY, rows/s": round(rows / raw),
            "drain, rows/s": round(rows / here),
            "drain / raw COPY": round(raw / here, 3),
            "worker / raw COPY": round(raw / real, 3),
            "microseconds a row": parts,
        }
        print(json.dumps({load.name: told}, indent=2), flush=True)


def main(arguments: Sequence[str]) -> int:
    """Run; return the exit status."""
    parser = argparse.ArgumentParser(prog="make bench-drain")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--load", type=int, choices=range(len(LOADS)), help="only one of them")
    parser.add_argument("--latency", action="store_true", help="only at 50 records a second")
    given = parser.parse_args(arguments)
    binaries = replace(Binaries.from_wheels(), redis=redis_program())
    with EmbeddedServers(binaries=binaries) as servers:
        with psycopg.connect(servers.postgres_url, autocommit=True) as admin:
            admin.execute("create database bench_template")
        template = servers.postgres.database_url("bench_template")
        Migrator(template).apply(starting_credits=CREDITS)
        loads = LOADS if given.load is None else LOADS[given.load :][:1]
        for _ in range(0 if given.latency else given.rounds):
            measure(servers, loads, given.rows, BATCH_SIZE_MAX)
        if given.load is None:
            with ledger(servers, Made([])) as settings:
                found = sorted(latencies(settings))
            p50, p99 = statistics.median(found), found[-(len(found) // 100) - 1]
            print(f"decision to visible row at {RATE_A_S}/s: p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
