"""Holds through the gate, over the memory adapters and one that loses replies."""

import asyncio
from uuid import UUID

import pytest

from faregate import CreditPolicy, Gate, HoldState, OnExpiry, Verdict
from faregate.adapters.memory.store import MemoryStore
from faregate.domain.attempt import Event
from faregate.domain.errors import (
    AmountError,
    InvalidArgumentError,
    OutcomeUnknownError,
    TransactionConflictError,
)
from faregate.domain.hold import HoldAnswer, Settlement
from faregate.domain.policy import GateOptions, PolicySet
from lossy_ledger import Clock, LossyLedger
from waiting import WAIT_S_MAX

ESTIMATE = 2


@pytest.fixture
def gate(ledger: LossyLedger) -> Gate:
    store = MemoryStore(starting_credits=3)
    return Gate(ledger, store, CreditPolicy(), GateOptions(provision_users=True))


async def live(gate: Gate, user_id: UUID) -> tuple[int, int]:
    """Return what can be spent, and what is held."""
    usage = await gate.usage(user_id)
    assert usage is not None
    return usage.remaining, usage.held


async def test_a_hold_is_shown_separately_from_spent_credits(gate: Gate, user_id: UUID) -> None:
    """A new user holds, settles below the estimate, and has the rest."""
    hold = await gate.hold(user_id, ESTIMATE)
    assert (hold.allowed, hold.estimate, hold.decision.policy) == (True, 2, CreditPolicy())
    assert await live(gate, user_id) == (1, 2)
    answer = await gate.settle(hold, 1)
    assert (answer.state, answer.refunded, answer.credits) == (HoldState.SETTLED, 1, 2)
    assert await live(gate, user_id) == (2, 0)


async def test_a_settlement_goes_as_far_below_zero_as_the_policy_of_its_tier_says(
    ledger: LossyLedger, user_id: UUID
) -> None:
    """The tier that a hold began with holds for its end, too."""
    policies = PolicySet(
        tiers={"default": CreditPolicy(), "trusted": CreditPolicy(name="t", overdraft_max=4)}
    )
    gate = Gate(
        ledger, MemoryStore(starting_credits=3), policies, GateOptions(provision_users=True)
    )
    hold = await gate.hold(user_id, 3, tier="trusted")
    answer = await gate.settle(hold, 9)
    assert (answer.charged, answer.shortfall, answer.credits) == (4, 2, -4)


async def test_a_user_who_is_never_refused_has_its_costs_in_the_metadata(
    ledger: LossyLedger, user_id: UUID
) -> None:
    """Both records are deducts of nothing."""
    policy = CreditPolicy(is_unlimited=True)
    gate = Gate(ledger, MemoryStore(starting_credits=3), policy, GateOptions(provision_users=True))
    hold = await gate.hold(user_id, 50)
    answer = await gate.settle(hold, 70)
    assert (answer.allowed, answer.credits) == (True, 3)
    records = list(ledger.pending.values())
    assert [record.amount for record in records] == [0, 0]
    assert [record.metadata for record in records] == [{"estimate": 50}, {"cost": 70}]


async def test_a_hold_whose_reply_is_lost_is_given_back(
    gate: Gate, ledger: LossyLedger, clock: Clock, user_id: UUID
) -> None:
    """The caller is told that it is unavailable, and nothing stays held."""
    await gate.charge(user_id)
    ledger.lose(Event.TIMED_OUT)
    with pytest.raises(OutcomeUnknownError):
        await gate.hold(user_id, ESTIMATE)
    assert await live(gate, user_id) == (0, 2)
    clock.ms += 1_000
    assert await gate.retries.join(WAIT_S_MAX)
    assert await live(gate, user_id) == (2, 0)


