"""Kill -9, again and again: of each process of the path, at each point of a drain and at random.

Charges flow meanwhile. Whoever was told of a charge finds it as a row, once; whoever was told
nothing has paid nothing in the end; live credits, durable credits and the sum of rows are equal.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from faregate import Gate, open_gate
from faregate.adapters.postgres.migrations import Migrator
from faregate.bootstrap import open_audit, open_stream
from faregate.cli.servers import Binaries
from faregate.ops.reconcile import reconcile, verify
from kill_rig import PLACES, VICTIMS, Rig, rigged
from own_redis import own_redis
from payers import CREDITS, Payer, check_rows
from servers import lone_postgres
from soak import Record, counted, scaled, tell
from waiting import WAIT_S_MAX, until
from worker_process import System

pytestmark = pytest.mark.long

PARTS = scaled(10, 1)
#: Of a part. Ten rounds kill each process twice, and something at each place; forty each at each.
ROUNDS = scaled(1_000, 10) // PARTS
ROUNDS_BETWEEN_AUDITS = 20
USERS = [UUID(int=number << 64 | number, version=4) for number in range(1, 17)]
#: An attempt that was lost is voided once its time is over, which a round waits for.
SETTINGS = {"starting_credits": CREDITS, "decision_timeout_ms": 500}
#: What Redis answers is on its disk; what is not may be gone after SIGKILL, as documented.
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
def seed() -> int:
    return random.randrange(2**32)  # noqa: S311 - no secret.


@pytest.fixture
def rig(binaries: Binaries, tmp_path: Path, seed: int) -> Iterator[Rig]:
    """A worker and servers to be killed, and users who have enough."""
    with own_redis(binaries.redis, *DURABLE) as redis, lone_postgres(binaries) as postgres:
        Migrator(postgres.url).apply()
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute("update faregate.ledger set starting_credits = %s", [CREDITS])
        system = System(redis_url=redis.url, database_url=postgres.url, log=tmp_path / "worker.log")
        with rigged(system, redis, postgres, tmp_path, seed) as running:
            yield running


class Rounds:
    """Rounds of one kill each, and what was found after them."""

    def __init__(self, rig: Rig, gate: Gate, payers: list[Payer]) -> None:
        self._rig = rig
        self._gate = gate
        self._payers = payers
        self.hits: Counter[tuple[str, str]] = Counter()
        self.rows = 0

    async def play(self, victim: str, place: str) -> None:
        """Kill once while all pay; then look at every row that came."""
        over = asyncio.Event()
        paying = [asyncio.ensure_future(one.pay(self._gate, over)) for one in self._payers]
        try:
            await asyncio.to_thread(self._rig.strike, victim, place)
        finally:
            over.set()
        async with asyncio.timeout(WAIT_S_MAX):
            await asyncio.gather(*paying)
        self.hits[victim, place] += 1
        assert await self._gate.retries.join(WAIT_S_MAX)
        await until(self._rig.system.drained, "everything is drained")
        self.rows += check_rows(self._payers, self._rig.system.database_url)

    def audit(self) -> None:
        """Compare Redis and Postgres, as an operator does."""
        settings = self._rig.system.settings
        with open_stream(settings) as stream, open_audit(settings) as audit:
            found = reconcile(stream, stream, audit)
            assert (found.findings, found.pending_count, found.dead_letter_count) == ([], 0, 0)
            assert verify(stream, stream, audit) == []
            live = stream.read_many([one.user_id for one in self._payers])
        told = {one.user_id: (one.credits, one.sequence) for one in self._payers}
        assert {one.id: (one.credits, one.sequence) for one in live.values()} == told
        assert self._gate.retries.given_up == 0


def told_of(hits: Counter[tuple[str, str]]) -> str:
    """Say how often each process was killed, and how often at each place."""
    by = Counter[str]()
    for (victim, place), count in hits.items():
        by.update({victim: count, place: count})
    return ", ".join(f"{name} {by[name]}" for name in (*VICTIMS, *PLACES))


@pytest.mark.parametrize("part", range(PARTS))
async def test_rounds_of_sigkill_lose_no_row_and_double_none(
    rig: Rig, seed: int, part: int, record_property: Record
) -> None:
    """Each process at each point, and at random."""
    draw = random.Random(seed)  # noqa: S311 - no secret.
    victims, places = draw.sample(VICTIMS, len(VICTIMS)), draw.sample(PLACES, len(PLACES))
    settings = rig.system.settings.model_copy(update=SETTINGS)
    began_s = time.monotonic()
    async with open_gate(settings) as gate:
        payers = [Payer(user, random.Random(draw.random())) for user in USERS]  # noqa: S311
        for payer in payers:
            await gate.balance(payer.user_id)
        rounds = Rounds(rig, gate, payers)
        for number in range(part * ROUNDS, (part + 1) * ROUNDS):
            await rounds.play(victims[number % len(victims)], places[number % len(places)])
            if number % ROUNDS_BETWEEN_AUDITS == 0:
                rounds.audit()
                tell(f"kills, part {part}: {rounds.hits.total()} of {ROUNDS} rounds")
        rounds.audit()
    events = sum((payer.events for payer in payers), Counter[str]())
    summary = (
        f"kills, part {part}: {rounds.hits.total()} rounds by seed {seed} in"
        f" {time.monotonic() - began_s:.0f} s, {rounds.rows} rows; {told_of(rounds.hits)};"
        f" {counted(events)}"
    )
    record_property("soak", summary)
    assert {victim for victim, _ in rounds.hits} == {*VICTIMS}
    assert {place for _, place in rounds.hits} == {*PLACES}
