"""A gate whose Redis decides nothing: nobody waits for it, and it is found when it is back."""

import asyncio
import time
from dataclasses import replace
from uuid import uuid4

import pytest

from faregate import BreakerState, CreditPolicy, Decision, Gate, Verdict
from faregate.adapters.memory.store import MemoryStore
from faregate.domain.attempt import Attempt
from faregate.domain.errors import (
    AmountError,
    LedgerUnavailableError,
    OutcomeUnknownError,
    UnresolvedError,
)
from faregate.domain.identity import LedgerIdentity
from faregate.domain.policy import BreakerOptions
from journals import OPTIONS, Outage
from lossy_ledger import Clock, LossyLedger
from waiting import WAIT_S_MAX

FAILURES_MAX = 3
#: As good as never, and as good as at once, in milliseconds.
LONG, SHORT = 60_000, 1


def options_of(delay_ms: int) -> BreakerOptions:
    return BreakerOptions(failures_max=FAILURES_MAX, delay_ms_min=delay_ms, delay_ms_max=delay_ms)


async def broken(delay_ms: int) -> Outage:
    """Return an outage at whose beginning the breaker has just opened."""
    outage = await Outage.prepare(replace(OPTIONS, breaker=options_of(delay_ms)))
    outage.ledger.is_down = True
    for _ in range(FAILURES_MAX):
        with pytest.raises(LedgerUnavailableError, match="down"):
            await outage.gate.charge(outage.user_id)
    assert outage.gate.health().breaker is BreakerState.OPEN
    return outage


def let_a_probe_pass(outage: Outage) -> None:
    """End the delay of the breaker: what is made in the background finds out, too."""
    outage.gate._session.breakers.of("memory")._probe_at_s = 0.0


async def test_while_it_is_open_no_call_reaches_redis() -> None:
    """Requests are refused, or served open, at once; nothing is to be voided, since none is sent.

    The time is shown and not asserted: a machine may be busy.
    """
    outage = await broken(LONG)
    asked = outage.ledger.asked
    began_s = time.perf_counter()
    for _ in range(1_000):
        with pytest.raises(LedgerUnavailableError, match="circuit breaker is open"):
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
    outage.ledger.is_down = False
    await asyncio.sleep(0.01)
    asked = outage.ledger.asked
    decision = await outage.gate.charge(outage.user_id)
    assert (decision.allowed, decision.journaled, decision.credits) == (True, False, 2)
    assert outage.ledger.asked == asked + 1
    assert outage.gate.health().breaker is BreakerState.CLOSED


async def test_one_request_at_a_time_waits_for_redis() -> None:
    """While the probe is on its way, the others are refused; one that is cancelled frees it."""
    outage = await broken(SHORT)
    outage.ledger.is_down = False
    hangs = asyncio.Event()
    real = outage.ledger.decide

    async def hang(attempt: Attempt) -> Decision:
        hangs.set()
        await asyncio.sleep(60)
        return await real(attempt)

    outage.ledger.decide = hang  # type: ignore[method-assign]
    await asyncio.sleep(0.01)
    probe = asyncio.create_task(outage.gate.charge(outage.user_id))
    await hangs.wait()
    assert outage.gate.health().breaker is BreakerState.HALF_OPEN
    with pytest.raises(LedgerUnavailableError, match="circuit breaker is open"):
        await outage.gate.charge(outage.user_id)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    outage.ledger.decide = real  # type: ignore[method-assign]
    assert (await outage.gate.charge(outage.user_id)).allowed


async def test_errors_unrelated_to_redis_do_not_open_the_breaker() -> None:
    """Whoever cannot be told from a retry, or asks for nonsense, is alone with that."""
    outage = await Outage.prepare(replace(OPTIONS, breaker=options_of(LONG)))

    async def unresolved(attempt: Attempt) -> Decision:
        raise UnresolvedError(f"too many records since {attempt.transaction_id}")

    real, outage.ledger.decide = outage.ledger.decide, unresolved  # type: ignore[method-assign]
    for _ in range(2 * FAILURES_MAX):
        with pytest.raises(UnresolvedError):
            await outage.gate.charge(outage.user_id)
    outage.ledger.decide = real  # type: ignore[method-assign]
    for _ in range(2 * FAILURES_MAX):
        with pytest.raises(AmountError):
            await outage.gate.charge(outage.user_id, cost=-1)
    assert outage.gate.health().breaker is BreakerState.CLOSED


