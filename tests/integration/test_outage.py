"""A Redis that stops in the middle of traffic, and goes on: what callers wait, and what they pay.

Times are printed (`pytest -s`), not asserted: the machine may be busy. What is asserted is how many
requests went to Redis, that each caller pays for what it got, and that all is normal afterwards.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from redis import Redis

from faregate import BreakerState, Decision, FailureMode, Gate, Health, Settings, build_gate
from faregate.adapters.postgres.migrations import Migrator
from faregate.cli.servers import EmbeddedValkey
from faregate.domain.errors import ArchiveUnavailableError, LedgerError
from processes import stopped
from waiting import WAIT_S_MAX, until

CALLERS = 64
#: Short enough to be waited for, and long enough for most decisions of a busy machine.
TIMEOUT_MS = 250
#: How many calls are made while Redis is stopped, at least, and of how many Redis may hear: each
#: caller may have sent an attempt and another one, and has each voided once or a few times.
CALLS_MIN = 20 * CALLERS
#: A caller comes again after this time, in seconds.
PAUSE_S = 0.002
STARTING_CREDITS = 1_000_000


@dataclass(slots=True)
class Caller:
    """Somebody who charges again and again, and keeps a list."""

    user_id: UUID
    mode: FailureMode
    allowed: list[Decision] = field(default_factory=list)
    journaled: list[Decision] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    waited_s: list[float] = field(default_factory=list)

    async def call(self, gate: Gate) -> bool:
        """Charge once; return whether it was decided."""
        began_s = time.perf_counter()
        try:
            decision = await gate.charge(self.user_id, on_failure=self.mode)
        except (LedgerError, ArchiveUnavailableError) as error:
            self.refused[type(error).__name__] += 1
            return False
        finally:
            self.waited_s.append(time.perf_counter() - began_s)
        if not decision.allowed:
            self.refused[decision.verdict] += 1
            return False
        (self.journaled if decision.journaled else self.allowed).append(decision)
        return not decision.journaled

    async def call_until(self, gate: Gate, is_over: Callable[[], bool]) -> None:
        """Charge until it is over."""
        while not is_over():
            await self.call(gate)
            await asyncio.sleep(PAUSE_S)


def percentile(values: list[float], part: float) -> float:
    """Return a percentile in milliseconds."""
    return sorted(values)[int(len(values) * part)] * 1_000 if values else 0.0


@asynccontextmanager
async def gate_on(redis: EmbeddedValkey, database_url: str, folder: Path) -> AsyncIterator[Gate]:
    """A gate as an API in production has it, with the breaker of the defaults."""
    Migrator(database_url).apply(starting_credits=STARTING_CREDITS)
    settings = Settings(
        redis_url=redis.url,
        postgres_url=database_url,
        starting_credits=STARTING_CREDITS,
        provision_users=True,
        decision_timeout_ms=TIMEOUT_MS,
        journal_dir=str(folder),
    )
    gate = build_gate(settings)
    try:
        yield gate
    finally:
        await gate.aclose()


async def all_is_normal(gate: Gate, callers: list[Caller]) -> None:
    """Wait until each caller is served by a decision, and nobody is refused without one."""
    give_up_at_s, waiting = time.monotonic() + WAIT_S_MAX, callers
    while waiting or gate.health().breaker is not BreakerState.CLOSED:
        assert time.monotonic() < give_up_at_s, "decisions are not made again"
        asked = waiting or callers[:1]
        decided = await asyncio.gather(*(caller.call(gate) for caller in asked))
        waiting = [one for one, is_decided in zip(asked, decided, strict=True) if not is_decided]
        await asyncio.sleep(PAUSE_S)


def charges(client: Redis) -> int:
    """Return how many calls of spends Redis has run since it started."""
    return int(client.info("commandstats").get("cmdstat_fcall", {}).get("calls", 0))


def show(what: str, callers: list[Caller], waited_s: list[float]) -> None:
    """Print what a phase was like."""
    refused = sum((caller.refused for caller in callers), Counter[str]())
    print(  # noqa: T201
        f"{what}: {len(waited_s)} calls, p50 {percentile(waited_s, 0.5):.2f} ms,"
        f" p99 {percentile(waited_s, 0.99):.2f} ms, most {percentile(waited_s, 0.9999):.2f} ms;"
        f" refused so far {dict(refused)}"
    )


@dataclass(slots=True)
class Phases:
    """What callers waited in an outage, before and after the breaker had opened."""

    until_open: list[float] = field(default_factory=list)
    while_open: list[float] = field(default_factory=list)


async def through_an_outage(
    gate: Gate, callers: list[Caller], redis: EmbeddedValkey
) -> tuple[Phases, Health]:
    """Call all the time, while Redis is stopped and goes on; return how the gate was meanwhile."""
    phases, opened = Phases(), gate.health().breaker_opened
    ended = asyncio.Event()
    for caller in callers:
        caller.waited_s = phases.until_open
    calling = [asyncio.create_task(caller.call_until(gate, ended.is_set)) for caller in callers]
    with stopped(redis.pid):
        await until(lambda: gate.health().breaker_opened > opened, "the breaker opens")
        # Those who wait since before belong to the time before.
        await asyncio.sleep(2 * TIMEOUT_MS / 1_000)
        for caller in callers:
            caller.waited_s = phases.while_open
        await until(lambda: len(phases.while_open) > CALLS_MIN, f"{CALLS_MIN} calls")
        health = gate.health()
        for caller in callers:
            caller.waited_s = []
    await all_is_normal(gate, callers)
    ended.set()
    await asyncio.gather(*calling)
    return phases, health


@pytest.mark.parametrize("mode", list(FailureMode))
async def test_callers_of_a_redis_that_stopped(
    own_redis: EmbeddedValkey, empty_database_url: str, tmp_path: Path, mode: FailureMode
) -> None:
    """64 at a time, through the whole outage: few go to Redis, and everybody pays what it got."""
    callers = [Caller(uuid4(), mode) for _ in range(CALLERS)]
    async with gate_on(own_redis, empty_database_url, tmp_path) as gate:
        await all_is_normal(gate, callers)
        with Redis.from_url(own_redis.url) as client:
            decided, ran = count(callers), charges(client)
            phases, health = await through_an_outage(gate, callers, own_redis)
            assert await gate.retries.join(WAIT_S_MAX)
            undecided = charges(client) - ran - (count(callers) - decided)
        show("until the breaker was open", callers, phases.until_open)
        show("while it was open", callers, phases.while_open)
        print(f"scripts run beside those that decided: {undecided}; {health}")  # noqa: T201
        assert health.breaker is not BreakerState.CLOSED
        # What came while it was open did not go to Redis, but for the probes.
        assert undecided < CALLS_MIN < len(phases.while_open)
        for caller in callers:
            user = await gate.balance(caller.user_id)
            assert user is not None
            assert STARTING_CREDITS - user.credits == len(caller.allowed)
        served_open = sum(len(caller.journaled) for caller in callers)
        refused = sum((caller.refused for caller in callers), Counter[str]()).total()
        assert gate.health().served_open == served_open
        assert (served_open > CALLERS) is (refused == 0) is (mode is FailureMode.OPEN)


def count(callers: list[Caller]) -> int:
    """Return how many requests were decided."""
    return sum(len(caller.allowed) for caller in callers)


async def test_a_process_that_starts_while_redis_hangs_serves_once_it_is_back(
    own_redis: EmbeddedValkey, empty_database_url: str, tmp_path: Path
) -> None:
    """Refused or served open meanwhile, and nothing has to be restarted."""
    callers = [
        Caller(uuid4(), mode) for mode in (FailureMode.CLOSED, FailureMode.OPEN) for _ in range(4)
    ]
    async with gate_on(own_redis, empty_database_url, tmp_path) as gate:
        with stopped(own_redis.pid):
            for _ in range(5):
                await asyncio.gather(*(caller.call(gate) for caller in callers))
        assert not any(caller.allowed for caller in callers)
        assert sum(len(caller.journaled) for caller in callers) == 20
        show("at the start", callers, [wait for caller in callers for wait in caller.waited_s])
        await all_is_normal(gate, callers)


async def test_a_redis_that_is_restarted_is_found(
    own_redis: EmbeddedValkey, empty_database_url: str, tmp_path: Path
) -> None:
    """Connections are refused for a while; then the same gate goes on, with the same balances."""
    callers = [Caller(uuid4(), FailureMode.CLOSED) for _ in range(8)]
    async with gate_on(own_redis, empty_database_url, tmp_path) as gate:
        await all_is_normal(gate, callers)
        await asyncio.to_thread(own_redis.kill)
        for _ in range(20):
            await asyncio.gather(*(caller.call(gate) for caller in callers))
            await asyncio.sleep(PAUSE_S)
        assert gate.health().breaker_opened >= 1
        await asyncio.to_thread(own_redis.start)
        await all_is_normal(gate, callers)
        assert await gate.retries.join(WAIT_S_MAX)
        for caller in callers:
            user = await gate.balance(caller.user_id)
            assert user is not None
            assert STARTING_CREDITS - user.credits == len(caller.allowed)
