"""All that a gate is for, done once: for tests of rights."""

from uuid import UUID, uuid4

from faregate import CreditPolicy, Gate, OnExpiry, PolicySet, RateLimit
from faregate.domain.limit import LimitKind
from least_rights import STARTING_CREDITS

HOUR_MS = 3_600_000
LIMITS = (
    RateLimit(name="steady", count=1_000, period_ms=HOUR_MS, is_by_key=True),
    RateLimit(name="window", count=1_000, period_ms=HOUR_MS, kind=LimitKind.WINDOW),
)
POLICIES = PolicySet(
    tiers={
        "default": CreditPolicy(starting_credits=STARTING_CREDITS),
        "limited": CreditPolicy(name="limited", starting_credits=STARTING_CREDITS, limits=LIMITS),
        "observed": CreditPolicy(
            name="observed", starting_credits=STARTING_CREDITS, is_shadow=True
        ),
    },
)


async def use(gate: Gate) -> UUID:
    """Do with a gate all that it is for; return a user."""
    user = uuid4()
    charged = await gate.charge(user, transaction_id=None)
    assert charged.allowed
    assert (await gate.refund(charged)).allowed
    assert (await gate.grant(user, 50, idempotency_key="payment")).allowed
    assert (await gate.grant(user, 50, idempotency_key="payment")).repeated
    assert (await gate.adjust(user, -1, actor="ann", reason="a test")).allowed
    await use_holds(gate, user)
    await use_keys(gate, user)
    for _ in range(2):
        assert (await gate.charge(user, tier="limited", limit_key="member")).allowed
    observed = await gate.charge(user, tier="observed")
    await gate.refund(observed)
    assert sum((await gate.shadow_counts("observed")).values())
    assert await gate.balance(user)
    assert await gate.usage(user)
    assert (await gate.history(user)) is not None
    assert user in await gate.users_after(None, 100)
    return user


async def use_holds(gate: Gate, user: UUID) -> None:
    held = await gate.hold(user, 5)
    assert (await gate.extend(held, HOUR_MS)).allowed
    assert (await gate.settle(held, 3)).allowed
    assert (await gate.cancel(await gate.hold(user, 5))).allowed
    for choice in OnExpiry:
        # Left to the worker.
        assert (await gate.hold(user, 1, ttl_ms=100, on_expiry=choice)).allowed


async def use_keys(gate: Gate, user: UUID) -> None:
    first = await gate.charge(user, idempotency_key="order")
    assert await gate.complete(first, b"a response")
    again = await gate.charge(user, idempotency_key="order")
    assert again.repeated
    assert await gate.saved_response(again) == b"a response"
    lost = await gate.charge(user, idempotency_key="lost")
    assert (await gate.refund(lost)).allowed
    kept = await gate.charge(user, idempotency_key="other")
    assert (await gate.refund_by_id(user, kept.transaction_id, amount=1)).allowed
