"""A ledger in a cluster, and behind sentinels: exact while slots move and nodes come and go."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from cluster_rig import Cluster, running_cluster, slots_of
from commands import CommandLine
from e2e.replays import faregate, numbers, urls, write_log
from faregate import Gate, open_gate
from faregate.adapters.redis import keys
from faregate.bootstrap import open_audit, open_stream
from faregate.cli.servers import Binaries
from faregate.ops.reconcile import reconcile, verify
from payers import CREDITS, Payer, check_rows
from slot_moves import add_primary, move_slots, remove_primary
from waiting import WAIT_S_MAX, until
from worker_process import System

pytestmark = [pytest.mark.cluster, pytest.mark.redis, pytest.mark.postgres, pytest.mark.long]

USERS = [UUID(int=number << 64 | number, version=4) for number in range(1, 49)]
#: Users with the usual starting credits, whom no other table knows.
FEW = [UUID(int=number << 64 | number, version=4) for number in range(101, 117)]


@pytest.fixture
def cluster(binaries: Binaries) -> Iterator[Cluster]:
    with running_cluster(binaries.redis) as running:
        yield running


@pytest.fixture
def system(cluster: Cluster, database_url: str, redis_url: str, tmp_path: Path) -> System:
    """A fresh ledger, whose users have enough; the queue is on the server of other tests."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("update faregate.ledger set starting_credits = %s", [CREDITS])
        connection.execute("insert into auth.users (id) select unnest(%s::uuid[])", [USERS])
    return System(
        redis_url=cluster.url,
        database_url=database_url,
        log=tmp_path / "worker.log",
        other_queue_url=redis_url,
    )


@asynccontextmanager
async def paying(system: System) -> AsyncIterator[list[Payer]]:
    """Let users pay during the block, beside a worker; then each row is what they know of it."""
    settings = system.settings.model_copy(update={"starting_credits": CREDITS})
    draw = random.Random()  # noqa: S311 - no secret.
    payers = [Payer(user, random.Random(draw.random())) for user in USERS]  # noqa: S311
    async with open_gate(settings) as gate:
        with system.worker():
            async with _in_turn(gate, payers):
                yield payers
            assert await gate.retries.join(WAIT_S_MAX)
            await until(system.drained, "all records are rows")
            check_rows(payers, system.database_url)


@asynccontextmanager
async def _in_turn(gate: Gate, payers: list[Payer]) -> AsyncIterator[None]:
    for payer in payers:
        await gate.balance(payer.user_id)
    over = asyncio.Event()
    tasks = [asyncio.ensure_future(one.pay(gate, over)) for one in payers]
    try:
        await wait_for_charges(payers)
        yield
        await wait_for_charges(payers)
    finally:
        over.set()
        async with asyncio.timeout(WAIT_S_MAX):
            await asyncio.gather(*tasks)


async def wait_for_charges(payers: list[Payer]) -> None:
    """Wait until each user was charged a few times more."""
    before = [len(one.charged) for one in payers]
    await until(
        lambda: all(len(a.charged) >= b + 3 for a, b in zip(payers, before, strict=True)),
        "charges of each user",
    )


def check_exact(system: System) -> None:
    """Redis, the rows and their sums agree."""
    with open_stream(system.settings) as stream, open_audit(system.settings) as audit:
        result = reconcile(stream, stream, audit)
        assert (result.findings, result.pending_count, result.dead_letter_count) == ([], 0, 0)
        assert verify(stream, stream, audit) == []


async def test_shards_that_move_lose_no_charge(cluster: Cluster, system: System) -> None:
    """Each shard moves to another node while its users pay."""
    shards = keys.shards(system.settings.shard_count)
    async with paying(system) as payers:
        await asyncio.to_thread(move_all, cluster, shards[:3])
    check_exact(system)
    assert all(one.events["allowed"] for one in payers)


def move_all(cluster: Cluster, shards: tuple[keys.Shard, ...]) -> None:
    """Move each of some shards to the next node; prove that it was moved with its keys."""
    for shard in shards:
        source = cluster.owner(shard.slot)
        target = next(one for one in cluster.primaries() if one is not source)
        move_slots(cluster, [shard.slot], target)
        assert cluster.owner(shard.slot) is target
        assert source.ask("CLUSTER", "COUNTKEYSINSLOT", shard.slot) == 0
        assert target.ask("CLUSTER", "COUNTKEYSINSLOT", shard.slot) > 0


@pytest.mark.long
async def test_nodes_that_come_and_go_lose_no_charge(cluster: Cluster, system: System) -> None:
    """A primary joins and takes its part of the shards; then another leaves."""
    shards = keys.shards(system.settings.shard_count)

    def come_and_go() -> None:
        move_all(cluster, shards)
        added = add_primary(cluster)
        assert any(shard.slot in slots_of(added) for shard in shards)
        leaving = next(one for one in cluster.primaries() if one is not added)
        remove_primary(cluster, leaving)
        assert not leaving.is_alive

    async with paying(system):
        await asyncio.to_thread(come_and_go)
    check_exact(system)


def test_a_lost_cluster_is_rebuilt_exactly(
    cluster: Cluster, system: System, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its rows; the same credits are there, and charges go on."""
    for name, value in system.environment.items():
        if name.startswith("FAREGATE_"):
            monkeypatch.setenv(name, value)
    with psycopg.connect(system.database_url, autocommit=True) as connection:
        connection.execute("update faregate.ledger set starting_credits = 3")
    system.charge(FEW)
    system.drain()
    before = live(system)
    for node in cluster.primaries():
        node.ask("FLUSHALL")
        assert node.ask("DBSIZE") == 0
    said = command_line.run("rebuild", "--all-users")
    assert said.code == 0, said
    assert live(system) == before
    check_exact(system)
    with pytest.raises(AssertionError):
        # Three credits were there, of which two are spent.
        system.charge(FEW)
    system.drain()
    check_exact(system)


def live(system: System) -> dict[UUID, int]:
    with open_stream(system.settings) as stream:
        return {user: one.credits for user, one in stream.read_many(FEW).items()}


def test_a_replay_on_a_cluster_accounts_for_every_request(
    cluster: Cluster, empty_database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """What is read back from the servers is what arithmetic over the file says."""
    log = tmp_path / "access.log"
    expected = write_log(log, lines=200, users=40)
    servers = urls(cluster.url, empty_database_url)
    done = faregate("replay", log, "--json", *servers, FAREGATE_QUEUE_URL=redis_url)
    assert done.returncode == 0, done.stderr
    assert numbers(json.loads(done.stdout), list(expected)) == expected
