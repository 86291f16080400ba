"""A gate whose Redis decides nothing: nobody waits for it, and it is found when it is back."""

import asyncio
import time
from dataclasses import replace
from uuid import uuid4

import pytest

from faregate import BreakerState, CreditPolicy, Decision, Gate
from faregate.adapters.memory.books import MemoryBooks
from faregate.adapters.memory.shadows import MemoryShadows
from faregate.domain.errors import (
    AmountError,
    LedgerUnavailableError,
    OutcomeUnknownError,
    UnresolvedError,
)
from faregate.domain.identity import LedgerIdentity
from faregate.domain.policy import BreakerOptions
from faregate.domain.request import Charge
from journals import OPTIONS, FailingLedger, Outage
from lossy_ledger import Clock
from waiting import WAIT_S_MAX

FAILURES_MAX = 3
#: As good as never, and as good as at once, in milliseconds.
LONG, SHORT = 60_000, 1


def options_of(delay_ms: int) -> BreakerOptions:
    return BreakerOptions(failures_max=FAILURES_MAX, delay_ms_min=delay_ms, delay_ms_max=delay_ms)


async def broken(delay_ms: int) -> Outage:
    """Return an outage at whose beginning the breaker has just opened."""
    options = replace(OPTIONS, breaker=options_of(delay_ms), decision_timeout_ms=LONG)
    outage = await Outage.prepare(options)
    outage.ledger.down = True
    for _ in range(FAILURES_MAX):
        with pytest.raises(LedgerUnavailableError, match="down"):
            await outage.gate.charge(outage.user_id)
    assert outage.gate.health().breaker is BreakerState.OPEN
    return outage


async def test_while_it_is_open_nobody_asks_redis() -> None:
    """Requests are refused, or served open, at once; nothing is to be voided, since none is sent.

    The time is shown and not asserted: a machine may be busy.
    """
    outage = await broken(LONG)
    asked = outage.ledger.asked
    began_s = time.perf_counter()
    for _ in range(1_000):
        with pytest.raises(LedgerUnavailableError, match="of late"):
            await outage.gate.charge(outage.user_id)
    print(f"refused in {(time.perf_counter() - began_s) * 1_000:.0f} us each")  # noqa: T201
    assert (await outage.charge()).journaled
    with pytest.raises(LedgerUnavailableError):
        await outage.gate.hold(outage.user_id, 1)
    with pytest.raises(LedgerUnavailableError):
        await outage.gate.balance(outage.user_id)
    assert outage.ledger.asked == asked
    assert len(outage.gate.retries) == 0
    health = outage.gate.health()
    assert (health.breaker_opened, health.served_open) == (1, 1)
    assert health.journal is not None
    assert health.journal.requests == 1


async def test_the_first_answer_after_the_outage_is_a_decision() -> None:
    """There is no ping: a request finds out, and is charged."""
    outage = await broken(SHORT)
    outage.ledger.down = False
    await asyncio.sleep(0.01)
    asked = outage.ledger.asked
    decision = await outage.gate.charge(outage.user_id)
    assert (decision.allowed, decision.journaled, decision.credits) == (True, False, 2)
    assert outage.ledger.asked == asked + 1
    assert outage.gate.health().breaker is BreakerState.CLOSED


async def test_one_request_at_a_time_waits_for_redis() -> None:
    """While the probe is on its way, the others are refused; one that is cancelled frees it."""
    outage = await broken(SHORT)
    outage.ledger.down = False
    hangs = asyncio.Event()
    real = outage.ledger.charge

    async def hang(charge: Charge) -> Decision:
        hangs.set()
        await asyncio.sleep(60)
        return await real(charge)

    outage.ledger.charge = hang  # type: ignore[method-assign]
    await asyncio.sleep(0.01)
    probe = asyncio.create_task(outage.gate.charge(outage.user_id))
    await hangs.wait()
    assert outage.gate.health().breaker is BreakerState.HALF_OPEN
    with pytest.raises(LedgerUnavailableError, match="of late"):
        await outage.gate.charge(outage.user_id)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    outage.ledger.charge = real  # type: ignore[method-assign]
    assert (await outage.gate.charge(outage.user_id)).allowed


async def test_what_says_nothing_of_redis_opens_nothing() -> None:
    """Whoever cannot be told from a retry, or asks for nonsense, is alone with that."""
    outage = await Outage.prepare(replace(OPTIONS, breaker=options_of(LONG)))

    async def unresolved(charge: Charge) -> Decision:
        raise UnresolvedError(f"too many records since {charge.transaction_id}")

    real, outage.ledger.charge = outage.ledger.charge, unresolved  # type: ignore[method-assign]
    for _ in range(2 * FAILURES_MAX):
        with pytest.raises(UnresolvedError):
            await outage.gate.charge(outage.user_id)
    outage.ledger.charge = real  # type: ignore[method-assign]
    for _ in range(2 * FAILURES_MAX):
        with pytest.raises(AmountError):
            await outage.gate.charge(outage.user_id, cost=-1)
    assert outage.gate.health().breaker is BreakerState.CLOSED