async def test_a_settlement_whose_reply_is_lost_is_made_once(
    gate: Gate, ledger: LossyLedger, user_id: UUID
) -> None:
    """Nothing is raised for what will be done; the retry in the background finds it made."""
    hold = await gate.hold(user_id, ESTIMATE)
    ledger.lost["settle"] = 2
    pending = await gate.settle(hold, 1)
    assert (pending.is_pending, pending.allowed, pending.state) == (True, False, HoldState.UNKNOWN)
    assert await gate.retries.join(WAIT_S_MAX)
    assert ledger.lost["settle"] == 0
    assert (await gate.settle(hold, 1)).repeated
    assert await live(gate, user_id) == (2, 0)
    assert len(ledger.pending) == 2


async def test_a_charge_that_needs_held_credits_ends_expired_holds(
    gate: Gate, clock: Clock, user_id: UUID
) -> None:
    """Without any sweep, a user's own request gives its dead holds back."""
    await gate.hold(user_id, 3, ttl_ms=1_000)
    assert (await gate.charge(user_id)).verdict is Verdict.CREDITS_HELD
    clock.ms += 1_000
    assert (await gate.charge(user_id)).allowed
    assert await live(gate, user_id) == (2, 0)


async def test_the_policy_decides_the_end_of_an_expired_hold(
    ledger: LossyLedger, clock: Clock, user_id: UUID
) -> None:
    """A hold may say otherwise."""
    policy = CreditPolicy(on_expiry=OnExpiry.KEEP)
    gate = Gate(ledger, MemoryStore(starting_credits=3), policy, GateOptions(provision_users=True))
    kept = await gate.hold(user_id, 1, ttl_ms=100)
    returned = await gate.hold(user_id, 1, ttl_ms=100, on_expiry=OnExpiry.GIVE_BACK)
    clock.ms += 100
    answers = [await gate.settle(hold, 0) for hold in (kept, returned)]
    assert [answer.verdict for answer in answers] == [Verdict.HOLD_EXPIRED] * 2
    assert [answer.refunded for answer in answers] == [0, 1]
    assert await live(gate, user_id) == (2, 0)


async def test_a_block_settles_its_hold(gate: Gate, user_id: UUID) -> None:
    """By what it says or, if it says nothing, by the estimate."""
    async with gate.holding(user_id, ESTIMATE) as held:
        assert (await held.extend(90_000)).allowed
        answer = await held.settle(1)
    assert (answer.refunded, await live(gate, user_id)) == (1, (2, 0))
    async with gate.holding(user_id, ESTIMATE) as held:
        assert held.allowed
    assert held.answer is not None
    assert held.answer.state is HoldState.SETTLED
    assert await live(gate, user_id) == (0, 0)


