"""The testing kit decides as Redis does: the scenarios on its ledger, refusals over its gate."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from asgi_client import Answer, answers, call
from clocks import Clock
from faregate import CreditPolicy, KeyState, RateLimit, Settings, Verdict, build_gate
from faregate.adapters.memory.alignments import MemoryAccounts
from faregate.adapters.memory.stream import MemoryStream
from faregate.asgi import FaregateMiddleware
from faregate.gate import Gate
from faregate.ports import Ledger
from faregate.testing import Failure, MemoryGate, memory_gate
from scenarios import SCENARIOS
from spec.backends import MemoryBackend
from spec.driver import Driver
from spec.steps import STARTING_CREDITS


class KitBackend(MemoryBackend):
    """The ledger in memory, as a gate of the kit meets it."""

    def _begin(self) -> None:
        super()._begin()
        self.gate = memory_gate(credits=STARTING_CREDITS, clock=self.clock)
        self._ledgers = [self.gate._live]
        self._accounts = [MemoryAccounts(self.gate._live)]
        # The backend says whose identity the ledger takes over.
        self.gate._live.records.epoch = None
        self.streams = [(MemoryStream(self.gate._live), 0)]

    def ledger_of(self, user_id: UUID) -> Ledger:  # type: ignore[override]
        return self.gate.ledger


@pytest.mark.parametrize("name", SCENARIOS)
async def test_the_kit_answers_as_the_table_says(name: str) -> None:
    """Each step as on the ledger in memory, which the same table holds equal to Redis."""
    kit, memory = KitBackend(Clock()), MemoryBackend(Clock())
    drivers = Driver(kit), Driver(memory)
    for backend in (kit, memory):
        await backend.start()
    for number, step in enumerate(SCENARIOS[name], start=1):
        told, expected = [await driver.play(step) for driver in drivers]
        assert told == expected, f"step {number}: {step}"


LIMIT = RateLimit(name="burst", count=1, period_ms=60_000)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A way to be refused: what the policy is, what happens before, how the kit is told."""

    policy: CreditPolicy = field(default_factory=CreditPolicy)
    prepare: Callable[[Gate, UUID], Any] | None = None
    forced: Verdict | Failure | None = None
    is_known: bool = True
    #: What the user has when it is refused; a forced answer tells it as it is.
    credits: int = 3
    settings: tuple[tuple[str, Any], ...] = ()


async def spend(gate: Gate, user_id: UUID) -> None:
    assert (await gate.charge(user_id)).allowed


async def spend_all(gate: Gate, user_id: UUID) -> None:
    assert (await gate.charge(user_id, cost=3)).allowed


async def hold_all(gate: Gate, user_id: UUID) -> None:
    assert (await gate.hold(user_id, 3)).allowed


REFUSALS = {
    "out of credits": Refusal(prepare=spend_all, forced=Verdict.OUT_OF_CREDITS),
    "rate limited": Refusal(
        policy=CreditPolicy(limits=(LIMIT,)), prepare=spend, forced=Verdict.RATE_LIMITED, credits=2
    ),
    "credits held": Refusal(prepare=hold_all, forced=Verdict.CREDITS_HELD),
    "unknown user": Refusal(is_known=False, forced=Verdict.UNKNOWN_USER),
    "backlog": Refusal(
        prepare=spend,
        forced=Verdict.BACKLOG,
        credits=2,
        settings=(("pending_max", 1),),
    ),
    "redis is down": Refusal(
        forced=Failure.REDIS_DOWN, settings=(("redis_url", "redis://127.0.0.1:1/0"),)
    ),
    "postgres is down": Refusal(
        forced=Failure.POSTGRES_DOWN,
        is_known=False,
        settings=(("postgres_url", "postgresql:///none?host=/nowhere&connect_timeout=1"),),
    ),
}


#: What of an answer follows from the time of day.
WHEN = re.compile(rb'(?<=in )\d+(?= s)|(?<=;t=)\d+|(?<="retry_after": )\d+|\d{4}-[\d-]+T[\d:]+Z')


async def ask(gate: Gate, user_id: UUID) -> Answer:
    """One request of the user through the middleware."""
    return await call(FaregateMiddleware(answers(200), gate, identify=lambda _: user_id))


@asynccontextmanager
async def real_gate(refusal: Refusal, redis_url: str, url: str) -> AsyncIterator[Gate]:
    """The gate of production, on servers."""
    given = {"redis_url": redis_url, "postgres_url": url, "decision_timeout_ms": 5_000}
    gate = build_gate(Settings(**(given | dict(refusal.settings))), refusal.policy)  # type: ignore[arg-type]
    async with gate.lifespan():
        yield gate


def alike(answer: Answer) -> tuple[object, ...]:
    """What a client sees, but for when to come back, which no clock tells twice."""
    waits = answer.header(b"retry-after")
    own = {b"retry-after", b"content-length"}
    headers = [(name, WHEN.sub(b"?", value)) for name, value in answer.headers if name not in own]
    return answer.status, sorted(headers), waits is None, WHEN.sub(b"?", answer.body)


@pytest.mark.parametrize("name", REFUSALS)
async def test_the_kit_refuses_as_the_servers_do(
    name: str, ledger_redis: str, database_url: str
) -> None:
    """The same status, fields and body: of the real gate, of the kit in the same state, forced."""
    refusal, user_id = REFUSALS[name], uuid4()
    if refusal.is_known:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("insert into auth.users (id) values (%s)", [user_id])
    async with real_gate(refusal, ledger_redis, database_url) as real:
        if refusal.prepare:
            await refusal.prepare(real, user_id)
        expected = await ask(real, user_id)
    assert expected.status >= 400

    kit = kit_of(refusal, user_id)
    if refusal.prepare and refusal.forced is not Verdict.BACKLOG:
        await refusal.prepare(kit, user_id)
        assert alike(await ask(kit, user_id)) == alike(expected)

    told = kit_of(refusal, user_id)
    if refusal.is_known:
        told.set_credits(user_id, refusal.credits)
    before = told.records()
    if isinstance(refusal.forced, Failure):
        with told.failing(refusal.forced):
            forced = await ask(told, user_id)
    else:
        assert refusal.forced is not None
        with told.answering(refusal.forced, retry_after_ms=LIMIT.period_ms):
            forced = await ask(told, user_id)
    assert alike(forced) == alike(expected)
    assert told.records() == before
    if refusal.is_known:
        assert (await ask(told, user_id)).status == 200


def kit_of(refusal: Refusal, user_id: UUID) -> MemoryGate:
    kit = memory_gate(refusal.policy)
    if refusal.is_known:
        kit.sign_up(user_id)
    return kit


async def test_keys_are_answered_as_the_ledger_does() -> None:
    """The natural answers of a key, and those that are forced, are the same decision."""
    for state in (KeyState.IN_FLIGHT, KeyState.DONE):
        kit = memory_gate()
        user_id = kit.sign_up()
        first = await kit.charge(user_id, idempotency_key="k")
        if state is KeyState.DONE:
            await kit.complete(first)
        natural = await kit.charge(user_id, idempotency_key="k")
        assert (natural.allowed, natural.repeated, natural.key_state) == (True, True, state)
        with kit.answering(state):
            forced = await kit.charge(user_id, idempotency_key="another")
            assert (forced.allowed, forced.repeated, forced.key_state) == (True, True, state)
            assert (await kit.charge(user_id)).key_state is None
        assert kit.charged(user_id) == 2
