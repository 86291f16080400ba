"""Primaries that are killed under load: nothing is lost that was promised, and all else is told.

Users pay without a pause while one primary after the other is killed with SIGKILL, in a cluster and
behind sentinels. In half of the kills its replicas provably lack the newest records, of which the
worker had made rows of some. The test counts what was lost by what users were told, and compares.
"""

import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from cluster_rig import running_cluster
from failovers import Failovers, Fleet, Left, during, told_of
from faregate import Durability, Settings, open_gate
from faregate.bootstrap import open_audit, open_stream
from faregate.cli.servers import Binaries
from faregate.ops.reconcile import reconcile, verify
from payers import CREDITS, Payer
from sentinel_rig import running_sentinels
from soak import Record
from waiting import until
from worker_process import System

pytestmark = [pytest.mark.cluster, pytest.mark.redis, pytest.mark.postgres]

KILLS = 10
USERS = [UUID(int=number << 64 | number, version=4) for number in range(1, 49)]
#: Shorter than an outage, so that calls end in the middle of it.
TIMEOUT_MS = 500

_UNALIGNED = "select count(*) from faregate.lost_records where is_named and aligned_at is null"
_NAMED = "select transaction_id from faregate.lost_records where is_named"
_AT_LEAST = "select count(*) from faregate.forks where is_at_least"
_COUNTED = (
    "select forks.shard, count(*) from faregate.lost_records as lost"
    " join faregate.forks as forks on forks.id = lost.fork_id"
    " left join public.credit_transactions as rows on rows.id = lost.transaction_id"
    " left join faregate.dead_letters as letters"
    " on letters.transaction_id = lost.transaction_id"
    " where lost.is_reported and rows.id is null and letters.transaction_id is null"
    " group by forks.shard"
)


def fleet_of(kind: str, binaries: Binaries) -> AbstractContextManager[Fleet]:
    return (running_cluster if kind == "cluster" else running_sentinels)(binaries.redis)


@pytest.fixture(params=["cluster", "sentinels"])
def fleet(request: pytest.FixtureRequest, binaries: Binaries) -> Iterator[Fleet]:
    with fleet_of(request.param, binaries) as running:
        yield running


