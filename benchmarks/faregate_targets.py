"""Faregate as it is measured, through its public interface alone.

Decisions may take ten seconds here, as those of the peers may, but for `faregate-production`, which
has the settings that a production process has by default.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from itertools import count
from uuid import UUID

from benchmarks.servers import CREDITS, Place
from faregate import (
    Allowance,
    CreditPolicy,
    Decision,
    Gate,
    Period,
    PeriodKind,
    RateLimit,
    Settings,
    Verdict,
    build_gate,
)
from faregate.config import Environment

PATIENT_MS = 10_000
LIMITS = (
    RateLimit(name="minute", count=1_000_000, period_ms=60_000),
    RateLimit(name="day", count=1_000_000_000, period_ms=86_400_000),
)
ALLOWANCE = Allowance(amount=100_000_000, period=Period(kind=PeriodKind.DAY))

Ask = Callable[[UUID], Awaitable[bool]]


class FaregateTarget:
    """A gate, and a way to ask it."""

    def __init__(self, gate: Gate, ask: Ask) -> None:
        self._gate = gate
        self._ask = ask

    async def decide(self, user_id: UUID) -> bool:
        """Ask once."""
        return await self._ask(user_id)

    def health(self) -> dict[str, object]:
        """Return how the gate is: breaker, what waits, what was given up."""
        return asdict(self._gate.health())

    async def aclose(self) -> None:
        """Close the gate."""
        await self._gate.aclose()


class OverloadedError(Exception):
    """A request that was refused without a decision."""

    def __init__(self, retry_after_ms: int) -> None:
        super().__init__("overloaded")
        self.retry_after_ms = retry_after_ms


def _is_allowed(decision: Decision) -> bool:
    """Return a decision; an overload is none."""
    if decision.verdict is Verdict.OVERLOADED:
        raise OverloadedError(decision.retry_after_ms)
    return decision.allowed


def _charges(gate: Gate) -> Ask:
    async def ask(user_id: UUID) -> bool:
        return _is_allowed(await gate.charge(user_id))

    return ask


def _charges_with_key(gate: Gate) -> Ask:
    numbers = count()

    async def ask(user_id: UUID) -> bool:
        key = f"request {next(numbers)}"
        return _is_allowed(await gate.charge(user_id, idempotency_key=key))

    return ask


def _holds_and_settles(gate: Gate) -> Ask:
    async def ask(user_id: UUID) -> bool:
        hold = await gate.hold(user_id, 3)
        if not _is_allowed(hold.decision):
            return False
        await gate.settle(hold, 2)
        return True

    return ask


def patient_gate(place: Place, policy: CreditPolicy | None = None) -> Gate:
    """Build a gate that waits as long as peers do."""
    settings = Settings(
        redis_url=place.redis_url,
        postgres_url=place.postgres_url,
        starting_credits=CREDITS,
        decision_timeout_ms=PATIENT_MS,
    )
    return build_gate(settings, policy)


async def _open(
    place: Place, ask: Callable[[Gate], Ask], policy: CreditPolicy | None = None
) -> FaregateTarget:
    gate = patient_gate(place, policy)
    await gate.start()
    return FaregateTarget(gate, ask(gate))


async def production(place: Place) -> FaregateTarget:
    """With the settings that a production process has by default."""
    settings = Settings(
        environment=Environment.PRODUCTION,
        redis_url=place.redis_url,
        postgres_url=place.postgres_url,
        starting_credits=CREDITS,
    )
    gate = build_gate(settings)
    await gate.start()
    return FaregateTarget(gate, _charges(gate))


def _policy(**given: object) -> CreditPolicy:
    return CreditPolicy(starting_credits=CREDITS, **given)  # type: ignore[arg-type]


FAREGATE_TARGETS: Mapping[str, Callable[[Place], Awaitable[FaregateTarget]]] = {
    "faregate": lambda place: _open(place, _charges),
    "faregate + 2 limits": lambda place: _open(place, _charges, _policy(limits=LIMITS)),
    "faregate + allowance": lambda place: _open(place, _charges, _policy(allowance=ALLOWANCE)),
    "faregate + 2 limits + allowance": lambda place: _open(
        place, _charges, _policy(limits=LIMITS, allowance=ALLOWANCE)
    ),
    "faregate + idempotency key": lambda place: _open(place, _charges_with_key),
    "faregate, hold + settle": lambda place: _open(place, _holds_and_settles),
    "faregate-production": production,
}
