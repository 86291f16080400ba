"""Holds that are served without a decision: they cost what they are settled by."""

import pytest

from faregate import FailureMode, Hold, HoldState, OnExpiry
from faregate.domain.journal import Collected, Collection
from journals import Outage

ESTIMATE = 2
TTL_MS = 60_000


@pytest.fixture
async def outage() -> Outage:
    prepared = await Outage.prepare()
    # Journaled holds expire by the time of the machine.
    prepared.clock.ms = 0
    prepared.ledger.is_down = True
    return prepared


async def hold(outage: Outage, on_expiry: OnExpiry | None = None, tier: str | None = None) -> Hold:
    """Hold an estimate that nobody can take."""
    held = await outage.gate.hold(
        outage.user_id,
        ESTIMATE,
        ttl_ms=TTL_MS,
        on_expiry=on_expiry,
        tier=tier,
        on_failure=FailureMode.OPEN,
    )
    assert held.allowed
    assert held.decision.journaled
    return held


async def collect(outage: Outage, *, after_ms: int = 0) -> list[Collected]:
    """Collect when Redis is back, so long after the holds began."""
    outage.ledger.is_down = False
    began_ms = max((one.served_at_ms for one in outage.journal.entries), default=0)
    outage.clock.ms = began_ms + after_ms
    return await outage.collect()


@pytest.mark.parametrize(
    ("actual", "refunded", "charged"), [(0, 2, 0), (1, 1, 0), (2, 0, 0), (3, 0, 1)]
)
async def test_a_hold_costs_its_settled_amount(
    outage: Outage, actual: int, refunded: int, charged: int
) -> None:
    """Less than the estimate or more, as far as there is enough; its time does not matter then."""
    held = await hold(outage)
    assert held.estimate == ESTIMATE
    answer = await outage.gate.settle(held, actual)
    assert (answer.state, answer.refunded, answer.charged) == (
        HoldState.SETTLED,
        refunded,
        charged,
    )
    await collect(outage)
    assert await outage.live() == 3 - actual


async def test_a_hold_that_is_cancelled_costs_nothing(outage: Outage) -> None:
    """Nothing is left to collect."""
    held = await hold(outage)
    assert (await outage.gate.cancel(held)).state is HoldState.CANCELLED
    assert [one.outcome for one in await collect(outage)] == [Collection.CANCELLED]
    assert not outage.ledger.pending


@pytest.mark.parametrize(
    ("on_expiry", "left"), [(None, 3), (OnExpiry.GIVE_BACK, 3), (OnExpiry.KEEP, 1)]
)
async def test_an_unsettled_hold_is_kept_or_given_back(
    outage: Outage, on_expiry: OnExpiry | None, left: int
) -> None:
    """As was said when it began; before its time is over it is left alone."""
    await hold(outage, on_expiry)
    (still,) = await collect(outage, after_ms=TTL_MS - 1)
    assert still.outcome is Collection.OPEN
    assert await outage.live() == 3
    await collect(outage, after_ms=TTL_MS)
    assert await outage.live() == left


async def test_a_hold_that_is_extended_is_open_for_longer(outage: Outage) -> None:
    """By the time that the answer tells."""
    held = await hold(outage, OnExpiry.KEEP)
    answer = await outage.gate.extend(held, 10 * TTL_MS)
    assert answer.state is HoldState.OPEN
    assert answer.expires_at_ms > held.expires_at_ms
    (still,) = await collect(outage, after_ms=9 * TTL_MS)
    assert still.outcome is Collection.OPEN
    await collect(outage, after_ms=11 * TTL_MS)
    assert await outage.live() == 1


async def test_a_block_settles_its_hold_and_an_exception_cancels_it(outage: Outage) -> None:
    """The block of `holding` knows nothing of the outage."""
    terms = {"on_failure": FailureMode.OPEN}
    async with outage.gate.holding(outage.user_id, ESTIMATE, **terms) as held:  # type: ignore[arg-type]
        await held.settle(1)
    async with outage.gate.holding(outage.user_id, 1, **terms):  # type: ignore[arg-type]
        pass
    with pytest.raises(ZeroDivisionError):
        async with outage.gate.holding(outage.user_id, 1, **terms):  # type: ignore[arg-type]
            raise ZeroDivisionError
    await collect(outage)
    assert await outage.live() == 1


async def test_a_charge_of_an_unlimited_user_is_recorded_with_its_cost(outage: Outage) -> None:
    """One row of nothing, which tells the cost."""
    held = await hold(outage, tier="admin")
    await outage.gate.settle(held, 5)
    await collect(outage)
    (record,) = outage.ledger.pending.values()
    assert record.amount == 0
    assert (record.metadata or {})["journal"]["cost"] == 5  # type: ignore[index]


async def test_a_hold_that_was_made_after_a_lost_answer_is_voided(outage: Outage) -> None:
    """Its answer was lost; the import gives it back and takes what it cost."""
    outage.ledger.is_down = False
    outage.ledger.is_lossy = True
    outage.clock.ms = 1_800_000_000_000
    held = await hold(outage)
    outage.ledger.is_lossy = False
    outage.clock.ms += 1_000
    await outage.gate.settle(held, 1)
    assert await outage.live() == 1
    await outage.collect()
    assert await outage.live() == 2
