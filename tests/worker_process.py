"""A worker in a process of its own beside a ledger, for tests that stop and kill it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psycopg
from redis import Redis

from faregate import Settings, open_gate
from faregate.bootstrap import open_archive, open_stream
from faregate.config import QUEUE_NAME
from faregate_worker.drain import DrainLimits, drain
from faregate_worker.runtime import open_queue
from faregate_worker.ticker import JOB
from processes import runs
from waiting import WAIT_S_MAX

TICK_MS = 50
#: The machine may be busy with whatever else runs.
DECISION_TIMEOUT_MS = 10_000
USERS = [UUID(int=number << 64 | number) for number in range(1, 49)]
#: A starting row and two deducts each.
ROWS = 3 * len(USERS)


def children(pid: int, *, ticker: bool) -> list[int]:
    """The running children of a worker: its ticker, or the processes of its jobs."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
            command = (path / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        is_ticker = b"faregate_worker.ticker" in command
        if parent == pid and is_ticker == ticker and runs(int(path.name)):
            found.append(int(path.name))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A ledger and everything that a worker needs to know of it."""

    redis_url: str
    database_url: str
    log: Path
    #: How long one job goes on.
    seconds_max: int = 30
    #: Where it serves metrics; 0 for nowhere.
    metrics_port: int = 0
    log_format: str = "text"
    #: How often it compares numbers, in seconds; 0 for never.
    reconcile_interval_s: int = 0
    #: A queue that lives elsewhere.
    other_queue_url: str = ""

    @property
    def queue_url(self) -> str:
        """Another database of the same Redis, which may be flushed, or the queue elsewhere."""
        if self.other_queue_url:
            return self.other_queue_url
        mark = "&" if "?" in self.redis_url else "?"
        return f"{self.redis_url}{mark}db=1"

    @property
    def settings(self) -> Settings:
        return Settings(
            redis_url=self.redis_url,
            postgres_url=self.database_url,
            provision_users=True,
            decision_timeout_ms=DECISION_TIMEOUT_MS,
        )

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "FAREGATE_REDIS_URL": self.redis_url,
            "FAREGATE_QUEUE_URL": self.queue_url,
            "FAREGATE_DRAIN_S_MAX": str(self.seconds_max),
            "FAREGATE_POSTGRES_URL": self.database_url,
            "FAREGATE_TICK_INTERVAL_MS": str(TICK_MS),
            "FAREGATE_DECISION_TIMEOUT_MS": str(DECISION_TIMEOUT_MS),
            "FAREGATE_METRICS_PORT": str(self.metrics_port),
            "FAREGATE_LOG_FORMAT": self.log_format,
            "FAREGATE_RECONCILE_INTERVAL_S": str(self.reconcile_interval_s),
        }

    def charge(self, users: Sequence[UUID] = USERS) -> None:
        """Charge every user twice; the first sight of each also makes its starting row."""

        async def charge_all() -> None:
            async with open_gate(self.settings) as gate:
                for user in users:
                    for _ in range(2):
                        assert (await gate.charge(user)).allowed

        asyncio.run(charge_all())

    def rows(self) -> int:
        with psycopg.connect(self.database_url) as connection:
            row = connection.execute("SELECT count(*) FROM public.credit_transactions").fetchone()
        assert row is not None
        return int(row[0])

    def pending(self) -> int:
        with open_stream(self.settings) as stream:
            return stream.pending_count()

    def drained(self) -> bool:
        """Whether nothing is pending; asked before the rows are counted, never after."""
        return self.pending() == 0

    def drain(self) -> None:
        """Make rows of all records in this process, where a worker is not what is tested."""
        limits = DrainLimits(batch_size_max=1_000, seconds_max=WAIT_S_MAX)
        with open_stream(self.settings) as stream, open_archive(self.settings) as archive:
            for shard in range(self.settings.shard_count):
                drain(stream, archive, shard, limits=limits)

    def queued(self) -> list[str]:
        """The ids of the jobs that no worker has taken yet."""
        with Redis.from_url(self.queue_url) as redis:
            return [job_id.decode() for job_id in redis.lrange(f"rq:queue:{QUEUE_NAME}", 0, -1)]

    def enqueue(self, count: int) -> None:
        """Enqueue jobs, as many as nobody needs."""
        queue = open_queue(self.queue_url, socket_timeout_s=WAIT_S_MAX)
        for _ in range(count):
            queue.enqueue(JOB, 2.0, result_ttl=0)
        queue.connection.close()

    def is_storing(self) -> bool:
        """Whether a drain waits for a lock in the middle of a batch."""
        query = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'faregate drain' AND wait_event_type = 'Lock'"
        )
        with psycopg.connect(self.database_url) as connection:
            row = connection.execute(query).fetchone()
        return row is not None and row[0] > 0

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *arguments], env=self.environment, stdout=log, stderr=log
            )

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run a worker; leaving the block kills it, with all that it started, if it still runs."""
        process = self.start("faregate_worker")
        try:
            yield process
        finally:
            process.kill()
            process.wait(WAIT_S_MAX)

    def check(self) -> int:
        """The exit status of the health check."""
        return self.start("faregate_worker", "--check").wait(WAIT_S_MAX)

    @contextmanager
    def rows_locked(self) -> Iterator[None]:
        """Keep every drain waiting in the middle of its job."""
        with psycopg.connect(self.database_url) as connection:
            connection.execute("LOCK TABLE public.credit_transactions IN ACCESS EXCLUSIVE MODE")
            yield
            connection.rollback()
