"""Redis is stopped under load: who is refused, who is served, and that nobody pays for a 503."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from uuid import UUID, uuid4

import psycopg
import pytest

from faregate import Settings, open_gate
from faregate.bootstrap import open_audit, open_stream
from faregate.cli.http_client import HttpConnection
from faregate.cli.servers import Binaries
from faregate.ops.reconcile import reconcile
from wire_client import WAIT_S_MAX, Api, api_on, fresh_ledger, wait_for
from worker_process import System

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

#: So few, with such a pause and timeout, that an API on a busy machine has time left: without it
#: Redis seems not to answer, though it does.
CONNECTIONS = 16
PAUSE_S = 0.01
DECISION_TIMEOUT_MS = 200
CREDITS = 100_000
#: How long Redis is stopped, in seconds.
STOPPED_S = 3.0


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as its client saw it."""

    user: UUID
    path: str
    status: int
    began_s: float
    took_ms: float


class Load:
    """All requests so far, and whether there are to be more."""

    def __init__(self, users: Sequence[UUID]) -> None:
        self.seen: list[Asked] = []
        self.is_over = False
        #: When the last request of each user began that was served.
        self._served_s = dict.fromkeys(users, 0.0)
        self._is_told = asyncio.Event()

    def tell(self, asked: Asked) -> None:
        """Note a request."""
        self.seen.append(asked)
        if asked.status == 200:
            self._served_s[asked.user] = asked.began_s
            self._is_told.set()

    async def until_all_are_served(self, since_s: float) -> None:
        """Wait until each user was served once more, however slow the machine is."""
        async with asyncio.timeout(WAIT_S_MAX):
            while min(self._served_s.values()) <= since_s:
                self._is_told.clear()
                await self._is_told.wait()


async def ask_all(api: Api, users: Sequence[UUID], load: Load) -> None:
    """Ask again and again, each user on a connection of its own; every other one is served open."""

    async def ask(number: int, user: UUID) -> None:
        path = "/open" if number % 2 else "/anything"
        async with HttpConnection("127.0.0.1", api.port) as connection:
            while not load.is_over:
                began_s = time.monotonic()
                answer = await connection.get(path, {"x-user": str(user)})
                took_ms = (time.monotonic() - began_s) * 1_000
                load.tell(Asked(user, path, answer.status, began_s, took_ms))
                await asyncio.sleep(PAUSE_S)

    async with asyncio.TaskGroup() as group:
        for number, user in enumerate(users):
            group.create_task(ask(number, user))


async def stop_and_go_on(pid: int, load: Load) -> tuple[float, float]:
    """Stop Redis for a while, all users being served before and after; return from when to when."""
    await load.until_all_are_served(0)
    os.kill(pid, signal.SIGSTOP)
    began_s = time.monotonic()
    try:
        await asyncio.sleep(STOPPED_S)
        ended_s = time.monotonic()
    finally:
        os.kill(pid, signal.SIGCONT)
    await load.until_all_are_served(ended_s)
    load.is_over = True
    return began_s, ended_s


async def grant(settings: Settings, users: Sequence[UUID]) -> None:
    patient = settings.model_copy(update={"decision_timeout_ms": 10_000, "provision_users": True})
    async with open_gate(patient) as gate:
        for user in users:
            assert (await gate.grant(user, CREDITS)).allowed


def spent(settings: Settings) -> dict[UUID, int]:
    """What the rows say that each user was charged."""
    query = (
        "select user_id, -sum(amount) from public.credit_transactions"
        " where type in ('deduct', 'refund') group by user_id"
    )
    with psycopg.connect(settings.postgres_url) as connection:
        return {user: int(total) for user, total in connection.execute(query)}


def p99(values: Sequence[float]) -> float:
    return quantiles(values, n=100)[98] if len(values) > 1 else sum(values)


