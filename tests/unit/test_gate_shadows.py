"""Policies that are only observed: they refuse nobody, and nothing real is touched."""

from collections.abc import Mapping
from uuid import UUID

import pytest

from faregate import (
    Allowance,
    CreditPolicy,
    Gate,
    HoldState,
    Period,
    PeriodKind,
    PolicySet,
    RateLimit,
    Verdict,
)
from faregate.adapters.memory.store import MemoryStore
from faregate.domain.attempt import Event
from faregate.domain.errors import AmountError, ConfigurationError
from faregate.domain.policy import GateOptions
from lossy_ledger import Clock, LossyLedger

HOUR = Period(kind=PeriodKind.ROLLING, length_ms=3_600_000)
TRIED = CreditPolicy(
    name="tried",
    allowance=Allowance(amount=10, period=HOUR),
    limits=(RateLimit(name="burst", count=3, period_ms=1_000),),
    is_shadow=True,
    cost_max=50,
)
POLICIES = PolicySet(tiers={"default": CreditPolicy(), "tried": TRIED})


@pytest.fixture
def gate(ledger: LossyLedger) -> Gate:
    return Gate(ledger, MemoryStore(), POLICIES, GateOptions(provision_users=True))


async def shadow_of(gate: Gate, user_id: UUID) -> int:
    """What a shadow balance is: a peek changes nothing."""
    return (await gate.charge(user_id, cost=0, tier="tried")).credits


async def counts_of(gate: Gate) -> Mapping[Verdict, int]:
    counts = await gate.shadow_counts("tried")
    return {verdict: count for verdict, count in counts.items() if count}


async def test_a_shadow_policy_refuses_no_user(
    gate: Gate, ledger: LossyLedger, clock: Clock, user_id: UUID
) -> None:
    """It says what it would have said, and counts it; no balance, record or user is touched."""
    decisions = [await gate.charge(user_id, cost=cost, tier="tried") for cost in (12, 2, 1, 1)]
    assert all(decision.allowed for decision in decisions)
    allowed, out, limited = Verdict.ALLOWED, Verdict.OUT_OF_CREDITS, Verdict.RATE_LIMITED
    assert [decision.shadow for decision in decisions] == [allowed, out, allowed, out]
    assert [decision.credits for decision in decisions] == [1, 1, 0, 0]
    assert all(decision.policy is TRIED for decision in decisions)
    clock.ms += 3_600_000
    late = [await gate.charge(user_id, tier="tried") for _ in range(4)]
    assert [decision.shadow for decision in late] == [allowed] * 3 + [limited]
    assert (late[-1].allowed, late[-1].limited_by) == (True, "burst")
    assert await counts_of(gate) == {allowed: 5, out: 2, limited: 1}
    assert not ledger.pending
    assert await ledger.read(user_id) is None
    assert (await gate.charge(user_id)).credits == 2


async def test_the_policy_in_force_and_the_one_that_is_tried_stand_apart(
    gate: Gate, user_id: UUID
) -> None:
    """Neither spends what the other has."""
    for _ in range(3):
        assert (await gate.charge(user_id)).shadow is None
    assert (await gate.charge(user_id)).verdict is Verdict.OUT_OF_CREDITS
    assert (await gate.charge(user_id, tier="tried")).shadow is Verdict.ALLOWED
    assert await shadow_of(gate, user_id) == 12


@pytest.mark.parametrize(
    "event", [Event.TIMED_OUT, Event.LOST, Event.NOT_SENT, Event.SHED], ids=str
)
async def test_a_request_without_a_shadow_decision_is_served(
    gate: Gate, ledger: LossyLedger, user_id: UUID, event: Event
) -> None:
    """An experiment that fails turns nobody away, at the start or at the end, and voids nothing."""
    seen = await gate.charge(user_id, tier="tried")
    ledger.lose(*[event] * 4, decided=False)
    decision = await gate.charge(user_id, tier="tried")
    assert (decision.verdict, decision.shadow) == (Verdict.ALLOWED, Verdict.UNDECIDED)
    assert (await gate.refund(decision)).allowed
    hold = await gate.hold(user_id, 2, tier="tried")
    assert (hold.allowed, hold.decision.shadow) == (True, Verdict.UNDECIDED)
    assert (await gate.settle(hold, 1)).allowed
    ledger.is_down = True
    assert (await gate.refund(seen)).allowed, "a correction that fails is no error"
    assert len(gate.retries) == 0
    assert gate.health().served_open == 0


