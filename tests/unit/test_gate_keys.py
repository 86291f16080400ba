"""Idempotency keys through the gate: one charge for a key, and who serves its request."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from faregate import CreditPolicy, CreditTransactionId, Decision, Gate, KeyState, Verdict
from faregate.adapters.memory.store import MemoryStore
from faregate.domain.attempt import Event
from faregate.domain.errors import AmountError, InvalidArgumentError, OutcomeUnknownError
from faregate.domain.idempotency import RESPONSE_BYTES_MAX
from faregate.domain.policy import GateOptions
from lossy_ledger import Clock, LossyLedger
from waiting import WAIT_S_MAX

LEASE_MS = 10_000
LIFETIME_MS = 60_000
KEYS_MAX = 2


@pytest.fixture
def gate(ledger: LossyLedger) -> Gate:
    options = GateOptions(
        provision_users=True,
        idempotency_lease_ms=LEASE_MS,
        idempotency_lifetime_ms=LIFETIME_MS,
        idempotency_keys_max=KEYS_MAX,
    )
    policy = CreditPolicy(starting_credits=9, cost_max=5)
    return Gate(ledger, MemoryStore(starting_credits=9), policy, options)


async def order(gate: Gate, user_id: UUID, cost: int = 2, **rest: Any) -> Decision:
    """Ask for the one request of these tests."""
    return await gate.charge(user_id, cost=cost, idempotency_key="order", **rest)


async def test_a_key_charges_once_and_shows_which_attempt_must_serve(
    gate: Gate, ledger: LossyLedger, user_id: UUID
) -> None:
    """The first serves; the others wait until it is done, and then serve nothing."""
    first = await order(gate, user_id)
    waiting = await order(gate, user_id)
    assert (first.key_state, waiting.key_state) == (KeyState.NEW, KeyState.IN_FLIGHT)
    assert (waiting.repeated, waiting.credits) == (True, first.credits)
    assert waiting.transaction_id == first.transaction_id
    assert not await gate.complete(waiting), "who waits has served nothing"
    assert (await order(gate, user_id)).key_state is KeyState.IN_FLIGHT
    assert await gate.complete(first)
    assert await gate.complete(first)
    assert (await order(gate, user_id)).key_state is KeyState.DONE
    assert len(ledger.pending) == 1


async def test_a_decision_without_a_key_completes_nothing(gate: Gate, user_id: UUID) -> None:
    """Nor does a refusal; neither asks the ledger."""
    await order(gate, user_id)
    assert not await gate.complete(await gate.charge(user_id))
    refused = await order(gate, user_id, fingerprint="other")
    assert (refused.verdict, refused.key_state) == (Verdict.KEY_REUSED, None)
    assert not await gate.complete(refused)
    assert (await order(gate, user_id)).key_state is KeyState.IN_FLIGHT


async def test_the_same_key_for_another_request_is_refused(
    gate: Gate, ledger: LossyLedger, user_id: UUID
) -> None:
    """By its fingerprint; without one, by what it costs, and whether it is held."""
    await order(gate, user_id)
    await gate.charge(user_id, cost=1, idempotency_key="named", fingerprint="GET /")
    again = await gate.charge(user_id, cost=3, idempotency_key="named", fingerprint="GET /")
    assert (again.repeated, again.amount) == (True, -1)
    others = [
        await gate.charge(user_id, cost=1, idempotency_key="named", fingerprint="GET /other"),
        await order(gate, user_id, 3),
        (await gate.hold(user_id, 2, idempotency_key="order")).decision,
    ]
    assert {decision.verdict for decision in others} == {Verdict.KEY_REUSED}
    assert len(ledger.pending) == 2


async def test_a_request_whose_server_died_is_taken_over(
    gate: Gate, clock: Clock, user_id: UUID
) -> None:
    """After the lease, by one of those who ask, for the charge that was made."""
    first = await order(gate, user_id)
    clock.ms += LEASE_MS
    second, third = await order(gate, user_id), await order(gate, user_id)
    assert (second.key_state, third.key_state) == (KeyState.TAKEN_OVER, KeyState.IN_FLIGHT)
    assert second.transaction_id == first.transaction_id
    assert await gate.complete(second)
    assert (await order(gate, user_id)).key_state is KeyState.DONE
    clock.ms += LIFETIME_MS - LEASE_MS
    assert (await order(gate, user_id)).key_state is KeyState.NEW


async def test_a_slow_request_that_was_taken_over_gives_nothing_back(
    gate: Gate, clock: Clock, user_id: UUID
) -> None:
    """What it paid for is the other one's; a person may give it back."""
    slow = await order(gate, user_id)
    clock.ms += LEASE_MS
    other = await order(gate, user_id)
    assert (slow.keyed_attempt, other.keyed_attempt) == (slow.transaction_id, other.attempt_id)
    refused = await gate.refund(slow)
    assert (refused.verdict, refused.credits) == (Verdict.TAKEN_OVER, 7)
    assert await gate.complete(other)
    assert (await gate.refund(slow)).verdict is Verdict.TAKEN_OVER
    assert (await order(gate, user_id)).key_state is KeyState.DONE
    by_hand = await gate.refund_by_id(user_id, slow.transaction_id)
    assert (by_hand.verdict, by_hand.credits) == (Verdict.ALLOWED, 9)


