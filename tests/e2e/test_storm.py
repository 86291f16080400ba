"""The storm: many callers, cut connections, late replies, and requests that are cancelled.

Whoever was told that it was charged was charged, once. Whoever was told nothing may have been, and
is given back. Nobody waits for ever, and nobody gets what was meant for another.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from cluster_relay import relayed
from cluster_rig import Cluster, running_cluster
from faregate import Decision, Gate, Settings, Verdict, open_gate
from faregate.bootstrap import open_audit, open_stream
from faregate.cli.servers import Binaries
from faregate.domain.errors import LedgerUnavailableError, OutcomeUnknownError
from faregate.domain.request import VOID_DESCRIPTION
from faregate.domain.transaction import CreditTransaction, TransactionType
from faregate.ops.reconcile import reconcile
from lossy_proxy import LossyProxy, lossy_proxy
from redis_ledger import records_after
from soak import SOAK, Record, counted, scaled, tell
from waiting import WAIT_S_MAX, until
from worker_process import System

pytestmark = pytest.mark.long

CALLERS = scaled(5_000, 1_000)
USERS = [UUID(int=number << 64 | number, version=4) for number in range(1, 201)]
CREDITS = 1_000_000_000
#: How many connections are cut, and after how many of them replies are held back once.
CUTS = 50
CUTS_BETWEEN_DELAYS = 5
#: How long all is calm after a cut, at most.
CALM_S_MAX = 1.0 if SOAK else 0.1
TIMEOUT_MS = 200
#: Longer than a decision may take, and not so long that the connection is given up.
DELAY_S = 1.5 * TIMEOUT_MS / 1_000
#: Which part of all requests is to be cancelled, most of them within so many turns of the loop.
#: Some are decided before, and about 30 % are not.
CANCELLED = 0.4
TURNS_MAX = 12
#: How long a caller waits before it comes again, at most: they make 400 requests a second.
PAUSE_S_MAX = CALLERS / 200


@dataclass(slots=True)
class Caller:
    """Somebody with a cost of its own, by which a decision that was meant for another shows."""

    user_id: UUID
    cost: int
    draw: random.Random
    charged: list[Decision] = field(default_factory=list)
    #: How many requests ended without a decision, and may have been charged.
    undecided: int = 0
    events: Counter[str] = field(default_factory=Counter)

    async def live(self, gate: Gate, over: asyncio.Event) -> None:
        """Come again and again until it is over."""
        while not over.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), self.draw.uniform(0, PAUSE_S_MAX))
            await self.ask(gate)

    async def ask(self, gate: Gate) -> None:
        """Charge once; some requests are cancelled at a random point."""
        asking = asyncio.ensure_future(gate.charge(self.user_id, cost=self.cost))
        if self.draw.random() < CANCELLED:
            await self._wait_a_little()
            asking.cancel()
        await asyncio.wait([asking])
        if asking.cancelled():
            self.events["cancelled"] += 1
            self.undecided += 1
            return
        try:
            decision = asking.result()
        except OutcomeUnknownError as error:
            is_late = "did not answer within" in str(error)
            self.events["timed out" if is_late else "cut"] += 1
            self.undecided += 1
        except LedgerUnavailableError:
            # Not charged for certain, so it is no excuse for a charge.
            self.events["not sent"] += 1
        else:
            self._take(decision)

    async def _wait_a_little(self) -> None:
        if self.draw.random() < 0.8:
            for _ in range(self.draw.randrange(TURNS_MAX)):
                await asyncio.sleep(0)
        else:
            await asyncio.sleep(self.draw.uniform(0, DELAY_S))

    def _take(self, decision: Decision) -> None:
        assert (decision.user_id, decision.amount) == (self.user_id, -self.cost)
        self.events[decision.verdict] += 1
        if decision.allowed:
            self.charged.append(decision)
        else:
            assert decision.verdict is Verdict.OVERLOADED


class Storm:
    """What happens to connections."""

    def __init__(self, proxy: LossyProxy, draw: random.Random) -> None:
        self._proxy = proxy
        self._draw = draw

    async def rage(self, callers: Sequence[Caller]) -> None:
        """Cut and delay, until enough was cut and some replies came too late."""
        for number in range(1, CUTS + 1):
            await self._cut()
            if number % CUTS_BETWEEN_DELAYS == 0:
                await self._delay()
                tell(f"storm: {self._proxy.lost} of {CUTS} cuts")
            await asyncio.sleep(self._draw.uniform(0, CALM_S_MAX))
        while not any(caller.events["timed out"] for caller in callers):
            await self._delay()

    async def _cut(self) -> None:
        """Cut a connection, with a request or with a reply on it."""
        lost = self._proxy.lost
        if self._draw.random() < 0.5:
            self._proxy.replies_to_lose = 1
        else:
            self._proxy.requests_to_lose = 1
        await until(lambda: self._proxy.lost > lost, "a connection is cut")

    async def _delay(self) -> None:
        """Hold replies back for longer than a decision may take."""
        held = self._proxy.held
        self._proxy.hold()
        await until(lambda: self._proxy.held > held, "a reply is held back")
        await asyncio.sleep(DELAY_S)
        self._proxy.release()


@pytest.fixture(params=["server", pytest.param("cluster", marks=pytest.mark.cluster)])
def cluster(request: pytest.FixtureRequest, binaries: Binaries) -> Iterator[Cluster | None]:
    """A cluster of three primaries; None for one server."""
    if request.param == "server":
        yield None
        return
    with running_cluster(binaries.redis) as running:
        yield running


@pytest.fixture
def system(cluster: Cluster | None, ledger_redis: str, database_url: str, tmp_path: Path) -> System:
    """A fresh ledger, whose users have enough."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("update faregate.ledger set starting_credits = %s", [CREDITS])
        connection.execute("insert into auth.users (id) select unnest(%s::uuid[])", [USERS])
    redis_url = cluster.url if cluster else ledger_redis
    return System(redis_url=redis_url, database_url=database_url, log=tmp_path / "worker.log")


