"""A ledger that 64 connections charge, with a worker of its own, to lay hands on."""

import os
import signal
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg.conninfo import conninfo_to_dict
from redis import Redis

from durable import database
from faregate import Settings
from faregate.adapters.redis import keys
from faregate.adapters.redis.stream import RedisStream
from faregate.adapters.redis.values import Account
from faregate.cli.servers import Binaries, EmbeddedServers
from faregate_worker import check
from live_load import GRANTED, Callers
from own_redis import OwnRedis, own_redis
from processes import process_state, runs
from servers import administer, database_like
from waiting import WAIT_S_MAX, wait_for
from wire_client import free_port
from worker_process import System, children

#: 64 callers who come so often leave time for all else on a small machine.
PAUSE_S = 0.4
#: As production has it, but that a replica gets all at once.
OPTIONS = ("--appendonly", "yes", "--maxmemory", "1gb", "--repl-diskless-sync-delay", "0")
STARTING = 3
#: How many users nobody charges any more.
QUIET = 4


@dataclass(slots=True)
class Busy:
    """The ledger, and what an attacker or an accident has at hand."""

    system: System
    servers: EmbeddedServers
    redis: OwnRedis
    #: Each user has a shard of its own.
    callers: Callers
    #: Users who were charged once.
    quiet: Sequence[UUID]
    #: What users got or lost beside what they were granted and charged.
    given: defaultdict[UUID, int] = field(default_factory=lambda: defaultdict(int))
    process: subprocess.Popen[bytes] | None = None

    @property
    def settings(self) -> Settings:
        return self.system.settings

    @property
    def settings_of_worker(self) -> Settings:
        return self.settings.model_copy(update={"queue_url": self.system.queue_url})

    @property
    def users(self) -> Sequence[UUID]:
        return self.callers.users

    @property
    def client(self) -> Any:
        """A connection to Redis, whichever server that is now."""
        return Redis.from_url(self.system.redis_url, socket_timeout=WAIT_S_MAX)

    def sql(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        """Run a statement as superuser."""
        with database(self.system.database_url) as tables:
            return tables.run(statement, *parameters)

    def forge(self, statement: str, *parameters: object) -> None:
        """Run a statement behind the guards of the tables; it changes something."""
        with database(self.system.database_url) as tables:
            tables.run("set session_replication_role = replica")
            assert tables.run(f"{statement} returning 1", *parameters)

    def rows(self, user_id: UUID) -> list[dict[str, Any]]:
        """The rows of a user in order."""
        with database(self.system.database_url) as tables:
            return tables.rows(user_id)

    def account(self, user_id: UUID) -> Account:
        with self.client as client:
            return Account.unpack(client.get(keys.account(user_id, self.settings.shard_count)))

    def alter(self, user_id: UUID, amount: int) -> None:
        """Add to the live balance past the scripts, and let rows show it."""
        name = keys.account(user_id, self.settings.shard_count)
        with self.callers.paused(), self.client as client:
            before = self.account(user_id)
            client.set(name, replace(before, credits=before.credits + amount).pack())
            assert self.account(user_id).credits == before.credits + amount
        self.wait_for_rows([user_id])

    def stream(self, user_id: UUID) -> bytes:
        """The stream of a user's shard."""
        count = self.settings.shard_count
        return keys.shards(count)[keys.shard_of(user_id, count)].stream

    def pending(self) -> int:
        with closing(RedisStream.from_url(self.system.redis_url, self.settings.shard_count)) as one:
            return one.pending_count()

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Let nobody charge during the block, at whose beginning all records are rows."""
        with self.callers.paused():
            wait_for(lambda: not self.pending(), "all records are rows")
            yield

    def wait_for_rows(self, users: Sequence[UUID], more: int = 2) -> None:
        """Wait until each user was charged again, and that is rows."""
        query = "select id, credits_sequence from public.profiles where id = any(%s)"

        def reached() -> dict[UUID, int]:
            return {one["id"]: one["credits_sequence"] for one in self.sql(query, list(users))}

        before = {user_id: self.account(user_id).sequence for user_id in users}
        wait_for(
            lambda: all(number >= before[one] + more for one, number in reached().items()),
            "rows of all",
        )

    def start_worker(self) -> None:
        """Start a worker, and wait until it is registered and sends heartbeats."""
        assert self.process is None
        self.process = self.system.start("faregate_worker")
        wait_for(lambda: not _missing(check.problems(self.settings_of_worker)), "a worker runs")

    def kill_worker(self) -> None:
        """End the worker with all that it started."""
        assert self.process
        pids = self.worker_pids()
        _send(signal.SIGKILL, pids)
        self.process.wait(WAIT_S_MAX)
        wait_for(lambda: not any(map(runs, pids)), "the worker is dead")
        self.process = None

    def stop_worker(self) -> None:
        """Stop the worker, and then all that it started."""
        for _ in range(2):
            _send(signal.SIGSTOP, self.worker_pids())
            wait_for(lambda: {*map(process_state, self.worker_pids())} == {"T"}, "it is stopped")

    def worker_pids(self) -> list[int]:
        """The worker, its ticker, and its job."""
        assert self.process
        number = self.process.pid
        return [number, *children(number, ticker=True), *children(number, ticker=False)]

    def copy_database(self) -> str:
        """Back the database up; return the name of its copy."""
        name = f"copy_{self._name}"
        with self.settled(), self._disconnected():
            administer(
                self.servers,
                "CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy",
                name,
                self._name,
            )
        return name

    def restore_database(self, copy: str) -> None:
        """Go on from a copy, which lacks rows."""
        assert self._row_count(copy) < self._row_count(self._name)
        with self._disconnected():
            administer(self.servers, "DROP DATABASE {} WITH (FORCE)", self._name)
            administer(self.servers, "ALTER DATABASE {} RENAME TO {}", copy, self._name)

    def _row_count(self, name: str) -> int:
        with database(self.servers.postgres.database_url(name)) as tables:
            (row,) = tables.run("select count(*) as number from public.credit_transactions")
        return int(row["number"])

    @contextmanager
    def _disconnected(self) -> Iterator[None]:
        """Keep everybody away from the database, and the worker killed."""
        self.kill_worker()
        administer(self.servers, "ALTER DATABASE {} ALLOW_CONNECTIONS false", self._name)
        with database(self.servers.postgres_url) as admin:
            query = "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s"
            wait_for(lambda: not admin.run(query, self._name), "nobody is connected")
        yield
        administer(self.servers, "ALTER DATABASE {} ALLOW_CONNECTIONS true", self._name)
        self.start_worker()

    @property
    def _name(self) -> str:
        return str(conninfo_to_dict(self.system.database_url)["dbname"])

    def move_to(self, redis: OwnRedis) -> None:
        """Let everybody who connects from now on find another Redis in the place of the first."""
        self.redis = redis
        place = Path(self.system.redis_url.removeprefix("unix://"))
        place.unlink(missing_ok=True)
        place.symlink_to(redis.folder / "s")

    def check_payments(self) -> None:
        """Each charge that was allowed was paid once, in Redis and in Postgres."""
        with self.settled():
            query = "select id, credits from public.profiles where id = any(%s)"
            durable = {one["id"]: one["credits"] for one in self.sql(query, list(self.users))}
            for user_id in self.users:
                paid = STARTING + GRANTED - self.callers.allowed[user_id]
                assert durable[user_id] == paid + self.given[user_id]
                assert self.account(user_id).credits == durable[user_id]


def _send(number: int, pids: Sequence[int]) -> None:
    """Send a signal to processes of ours; a job may have ended meanwhile."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _missing(problems: Sequence[str]) -> bool:
    return any("no worker" in problem for problem in problems)


@contextmanager
def busy_ledger(binaries: Binaries, servers: EmbeddedServers, template: str) -> Iterator[Busy]:
    """Charge users and make rows of it during the block."""
    options = *OPTIONS, "--port", str(free_port())
    with (
        tempfile.TemporaryDirectory(prefix="fg-busy-") as name,
        own_redis(binaries.redis, *options) as redis,
        database_like(servers, template) as url,
    ):
        folder = Path(name)
        system = System(
            redis_url=f"unix://{folder}/s", database_url=url, log=folder / "log", seconds_max=5
        )
        count = system.settings.shard_count
        with database(url) as tables:
            users = {keys.shard_of(one.user_id, count): one.user_id for one in tables.users(200)}
        everybody = list(users.values())
        busy, quiet = everybody[: count - QUIET], everybody[count - QUIET :]
        callers = Callers(system.redis_url, url, busy, count, pause_s=PAUSE_S)
        made = Busy(system, servers, redis, callers, quiet)
        made.move_to(redis)
        system.charge(quiet)
        made.start_worker()
        try:
            with callers.running():
                yield made
        finally:
            made.kill_worker()
            # It may be another one by now.
            made.redis.kill()