async def test_lost_answers_open_it_and_their_attempts_are_voided() -> None:
    """Each attempt that was sent is given back; those that were not need nothing."""
    outage = await Outage.prepare(replace(OPTIONS, breaker=options_of(LONG)))
    outage.ledger.is_lossy = True
    outcomes = [await outcome_of(outage) for _ in range(2 * FAILURES_MAX)]
    assert outcomes == [*[OutcomeUnknownError] * 3, *[LedgerUnavailableError] * 3]
    outage.ledger.is_lossy = False
    outage.clock.ms += 1_000
    let_a_probe_pass(outage)
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
    """It is made in the background, once Redis is back, and its answer says so at once."""
    outage = await Outage.prepare(replace(OPTIONS, breaker=options_of(LONG)))
    decision = await outage.gate.charge(outage.user_id)
    outage.ledger.is_down = True
    for _ in range(FAILURES_MAX):
        await outcome_of(outage)
    assert (await outage.gate.refund(decision)).is_pending
    outage.ledger.is_down = False
    let_a_probe_pass(outage)
    assert await outage.gate.retries.join(WAIT_S_MAX)
    user = await outage.ledger.read(outage.user_id)
    assert user is not None
    assert user.credits == 3


async def test_a_gate_that_cannot_start_is_waited_for_once() -> None:
    """The first requests wait for the first try; later ones no longer than for a decision."""

    class Slow(MemoryStore):
        hangs = False
        asked = 0

        async def identity(self) -> LedgerIdentity:
            Slow.asked += 1
            if Slow.hangs:
                await asyncio.sleep(60)
            return await super().identity()

    ledger = LossyLedger(Clock())
    ledger.is_down = True
    gate = Gate(ledger, Slow(), CreditPolicy(), replace(OPTIONS, decision_timeout_ms=20))
    with pytest.raises(LedgerUnavailableError, match="down"):
        await gate.charge(uuid4())
    Slow.hangs = True
    for _ in range(2):
        with pytest.raises(LedgerUnavailableError, match="not started"):
            await gate.charge(uuid4())
    assert Slow.asked == 2, "the second try goes on behind those who wait for it"
    await gate.aclose()


async def test_an_outage_does_not_delay_requests_of_a_shadow_policy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A policy that is tried out serves all the same, without a wait, and in one line of log."""
    shadow = CreditPolicy(name="tried", is_shadow=True)
    outage = await Outage.prepare(replace(OPTIONS, breaker=options_of(LONG)))
    gate = Gate(outage.ledger, outage.store, shadow, replace(OPTIONS, breaker=options_of(LONG)))
    await gate.start()
    outage.ledger.is_down = True
    for _ in range(50):
        decision = await gate.charge(outage.user_id)
        assert (decision.allowed, decision.shadow) == (True, Verdict.UNDECIDED)
    assert outage.ledger.asked == FAILURES_MAX
    assert sum("shadow decision missing" in record.getMessage() for record in caplog.records) == 1
    outage.ledger.is_down = False
    assert sum((await outage.gate.shadow_counts("tried")).values()) == 0


async def test_calls_beside_decisions_have_a_time_of_their_own() -> None:
    """A Redis that hangs holds no response up: they give up, or go on in the background."""
    outage = await Outage.prepare(replace(OPTIONS, end_timeout_ms=20))
    decision = await outage.gate.charge(outage.user_id, idempotency_key="once")
    released = asyncio.Event()

    async def hang(*_: object) -> None:
        await released.wait()
        raise LedgerUnavailableError("it was too late")

    names = ("refund", "read", "complete")
    real = {name: getattr(outage.ledger, name) for name in names}
    for name in names:
        setattr(outage.ledger, name, hang)
    assert (await asyncio.wait_for(outage.gate.refund(decision), 10)).is_pending
    assert await asyncio.wait_for(outage.gate.complete(decision), 10)
    with pytest.raises(LedgerUnavailableError, match=r"within 0\.020 s"):
        await asyncio.wait_for(outage.gate.balance(outage.user_id), 10)
    for name in names:
        setattr(outage.ledger, name, real[name])
    released.set()
    assert await outage.gate.retries.join(WAIT_S_MAX)
    assert await outage.live() == 3