async def test_an_attempt_that_has_taken_over_gives_back_no_served_request(
    gate: Gate, clock: Clock, user_id: UUID
) -> None:
    """The slow one was served after all, before the other one failed."""
    slow = await order(gate, user_id)
    clock.ms += LEASE_MS
    other = await order(gate, user_id)
    assert await gate.complete(slow)
    assert (await gate.refund(other)).verdict is Verdict.TAKEN_OVER
    assert (await order(gate, user_id)).key_state is KeyState.DONE


async def test_a_slow_hold_that_was_taken_over_is_not_cancelled(
    gate: Gate, clock: Clock, user_id: UUID
) -> None:
    """It is the other one's to settle."""
    slow = await gate.hold(user_id, 3, ttl_ms=LIFETIME_MS, idempotency_key="job")
    clock.ms += LEASE_MS
    other = await gate.hold(user_id, 3, ttl_ms=LIFETIME_MS, idempotency_key="job")
    assert (await gate.cancel(slow)).verdict is Verdict.TAKEN_OVER
    assert (await gate.settle(other, 2)).credits == 7


async def test_only_so_many_keys_are_remembered(gate: Gate, user_id: UUID) -> None:
    """One more is refused, and nothing is charged."""
    for number in range(KEYS_MAX):
        assert (await gate.charge(user_id, idempotency_key=f"key {number}")).allowed
    refused = await gate.charge(user_id, idempotency_key="one more")
    assert (refused.verdict, refused.credits) == (Verdict.TOO_MANY_KEYS, 7)
    assert (await gate.charge(user_id)).allowed


async def test_a_refunded_request_may_be_made_again(gate: Gate, user_id: UUID) -> None:
    """Wholly: a part that is given back leaves the rest of the request paid, and known."""
    first = await order(gate, user_id)
    await gate.refund(first, amount=1, transaction_id=CreditTransactionId(uuid4()))
    assert (await order(gate, user_id)).key_state is KeyState.IN_FLIGHT
    await gate.refund(first)
    second = await order(gate, user_id)
    assert (second.key_state, second.credits) == (KeyState.NEW, 7)
    assert not await gate.complete(first)
    assert (await order(gate, user_id)).key_state is KeyState.IN_FLIGHT


async def test_a_hold_has_a_key(gate: Gate, user_id: UUID) -> None:
    """A retry is told of the same hold, which either of them settles; that completes it."""
    first = await gate.hold(user_id, 3, idempotency_key="job")
    retry = await gate.hold(user_id, 3, idempotency_key="job")
    assert (first.decision.key_state, retry.decision.key_state) == (
        KeyState.NEW,
        KeyState.IN_FLIGHT,
    )
    assert (retry.id, retry.estimate, retry.expires_at_ms) == (
        first.id,
        first.estimate,
        first.expires_at_ms,
    )
    answer = await gate.settle(retry, 1)
    assert (answer.refunded, answer.credits) == (2, 8)
    done = await gate.hold(user_id, 3, idempotency_key="job")
    assert done.decision.key_state is KeyState.DONE
    again = await gate.hold(user_id, 3, idempotency_key="other job")
    await gate.cancel(again)
    fresh = await gate.hold(user_id, 3, idempotency_key="other job")
    assert (fresh.decision.key_state, fresh.id != again.id) == (KeyState.NEW, True)


