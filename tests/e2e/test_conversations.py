"""Costs that are known only afterwards: real conversations with a language model, through holds."""

import asyncio
import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from redis import Redis

from faregate import open_gate
from faregate.bootstrap import open_audit, open_stream
from faregate.gate import Gate
from faregate.ops.reconcile import reconcile
from worker_process import System, wait_for

#: Shared data, which the repository does not hold.
CONVERSATIONS = Path(__file__).resolve().parents[3] / "shared/data/llm_conversations.csv"
USERS = [UUID(int=number << 64 | number) for number in range(1, 201)]
STARTING_CREDITS = 1_000_000
CONCURRENCY = 64
TTL_MS = 5_000
#: What the file comes to, worked out from it alone.
SPENT = 26_450_535
BEYOND_ESTIMATE = 898

DEAD_PERCENT = 2
SEED = 20231116

pytestmark = [
    pytest.mark.redis,
    pytest.mark.postgres,
    pytest.mark.skipif(
        not CONVERSATIONS.exists(), reason="the shared conversations are not on this machine"
    ),
]


@dataclass(frozen=True, slots=True)
class Conversation:
    """One request, of which the context is known at its start."""

    context: int
    generated: int

    @property
    def estimate(self) -> int:
        return 2 * self.context

    @property
    def actual(self) -> int:
        return self.context + self.generated


def conversations() -> list[Conversation]:
    """Read the file."""
    with CONVERSATIONS.open(encoding="utf-8", newline="") as file:
        return [
            Conversation(int(row["ContextTokens"]), int(row["GeneratedTokens"]))
            for row in csv.DictReader(file)
        ]


async def play(gate: Gate, rows: Sequence[Conversation], dead: set[int]) -> int:
    """Hold and settle every row, users by turns; return how many cost more than held.

    The owner of a row in `dead` dies between the two: it neither settles nor cancels.
    """
    waiting = iter(enumerate(rows))
    beyond = 0

    async def owner() -> None:
        nonlocal beyond
        for number, row in waiting:
            user_id = USERS[number % len(USERS)]
            hold = await gate.hold(user_id, row.estimate, ttl_ms=TTL_MS)
            assert hold.allowed, hold
            if number in dead:
                continue
            answer = await gate.settle(hold, row.actual)
            assert answer.allowed, answer
            assert answer.refunded - answer.charged == row.estimate - row.actual
            beyond += answer.charged > 0

    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(owner())
    return beyond


def spent(system: System) -> int:
    """Add up the rows."""
    query = "select -sum(amount) from public.credit_transactions where type in ('deduct', 'refund')"
    with psycopg.connect(system.database_url) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("dead_percent", [0, DEAD_PERCENT])
def test_conversations_cost_exactly_their_tokens(
    dead_percent: int, ledger_redis: str, database_url: str, tmp_path: Path
) -> None:
    """What was held is settled to the credit; what owners that died held is given back."""
    system = System(redis_url=ledger_redis, database_url=database_url, log=tmp_path / "worker.log")
    rows = conversations()
    chooser = random.Random(SEED)  # noqa: S311 -- chosen so that a failure can be played again
    dead = set(chooser.sample(range(len(rows)), len(rows) * dead_percent // 100))
    alive = [row for number, row in enumerate(rows) if number not in dead]
    expected = sum(row.actual for row in alive)
    beyond_expected = sum(row.actual > row.estimate for row in alive)
    if not dead:
        assert (expected, beyond_expected) == (SPENT, BEYOND_ESTIMATE)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("update faregate.ledger set starting_credits = %s", [STARTING_CREDITS])

    async def play_all() -> int:
        update = {"decision_timeout_ms": 10_000, "starting_credits": STARTING_CREDITS}
        settings = system.settings.model_copy(update=update)
        async with open_gate(settings) as gate:
            return await play(gate, rows, dead)

    with system.worker(), Redis.from_url(ledger_redis) as client:
        assert asyncio.run(play_all()) == beyond_expected, f"seed {SEED}"
        wait_for(lambda: not list(client.scan_iter("fg:*:holds")), "no hold is left")
        wait_for(system.drained, "everything is drained")

    assert spent(system) == expected, f"seed {SEED}"
    with open_stream(system.settings) as stream, open_audit(system.settings) as audit:
        assert reconcile(stream, stream, audit).is_exact