async def test_lost_answers_open_it_and_their_attempts_are_voided() -> None:
    """Each attempt that was sent is given back; those that were not need nothing."""
    outage = await Outage.prepare(replace(OPTIONS, breaker=options_of(LONG)))
    outage.ledger.lossy = True
    outcomes = [await outcome_of(outage) for _ in range(2 * FAILURES_MAX)]
    assert outcomes == [*[OutcomeUnknownError] * 3, *[LedgerUnavailableError] * 3]
    outage.ledger.lossy = False
    outage.clock.ms += 1_000
    assert len(outage.gate.retries) == FAILURES_MAX
    assert await outage.gate.retries.join(WAIT_S_MAX)
    user = await outage.ledger.read(outage.user_id)
    assert user is not None
    assert user.credits == 3


async def outcome_of(outage: Outage) -> type[Exception] | None:
    """Charge; return what was raised."""
    try:
        await outage.gate.charge(outage.user_id)
    except LedgerUnavailableError as error:
        return type(error)
    return None


async def test_a_refund_is_not_waited_for_either() -> None:
    """It is made in the background, once Redis is back, and the error is raised at once."""
    outage = await Outage.prepare(replace(OPTIONS, breaker=options_of(LONG)))
    decision = await outage.gate.charge(outage.user_id)
    outage.ledger.down = True
    for _ in range(FAILURES_MAX):
        await outcome_of(outage)
    with pytest.raises(LedgerUnavailableError, match="of late"):
        await outage.gate.refund(decision)
    outage.ledger.down = False
    assert await outage.gate.retries.join(WAIT_S_MAX)
    user = await outage.ledger.read(outage.user_id)
    assert user is not None
    assert user.credits == 3


async def test_a_gate_that_cannot_start_is_waited_for_once() -> None:
    """The first requests wait for the first try; later ones no longer than for a decision."""

    class Slow(MemoryBooks):
        hangs = False
        asked = 0

        async def identity(self) -> LedgerIdentity:
            Slow.asked += 1
            if Slow.hangs:
                await asyncio.sleep(60)
            return await super().identity()

    ledger = FailingLedger(Clock())
    ledger.down = True
    gate = Gate(ledger, Slow(), CreditPolicy(), replace(OPTIONS, decision_timeout_ms=20))
    with pytest.raises(LedgerUnavailableError, match="down"):
        await gate.charge(uuid4())
    Slow.hangs = True
    for _ in range(2):
        with pytest.raises(LedgerUnavailableError, match="not started"):
            await gate.charge(uuid4())
    assert Slow.asked == 2, "the second try goes on behind those who wait for it"
    await gate.aclose()


async def test_an_outage_does_not_hold_up_what_is_only_observed() -> None:
    """A policy that is tried out serves all the same, without a wait."""
    outage = await broken(LONG)
    shadow = CreditPolicy(name="tried", is_shadow=True)
    gate = Gate(
        outage.ledger, outage.books, shadow, OPTIONS, shadows=MemoryShadows(now_ms=outage.clock)
    )
    gate._breaker = outage.gate._breaker
    assert (await gate.charge(outage.user_id)).allowed
    assert sum((await gate.shadow_counts("tried")).values()) == 0


async def test_what_can_be_made_later_is_waited_for_as_long_as_for_a_decision() -> None:
    """A Redis that hangs holds no response up: refund, balance and completion give up in time."""
    outage = await Outage.prepare(replace(OPTIONS, decision_timeout_ms=20))
    decision = await outage.gate.charge(outage.user_id, idempotency_key="once")
    released = asyncio.Event()

    async def hang(*_: object) -> None:
        await released.wait()
        raise LedgerUnavailableError("it was too late")

    names = ("refund", "read", "complete")
    real = {name: getattr(outage.ledger, name) for name in names}
    for name in names:
        setattr(outage.ledger, name, hang)
    calls = (
        outage.gate.refund(decision),
        outage.gate.balance(outage.user_id),
        outage.gate.complete(decision),
    )
    for call in calls:
        with pytest.raises(LedgerUnavailableError, match=r"within 0\.020 s"):
            await asyncio.wait_for(call, WAIT_S_MAX)
    for name in names:
        setattr(outage.ledger, name, real[name])
    released.set()
    assert await outage.gate.retries.join(WAIT_S_MAX)
    assert await outage.live() == 3