async def test_a_response_is_saved_for_retries(gate: Gate, clock: Clock, user_id: UUID) -> None:
    """As long as the key is, within a bound, and for whoever is told of the charge."""
    first = await order(gate, user_id)
    assert await gate.saved_response(first) is None
    with pytest.raises(InvalidArgumentError, match="at most 1048576 bytes"):
        await gate.complete(first, b"x" * (RESPONSE_BYTES_MAX + 1))
    assert await gate.complete(first, b"the response")
    retry = await order(gate, user_id)
    assert (retry.key_state, await gate.saved_response(retry)) == (KeyState.DONE, b"the response")
    clock.ms += LIFETIME_MS + 1
    assert await gate.saved_response(retry) is None


async def test_a_completion_that_is_lost_is_made_later(
    gate: Gate, ledger: LossyLedger, user_id: UUID
) -> None:
    """Nothing is raised, and no retry serves the request again."""
    first = await order(gate, user_id)
    ledger.lost["complete"] = 2
    assert await gate.complete(first, b"the response")
    assert await gate.retries.join(WAIT_S_MAX)
    retry = await order(gate, user_id)
    assert (retry.key_state, await gate.saved_response(retry)) == (KeyState.DONE, b"the response")


async def test_a_charge_whose_reply_is_lost_leaves_its_key_free(
    gate: Gate, ledger: LossyLedger, clock: Clock, user_id: UUID
) -> None:
    """It is voided, and the client that asks again is charged once."""
    await gate.charge(user_id)
    ledger.lose(Event.TIMED_OUT)
    with pytest.raises(OutcomeUnknownError):
        await order(gate, user_id)
    clock.ms += 1_000
    assert await gate.retries.join(WAIT_S_MAX)
    again = await order(gate, user_id)
    assert (again.key_state, again.repeated, again.credits) == (KeyState.NEW, False, 6)


@pytest.mark.parametrize("bad", ["", "x" * 256, "ü" * 128, 5, b"key"])
async def test_a_key_that_is_none_is_refused(
    gate: Gate, ledger: LossyLedger, user_id: UUID, bad: Any
) -> None:
    """It is text of 1 to 255 bytes, in charges and holds."""
    with pytest.raises(InvalidArgumentError, match="255 bytes"):
        await gate.charge(user_id, idempotency_key=bad)
    with pytest.raises(InvalidArgumentError, match="255 bytes"):
        await gate.hold(user_id, 1, idempotency_key=bad)
    assert not ledger.pending


async def test_a_request_costs_no_more_than_the_policy_lets_it(
    gate: Gate, ledger: LossyLedger, user_id: UUID
) -> None:
    """It is an error of the caller, and nothing is written or remembered."""
    assert (await gate.charge(user_id, cost=5)).allowed
    for cost in (6, 2**31 - 1):
        with pytest.raises(AmountError, match="5 at most"):
            await order(gate, user_id, cost)
        with pytest.raises(AmountError, match="5 at most"):
            await gate.hold(user_id, cost, idempotency_key="order")
    assert len(ledger.pending) == 1
    assert (await order(gate, user_id)).key_state is KeyState.NEW
    with pytest.raises(AmountError):
        CreditPolicy(request_cost=6, cost_max=5)


async def test_a_lease_ends_with_the_lifetime_of_its_key(
    ledger: LossyLedger, user_id: UUID
) -> None:
    """A lifetime below the lease of those who said nothing of leases refuses no request."""
    options = GateOptions(provision_users=True, idempotency_lifetime_ms=LIFETIME_MS)
    gate = Gate(ledger, MemoryStore(starting_credits=9), CreditPolicy(starting_credits=9), options)
    assert (await order(gate, user_id)).key_state is KeyState.NEW


async def test_a_key_that_cannot_be_written_is_refused(gate: Gate, user_id: UUID) -> None:
    """For a grant as for a charge."""
    with pytest.raises(InvalidArgumentError):
        await gate.charge(user_id, idempotency_key="\ud800")
    with pytest.raises(InvalidArgumentError):
        await gate.grant(user_id, 1, idempotency_key="\ud800")
