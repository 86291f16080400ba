"""Outages under load: what was served open is charged once, to the credit, whoever is killed."""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from e2e.clients import Client, chance
from faregate import Settings, open_gate
from faregate.adapters.journal.reader import find_journals
from faregate.adapters.postgres.migrations import Migrator
from faregate.bootstrap import open_audit, open_stream
from faregate.cli.servers import EmbeddedValkey
from faregate.ops.reconcile import reconcile, verify
from journals import entries_in
from processes import stopped
from waiting import WAIT_S_MAX, until, wait_for
from worker_process import USERS, System

pytestmark = pytest.mark.long

PROCESS = Path(__file__).parents[1] / "outage_process.py"
STARTING_CREDITS = 100_000
OUTAGES = 3
#: So few, and each so slow, that a busy machine decides in time while all is well.
CLIENTS, PAUSE_S = 12, 0.05
KILLS = 3
#: How many requests an import is made beside, at most, so that it has an end on a slow machine.
REQUESTS_BESIDE_IMPORT = 1_000


@pytest.fixture
def system(own_redis: EmbeddedValkey, empty_database_url: str, tmp_path: Path) -> System:
    """A ledger on a Redis of its own."""
    Migrator(empty_database_url).apply(starting_credits=STARTING_CREDITS)
    return System(
        redis_url=own_redis.url,
        database_url=empty_database_url,
        log=tmp_path / "worker.log",
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journals"


def settings_of(system: System, folder: Path, **rest: object) -> Settings:
    given = {"starting_credits": STARTING_CREDITS, "journal_dir": str(folder), **rest}
    return system.settings.model_copy(update=given)


def environment(system: System, folder: Path) -> dict[str, str]:
    return system.environment | {
        "FAREGATE_STARTING_CREDITS": str(STARTING_CREDITS),
        "FAREGATE_JOURNAL_DIR": str(folder),
        "FAREGATE_PROVISION_USERS": "true",
        "FAREGATE_DECISION_TIMEOUT_MS": "100",
    }


def start_import(system: System, folder: Path) -> "subprocess.Popen[str]":
    """Import as an operator does."""
    return subprocess.Popen(
        [sys.executable, "-m", "faregate.cli", "journal", "import", "--json"],
        env=environment(system, folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Wait for a process; return its exit status and what it has said."""
    with process:
        try:
            said, complained = process.communicate(timeout=WAIT_S_MAX)
        finally:
            process.kill()
    return process.returncode, said, complained


def balances(system: System) -> dict[UUID, int]:
    """Return the durable credits of all users."""
    with psycopg.connect(system.database_url) as connection:
        return dict(connection.execute("select id, credits from public.profiles").fetchall())


def row_ids(system: System) -> list[UUID]:
    with psycopg.connect(system.database_url) as connection:
        rows = connection.execute("select id from public.credit_transactions").fetchall()
    return [row_id for (row_id,) in rows]


def is_exact(system: System, settings: Settings) -> bool:
    """Reconcile and verify, as the commands do."""
    with open_stream(settings) as stream, open_audit(settings) as audit:
        result = reconcile(stream, stream, audit)
        assert result.findings == []
        assert verify(stream, stream, audit) == []
    return (result.pending_count, result.dead_letter_count) == (0, 0)


@dataclass(slots=True)
class Moments:
    """What the load and the imports wait for."""

    an_outage_is_over: asyncio.Event = field(default_factory=asyncio.Event)
    imported: asyncio.Event = field(default_factory=asyncio.Event)
    load_is_over: asyncio.Event = field(default_factory=asyncio.Event)


async def load(
    settings: Settings, clients: list[Client], redis: EmbeddedValkey, moments: Moments
) -> None:
    """Use the API all the time, while Redis stops and goes on."""

    async def use(client: Client) -> None:
        number = 0
        while not moments.load_is_over.is_set():
            number += 1
            await client.use(gate, number)
            await asyncio.sleep(PAUSE_S)

    def count(name: str) -> int:
        return sum(int(getattr(client, name)) for client in clients)

    async def go_on(name: str) -> None:
        """Wait until that has happened once more for each client, on average."""
        enough = count(name) + len(clients)
        await until(lambda: count(name) >= enough, name)

    async with open_gate(settings.model_copy(update={"decision_timeout_ms": 10_000})) as gate:
        # The first sight of a user takes longer than a decision.
        for client in clients:
            await gate.balance(client.user_id)
    async with open_gate(settings) as gate:
        using = [asyncio.create_task(use(client)) for client in clients]
        for _ in range(OUTAGES):
            await go_on("decided")
            with stopped(redis.pid):
                await go_on("served_open")
                await go_on("refused")
            moments.an_outage_is_over.set()
        # On a busy machine the import may be over only when the load is.
        enough = count("requests") + REQUESTS_BESIDE_IMPORT
        await until(lambda: moments.imported.is_set() or count("requests") > enough, "an import")
        await go_on("decided")
        moments.load_is_over.set()
        await asyncio.gather(*using)
        assert await gate.retries.join(WAIT_S_MAX)
        print(f"at the end: {gate.health()}")  # noqa: T201


async def test_after_outages_under_load_every_user_has_paid_for_its_responses(
    own_redis: EmbeddedValkey, system: System, folder: Path
) -> None:
    """Imported while the traffic flows, and again by two at once, with the worker draining."""
    clients = [Client(user_id, chance(n)) for n, user_id in enumerate(USERS[:CLIENTS])]
    settings = settings_of(system, folder, decision_timeout_ms=500)
    moments = Moments()
    with system.worker():
        async with asyncio.TaskGroup() as group:
            group.create_task(load(settings, clients, own_redis, moments))
            await moments.an_outage_is_over.wait()
            # It may meet the next outage: then it leaves what it has not done.
            early = await asyncio.to_thread(lambda: finished(start_import(system, folder)))
            moments.imported.set()
        pair = [start_import(system, folder) for _ in range(2)]
        outcomes = [await asyncio.to_thread(finished, process) for process in pair]
        last = await asyncio.to_thread(lambda: finished(start_import(system, folder)))
        assert last[0] == 0, last
        await asyncio.to_thread(wait_for, system.drained, "everything is drained")
    for status, said, complained in (early, *outcomes, last):
        assert status in {0, 3}, complained
        print(status, json.loads(said) if status == 0 else complained)  # noqa: T201
    assert find_journals([folder]) == []
    durable = balances(system)
    for client in clients:
        owed = sum(client.standing.values())
        assert STARTING_CREDITS - durable[client.user_id] == owed, client
    assert is_exact(system, settings)


def served_until_killed(
    system: System, folder: Path, redis: EmbeddedValkey, count: int
) -> set[str]:
    """Have a process serve while Redis is stopped, and kill it; return what it says it served."""
    process = subprocess.Popen(
        [sys.executable, str(PROCESS), "serve", str(2 * count)],
        env=environment(system, folder),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    with stopped(redis.pid):
        process.stdin.write("go on\n")
        process.stdin.flush()
        try:
            return {process.stdout.readline().strip() for _ in range(count)}
        finally:
            process.kill()
            process.communicate(timeout=WAIT_S_MAX)


def import_until_killed(system: System, folder: Path, steps: int) -> None:
    """Import, by a process that kills itself after so many entries."""
    command = [sys.executable, str(PROCESS), "import", str(steps)]
    done = subprocess.run(command, env=environment(system, folder), check=False, timeout=WAIT_S_MAX)
    assert done.returncode == -signal.SIGKILL


def test_processes_that_are_killed_and_imports_that_are_doubled_charge_once(
    system: System, folder: Path, own_redis: EmbeddedValkey
) -> None:
    """SIGKILL for the API, and for the import at random entries; then two at once, one of a copy.

    What was served is charged once, whether anybody was told of it or not; what was refused is not.
    """
    served = served_until_killed(system, folder, own_redis, 350)
    entries = list(entries_in(folder))
    assert served <= {str(entry.attempt_id) for entry in entries}
    with system.worker():
        for number in range(KILLS):
            import_until_killed(system, folder, chance(number).randint(1, 100))
        copy = folder.with_name("copy")
        shutil.copytree(folder, copy)
        pair = [start_import(system, place) for place in (folder, copy)]
        assert [finished(process)[0] for process in pair] == [0, 0]
        wait_for(system.drained, "everything is drained")
    rows = Counter(row_ids(system))
    assert {rows[entry.deduct_id.value] for entry in entries} == {1}
    durable = balances(system)
    for user_id in {entry.user_id for entry in entries}:
        owed = sum(entry.cost for entry in entries if entry.user_id == user_id)
        assert STARTING_CREDITS - durable[user_id] == owed
    assert is_exact(system, settings_of(system, folder))