async def test_refunds_put_the_shadow_right(gate: Gate, ledger: LossyLedger, user_id: UUID) -> None:
    """As far as it was charged: what it would have refused is not given back."""
    decision = await gate.charge(user_id, cost=6, tier="tried")
    refused = await gate.charge(user_id, cost=9, tier="tried")
    assert refused.shadow is Verdict.OUT_OF_CREDITS
    partly = await gate.refund(decision, amount=2)
    assert (partly.allowed, partly.amount, await shadow_of(gate, user_id)) == (True, 2, 9)
    await gate.refund(refused)
    assert await shadow_of(gate, user_id) == 9
    wholly = await gate.refund(await gate.charge(user_id, cost=4, tier="tried"))
    assert (wholly.amount, await shadow_of(gate, user_id)) == (4, 9)
    with pytest.raises(AmountError):
        await gate.refund(decision, amount=-1)
    assert not ledger.pending


async def test_the_end_of_a_hold_puts_the_shadow_right(
    gate: Gate, ledger: LossyLedger, user_id: UUID
) -> None:
    """By what it cost, more or less; all of it where it is cancelled."""
    less = await gate.hold(user_id, 5, tier="tried")
    assert (less.allowed, less.estimate, await shadow_of(gate, user_id)) == (True, 5, 8)
    assert (await gate.extend(less, 1_000)).state is HoldState.OPEN
    assert (await gate.settle(less, 2)).state is HoldState.SETTLED
    assert await shadow_of(gate, user_id) == 11
    await gate.settle(await gate.hold(user_id, 5, tier="tried"), 7)
    assert await shadow_of(gate, user_id) == 4
    cancelled = await gate.cancel(await gate.hold(user_id, 3, tier="tried"))
    assert cancelled.state is HoldState.CANCELLED
    assert await shadow_of(gate, user_id) == 4
    assert not ledger.pending
    assert await ledger.read(user_id) is None


async def test_a_block_holds_on_a_shadow(gate: Gate, user_id: UUID) -> None:
    """It settles by what it says, and cancels if it fails."""
    async with gate.holding(user_id, 5, tier="tried") as held:
        assert held.allowed
        await held.settle(1)
    with pytest.raises(ZeroDivisionError):
        async with gate.holding(user_id, 5, tier="tried"):
            raise ZeroDivisionError
    assert await shadow_of(gate, user_id) == 12


async def test_usage_under_a_shadow_policy_shows_the_real_balance(
    gate: Gate, user_id: UUID
) -> None:
    """The allowance that is tried is paid to nobody, and nobody is told that it counts."""
    usage = await gate.usage(user_id, tier="tried")
    assert usage is not None
    assert (usage.policy, usage.is_unlimited, usage.remaining) == ("tried", True, 3)
    assert (usage.limit, usage.used, usage.is_warning) == (None, None, False)
    assert await gate.renew(user_id, tier="tried") == 0


async def test_a_cost_that_may_not_be_is_an_error_under_a_shadow_too(
    gate: Gate, user_id: UUID
) -> None:
    """It would be one when the policy is in force."""
    with pytest.raises(AmountError, match="50 at most"):
        await gate.charge(user_id, cost=51, tier="tried")
    assert await counts_of(gate) == {}


def test_shadows_need_names() -> None:
    """Two policies of one name would share their counts."""
    with pytest.raises(ConfigurationError, match="two policies are named 'tried'"):
        PolicySet(
            tiers={"default": TRIED, "other": CreditPolicy(name="tried", cost_max=7)},
        )
    assert PolicySet(tiers={"default": TRIED, "other": TRIED}).of("other") is TRIED