def recorded(system: System) -> list[CreditTransaction]:
    """Return all that is in the streams."""
    with open_stream(system.settings) as stream:
        entries = [
            entry
            for shard in range(system.settings.shard_count)
            for entry in records_after(stream, shard)
        ]
    assert not [entry.problem for entry in entries if entry.problem]
    return [entry.transaction for entry in entries if entry.transaction]


def spent(records: Sequence[CreditTransaction]) -> dict[UUID, int]:
    """Return what each user has spent, less what was given back."""
    totals = dict.fromkeys(USERS, 0)
    for record in records:
        totals[record.user_id] -= record.amount
    return totals


def check_decisions(callers: Sequence[Caller], records: Sequence[CreditTransaction]) -> None:
    """Make sure that each decision tells what was recorded, once, and is not given back."""
    deducts = {one.id: one for one in records if one.type is TransactionType.DEDUCT}
    given_back = {one.refund_of for one in records if one.type is TransactionType.REFUND}
    decisions = [decision for caller in callers for decision in caller.charged]
    ids = {decision.transaction_id for decision in decisions}
    assert len(ids) == len(decisions)
    assert not ids & given_back
    for decision in decisions:
        record = deducts[decision.transaction_id]
        told = decision.user_id, decision.amount, decision.credits, decision.sequence
        assert (record.user_id, record.amount, record.balance_after, record.sequence) == told


async def through_the_storm(gate: Gate, proxy: LossyProxy, seed: int) -> list[Caller]:
    """Let all callers live until the storm is over; none of their calls hangs."""
    draw = random.Random(seed)  # noqa: S311 - no secret.
    callers = [
        # Each has draws of its own, so that the seed tells all of them.
        Caller(USERS[number % len(USERS)], 1 + number, random.Random(draw.random()))  # noqa: S311
        for number in range(CALLERS)
    ]
    for some in range(0, len(USERS), 20):
        await asyncio.gather(*(gate.balance(user_id) for user_id in USERS[some : some + 20]))
    over = asyncio.Event()
    living = [asyncio.ensure_future(caller.live(gate, over)) for caller in callers]
    try:
        await Storm(proxy, draw).rage(callers)
    finally:
        over.set()
    async with asyncio.timeout(WAIT_S_MAX):
        await asyncio.gather(*living)
    return callers


def bounds(callers: Sequence[Caller]) -> tuple[dict[UUID, int], dict[UUID, int]]:
    """Return what each user has been told to have spent, and what it may have spent at most."""
    told, most = dict.fromkeys(USERS, 0), dict.fromkeys(USERS, 0)
    for caller in callers:
        acknowledged = caller.cost * len(caller.charged)
        told[caller.user_id] += acknowledged
        most[caller.user_id] += acknowledged + caller.cost * caller.undecided
    return told, most


async def test_a_storm_loses_nothing_charges_nothing_twice_and_mixes_nothing_up(
    system: System, cluster: Cluster | None, record_property: Record
) -> None:
    """Acknowledged <= ledger <= acknowledged + undecided, and equal after the voids."""
    seed = random.randrange(2**32)  # noqa: S311 - no secret.
    relay = relayed(cluster) if cluster else lossy_proxy(system.redis_url)
    async with relay as (proxy, url):
        settings = Settings(
            redis_url=url,
            postgres_url=system.database_url,
            starting_credits=CREDITS,
            decision_timeout_ms=TIMEOUT_MS,
            # It would keep callers away from the storm.
            breaker_failures_max=10_000,
        )
        async with open_gate(settings) as gate:
            callers = await through_the_storm(gate, proxy, seed)
            told, most = bounds(callers)
            before = spent(await asyncio.to_thread(recorded, system))
            assert all(told[user] <= before[user] <= most[user] for user in USERS), seed
            assert await gate.retries.join(WAIT_S_MAX)
            records = await asyncio.to_thread(recorded, system)
            given_up = gate.retries.given_up
    assert spent(records) == told, seed
    check_decisions(callers, records)
    events = sum((caller.events for caller in callers), Counter[str]())
    voids = sum(record.description == VOID_DESCRIPTION for record in records)
    faults = {"cuts": proxy.lost, "held": proxy.held, "connections": proxy.connections}
    summary = (
        f"storm: {CALLERS} callers by seed {seed}; {counted(events)}; {counted(faults)};"
        f" voids that gave back: {voids}"
    )
    record_property("soak", summary)
    assert proxy.lost == CUTS
    assert min(events["allowed"], events["cancelled"], events["timed out"], voids) > 0
    assert given_up == 0
    system.drain()
    with open_stream(system.settings) as stream, open_audit(system.settings) as audit:
        result = reconcile(stream, stream, audit)
    assert (result.findings, result.pending_count, result.dead_letter_count) == ([], 0, 0)