@pytest.fixture
def system(fleet: Fleet, database_url: str, redis_url: str, tmp_path: Path) -> System:
    """A fresh ledger, whose users have enough; the queue is on the server of other tests."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("update faregate.ledger set starting_credits = %s", [CREDITS])
        connection.execute("insert into auth.users (id) select unnest(%s::uuid[])", [USERS])
    return System(
        redis_url=fleet.url,
        database_url=database_url,
        log=tmp_path / "worker.log",
        other_queue_url=redis_url,
    )


def settings_of(system: System) -> Settings:
    update = {"starting_credits": CREDITS, "decision_timeout_ms": TIMEOUT_MS}
    return system.settings.model_copy(update=update)


@asynccontextmanager
async def failovers_of(
    fleet: Fleet, system: System, durability: Durability
) -> AsyncIterator[Failovers]:
    """Open a gate for users with a durability, beside a worker."""
    seed = random.randrange(2**32)  # noqa: S311 - no secret.
    draw = random.Random(seed)  # noqa: S311 - no secret.
    payers = [
        Payer(user, random.Random(draw.random()), durability=durability)  # noqa: S311
        for user in USERS
    ]
    async with open_gate(settings_of(system)) as gate:
        for payer in payers:
            await gate.balance(payer.user_id)
        with system.worker():
            yield Failovers(fleet, system, gate, payers, draw)
            await until(lambda: is_settled(system), "all records are rows, all users aligned")


def is_settled(system: System) -> bool:
    if not system.drained():
        return False
    with psycopg.connect(system.database_url) as connection:
        return connection.execute(_UNALIGNED).fetchone() == (0,)


def check_bounds(payers: Sequence[Payer], left: Left, lost: dict[UUID, int]) -> None:
    """Acknowledged - lost <= ledger <= acknowledged + undecided, user by user."""
    for payer in payers:
        told = {one.transaction_id.value: -one.amount for one in payer.charged}
        assert len(told) == len(payer.charged)
        acknowledged = sum(told.values())
        missing = sum(amount for identity, amount in told.items() if identity in lost)
        taken = left.taken.get(payer.user_id, 0)
        assert acknowledged - missing <= taken <= acknowledged + payer.undecided


def check_exact(system: System) -> None:
    """All numbers agree, and nobody had to help."""
    with open_stream(system.settings) as stream, open_audit(system.settings) as audit:
        result = reconcile(stream, stream, audit)
        assert (result.findings, result.pending_count) == ([], 0)
        assert verify(stream, stream, audit) == []


def check_others_went_on(failovers: Failovers) -> None:
    """In each outage, users of shards on other servers were charged."""
    if not any(len(outage.shards) < len(failovers.shards) for outage in failovers.outages):
        return
    for outage in failovers.outages:
        assert any(one.is_allowed for one in during([outage], failovers)[False])


@pytest.mark.long
async def test_what_a_replica_has_is_never_lost(
    fleet: Fleet, system: System, record_property: Record
) -> None:
    """Acknowledged <= ledger <= acknowledged + undecided, through ten kills."""
    async with failovers_of(fleet, system, Durability.REPLICA) as failovers, failovers.paying():
        for number in range(KILLS):
            await failovers.strike(is_cut=number % 2 == 1)
    record_property("measured", f"kills with durability replica: {told_of(failovers)}")
    left = Left.of(system)
    assert left.lost(failovers.payers) == {}
    check_bounds(failovers.payers, left, {})
    check_others_went_on(failovers)
    check_exact(system)
    assert len(failovers.outages) == KILLS
    assert any(outage.lacked for outage in failovers.outages)


@pytest.mark.long
async def test_what_redis_loses_is_named_or_counted_to_the_last_record(
    fleet: Fleet, system: System, record_property: Record
) -> None:
    """Stored records are named and stay charged; the others are counted, shard by shard."""
    await check_losses(fleet, system, KILLS, record_property)


@pytest.mark.long
@pytest.mark.parametrize("fleet", ["cluster"], indirect=True)
async def test_one_failover_is_made_right_by_the_worker_alone(
    fleet: Fleet, system: System, record_property: Record
) -> None:
    """The short form of the above."""
    await check_losses(fleet, system, 1, record_property)


async def check_losses(fleet: Fleet, system: System, kills: int, record_property: Record) -> None:
    async with failovers_of(fleet, system, Durability.MEMORY) as failovers:
        async with failovers.paying():
            for number in range(kills):
                await failovers.strike(is_cut=number % 2 == 0)
        await until(lambda: is_settled(system), "all records are rows, all users aligned")
        expected = expected_of(failovers, Left.of(system).lost(failovers.payers))
        await until(lambda: counted_of(system) == expected, f"lost answers are counted: {expected}")
    left = Left.of(system)
    lost = left.lost(failovers.payers)
    told = f"{told_of(failovers)}; kept {len(left.kept)}, lost answers {len(lost)}"
    record_property("measured", f"kills with durability memory: {told}")
    check_bounds(failovers.payers, left, lost)
    check_others_went_on(failovers)
    check_forks(failovers, left, lost)
    check_exact(system)
    assert len(failovers.outages) == kills
    assert left.kept
    assert lost


def counted_of(system: System) -> dict[int, int]:
    """Return how many lost answers the ledger has counted in each shard."""
    with psycopg.connect(system.database_url) as connection:
        return dict(connection.execute(_COUNTED).fetchall())


def expected_of(failovers: Failovers, lost: dict[UUID, int]) -> dict[int, int]:
    """Return how many answers users had in each shard that are no rows."""
    return Counter(
        failovers.shard_of(payer.user_id)
        for payer in failovers.payers
        for decision in payer.charged
        if decision.transaction_id.value in lost
    )


def check_forks(failovers: Failovers, left: Left, lost: dict[UUID, int]) -> None:
    """The forks name each kept record, and their counts of lost answers are the test's own."""
    with psycopg.connect(failovers.system.database_url) as connection:
        named = frozenset(one for (one,) in connection.execute(_NAMED))
        assert connection.execute(_AT_LEAST).fetchone() == (0,)
    assert counted_of(failovers.system) == expected_of(failovers, lost)
    assert left.kept <= named