def report(seen: Sequence[Asked], inside: Sequence[dict[str, int | str]]) -> str:
    """What was waited for, and what was answered, while Redis was stopped."""
    lines = []
    for path in ("/anything", "/open"):
        mine = [asked for asked in seen if asked.path == path]
        counts = Counter(asked.status for asked in mine)
        lines.append(f"{path}: {dict(counts)}, p99 {p99([asked.took_ms for asked in mine]):.1f} ms")
    for state in ("closed", "open", "half_open"):
        spent_us = [int(each["spent_us"]) for each in inside if each["breaker"] == state]
        if spent_us:
            told = f"{len(spent_us)} requests, p99 {p99(spent_us) / 1_000:.3f} ms inside the gate"
            lines.append(f"breaker {state}: {told}")
    return "\n".join(lines)


def test_an_outage_refuses_or_serves_at_once_and_charges_nobody_wrongly(
    binaries: Binaries, tmp_path: Path
) -> None:
    """Counts and times are printed; what is asserted is who was served, and who paid."""
    users = [uuid4() for _ in range(CONNECTIONS)]
    journals = tmp_path / "journals"
    journals.mkdir()
    with fresh_ledger(binaries) as (servers, settings):
        asyncio.run(grant(settings, users))
        with api_on(
            "uvicorn",
            settings,
            tmp_path / "api.log",
            FAREGATE_JOURNAL_DIR=str(journals),
            FAREGATE_DECISION_TIMEOUT_MS=str(DECISION_TIMEOUT_MS),
        ) as api:
            seen, (began_s, ended_s) = asyncio.run(play(api, users, servers.redis.pid))
            inside = api.ask("/inside").json()
            wait_for(lambda: api.ask("/retries").json() == 0, "voids are made")
            health = api.ask("/health").json()
        stopped = [
            asked
            for asked in seen
            if began_s < asked.began_s and asked.began_s + asked.took_ms / 1_000 < ended_s
        ]
        sys.stdout.write("\n" + report(stopped, inside) + f"\n{health}\n")
        check_answers(seen, stopped)
        assert health["breaker_opened"] >= 1
        assert health["served_open"] > 0
        import_journals(settings, journals)
        check_ledger(settings, tmp_path, seen)


async def play(
    api: Api, users: Sequence[UUID], pid: int
) -> tuple[list[Asked], tuple[float, float]]:
    load = Load(users)
    async with asyncio.TaskGroup() as group:
        stop = group.create_task(stop_and_go_on(pid, load))
        group.create_task(ask_all(api, users, load))
    return load.seen, stop.result()


def check_answers(seen: Sequence[Asked], stopped: Sequence[Asked]) -> None:
    """Closed routes refuse and open ones serve; afterwards all is well without a restart."""
    assert {asked.status for asked in seen} == {200, 503}
    assert {asked.status for asked in seen if asked.path == "/open"} == {200}
    assert {asked.status for asked in stopped if asked.path == "/anything"} == {503}


def import_journals(settings: Settings, journals: Path) -> None:
    """Charge what was served without a decision, as an operator does."""
    files = sorted(journals.iterdir())
    assert files
    done = subprocess.run(
        [sys.executable, "-m", "faregate.cli", "journal", "import", *map(str, files), "--json"],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "FAREGATE_REDIS_URL": settings.redis_url,
            "FAREGATE_POSTGRES_URL": settings.postgres_url,
            "FAREGATE_DECISION_TIMEOUT_MS": "10000",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    sys.stdout.write(done.stdout)


def check_ledger(settings: Settings, tmp_path: Path, seen: Sequence[Asked]) -> None:
    """In Postgres each user has paid for what its client was served, and for nothing else."""
    system = System(
        redis_url=settings.redis_url,
        database_url=settings.postgres_url,
        log=tmp_path / "worker.log",
    )
    with system.worker():
        wait_for(system.drained, "everything is drained")
    served = Counter(asked.user for asked in seen if asked.status == 200)
    assert spent(settings) == dict(served)
    with open_stream(settings) as stream, open_audit(settings) as audit:
        assert reconcile(stream, stream, audit).is_exact