async def test_a_block_that_fails_gives_its_hold_back(gate: Gate, user_id: UUID) -> None:
    """An exception and a cancelled task alike; the exception goes on."""
    with pytest.raises(ZeroDivisionError):
        async with gate.holding(user_id, ESTIMATE):
            raise ZeroDivisionError
    assert await live(gate, user_id) == (3, 0)

    entered = asyncio.Event()

    async def hang() -> None:
        async with gate.holding(user_id, ESTIMATE):
            entered.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(hang())
    await entered.wait()
    assert await live(gate, user_id) == (1, 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await live(gate, user_id) == (3, 0)


async def test_a_block_whose_settlement_is_unknown_is_not_cancelled(
    gate: Gate, ledger: LossyLedger, user_id: UUID
) -> None:
    """The settlement that was asked for is the one that is made."""
    ledger.lost["settle"] = 1

    async def fail_after_it_settled() -> None:
        async with gate.holding(user_id, ESTIMATE) as held:
            assert (await held.settle(1)).is_pending
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_after_it_settled()
    assert await gate.retries.join(WAIT_S_MAX)
    assert await live(gate, user_id) == (2, 0)


async def test_a_block_whose_hold_is_refused_settles_nothing(
    gate: Gate, ledger: LossyLedger, user_id: UUID
) -> None:
    """The block sees the refusal, and nothing is recorded."""
    async with gate.holding(user_id, 4) as held:
        assert held.decision.verdict is Verdict.OUT_OF_CREDITS
    assert held.answer is None
    assert len(ledger.pending) == 0


async def test_arguments_that_are_ill_formed_hold_nothing(gate: Gate, user_id: UUID) -> None:
    """An estimate is at least one credit, and a lifetime within its bounds."""
    with pytest.raises(AmountError):
        await gate.hold(user_id, 0)
    for ttl_ms in (0, 99, 86_400_001, True, 1e3):
        with pytest.raises(InvalidArgumentError):
            await gate.hold(user_id, 1, ttl_ms=ttl_ms)  # type: ignore[arg-type]
    hold = await gate.hold(user_id, 1)
    with pytest.raises(AmountError):
        await gate.settle(hold, -1)
    await gate.cancel(hold)
    with pytest.raises(TransactionConflictError):
        await gate.settle(hold, 1)
    assert await live(gate, user_id) == (3, 0)


async def test_a_settlement_does_not_resolve_the_tier(ledger: LossyLedger, user_id: UUID) -> None:
    """The tier was found with the hold, so a resolver that fails later leaves no hold open."""
    is_down = False

    async def tier_of(_: UUID) -> str:
        if is_down:
            raise RuntimeError("the plans cannot be looked up")
        return "trusted"

    policies = PolicySet(
        tiers={"default": CreditPolicy(), "trusted": CreditPolicy(name="t", overdraft_max=4)}
    )
    options = GateOptions(provision_users=True)
    gate = Gate(ledger, MemoryStore(starting_credits=3), policies, options, tier_of)
    hold = await gate.hold(user_id, 3)
    is_down = True
    answer = await gate.settle(hold, 5)
    assert (answer.charged, answer.credits) == (2, -2)


async def test_an_end_that_contradicts_another_is_not_tried_again(
    gate: Gate, ledger: LossyLedger, user_id: UUID
) -> None:
    """The hold has ended; no later try could change how."""
    hold = await gate.hold(user_id, ESTIMATE)
    await gate.settle(hold, 1)
    with pytest.raises(TransactionConflictError):
        await gate.settle(hold, 2)
    assert await gate.retries.join(timeout_s=10)
    assert await live(gate, user_id) == (2, 0)


async def test_an_end_that_takes_too_long_goes_on_in_the_background(
    ledger: LossyLedger, user_id: UUID
) -> None:
    """After a time of its own, which is longer than that of a decision."""
    options = GateOptions(provision_users=True, decision_timeout_ms=5_000, end_timeout_ms=20)
    gate = Gate(ledger, MemoryStore(starting_credits=3), CreditPolicy(), options)
    hold, released, real = await gate.hold(user_id, ESTIMATE), asyncio.Event(), ledger.settle

    async def hang(settlement: Settlement) -> HoldAnswer:
        await released.wait()
        return await real(settlement)

    ledger.settle = hang
    assert (await asyncio.wait_for(gate.settle(hold, 1), 10)).is_pending
    released.set()
    assert await gate.retries.join(WAIT_S_MAX)
    assert await live(gate, user_id) == (2, 0)


async def test_a_caller_that_gives_up_its_settlement_has_settled(
    gate: Gate, ledger: LossyLedger, user_id: UUID
) -> None:
    """The end goes on in the background."""
    hold, asked, real = await gate.hold(user_id, ESTIMATE), asyncio.Event(), ledger.settle

    async def hang(settlement: Settlement) -> HoldAnswer:
        asked.set()
        await asyncio.sleep(60)
        return await real(settlement)

    ledger.settle = hang
    task = asyncio.create_task(gate.settle(hold, 1))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    ledger.settle = real
    assert await gate.retries.join(WAIT_S_MAX)
    assert await live(gate, user_id) == (2, 0)
