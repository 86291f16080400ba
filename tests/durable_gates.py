"""Gates on a real Redis, with users in memory, whose tiers differ in their durability."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from faregate import (
    CreditPolicy,
    Durability,
    Gate,
    GateOptions,
    OutcomeUnknownError,
    PolicySet,
)
from faregate.adapters.memory.store import MemoryStore
from faregate.domain.policy import BreakerOptions
from redis_ledger import make_ledger

#: A decision timeout that passes soon, and within which a busy machine mostly confirms.
SHORT_MS = 400
CREDITS = 1_000_000
#: How long pending voids may take, in seconds.
VOIDS_S_MAX = 60.0
#: The tiers.
RATE, MONEY, SAFE = "rate", "money", "safe"
POLICIES = PolicySet(
    tiers={
        RATE: CreditPolicy(name=RATE, starting_credits=CREDITS),
        MONEY: CreditPolicy(name=MONEY, starting_credits=CREDITS, durability=Durability.REPLICA),
        SAFE: CreditPolicy(name=SAFE, starting_credits=CREDITS, durability=Durability.DISK),
    },
    default_tier=RATE,
)


@asynccontextmanager
async def gate_at(
    url: str, store: MemoryStore | None = None, *, timeout_ms: int = SHORT_MS
) -> AsyncIterator[Gate]:
    """Open a gate whose breakers stay closed."""
    gate = Gate(
        make_ledger(url, timeout_ms=timeout_ms),
        store or MemoryStore(starting_credits=CREDITS),
        POLICIES,
        GateOptions(
            decision_timeout_ms=timeout_ms,
            provision_users=True,
            breaker=BreakerOptions(failures_max=1_000_000),
        ),
    )
    async with gate.lifespan():
        yield gate


async def balance(gate: Gate, user_id: UUID) -> int:
    """The live credits of a user, after all voids were made."""
    assert await gate.retries.join(VOIDS_S_MAX)
    user = await gate.balance(user_id)
    assert user is not None
    return user.credits


async def charge_until_allowed(gate: Gate, user_id: UUID, tier: str) -> None:
    """Charge a user once: what a busy machine does not confirm in time is voided."""
    while True:
        try:
            assert (await gate.charge(user_id, tier=tier)).allowed
        except OutcomeUnknownError:
            continue
        return


def lost_count(gate: Gate) -> int:
    """How many answers the gate has found to be lost."""
    counts = gate.health().calls
    assert counts is not None
    return counts.lost
