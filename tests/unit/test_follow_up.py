"""The gate asks again, voids and refuses as the table of attempts says."""

import asyncio
from dataclasses import replace
from uuid import UUID

import pytest

from faregate import CreditPolicy, CreditTransactionId, Decision, Gate, Verdict
from faregate.adapters.memory.store import MemoryStore
from faregate.domain.attempt import (
    Attempt,
    AttemptError,
    Event,
)
from faregate.domain.errors import (
    AmountError,
    LedgerCorruptError,
    LedgerUnavailableError,
    LedgerUninitialisedError,
    OutcomeUnknownError,
    TransactionConflictError,
    TransactionIdError,
    UnresolvedError,
)
from faregate.domain.policy import GateOptions
from lossy_ledger import Clock, LossyLedger
from waiting import WAIT_S_MAX


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(starting_credits=3)


@pytest.fixture
async def gate(ledger: LossyLedger, store: MemoryStore, user_id: UUID) -> Gate:
    """A gate whose ledger knows the user."""
    made = Gate(ledger, store, CreditPolicy(), GateOptions(provision_users=True))
    await made.balance(user_id)
    return made


async def settled(gate: Gate, ledger: LossyLedger, clock: Clock, user_id: UUID) -> list[int]:
    """Let all voids be made; return the amounts that were recorded."""
    clock.ms += 1_000
    assert await gate.retries.join(WAIT_S_MAX)
    records = [record for record in ledger.pending.values() if record.user_id == user_id]
    user = await gate.balance(user_id)
    assert user is not None
    assert user.credits == 3 + sum(record.amount for record in records)
    return [record.amount for record in records]


L, T, A, N, S = Event.LOST, Event.TIMED_OUT, Event.AHEAD, Event.NOT_SENT, Event.SHED


@pytest.mark.parametrize(
    ("script", "error", "records"),
    [
        # The first answer is lost, the second one is the answer to the retry.
        ([(L, True)], None, [-1]),
        ([(L, False)], None, [-1]),
        # There is no third try with the same id.
        ([(L, True), (L, True)], OutcomeUnknownError, [-1, 1]),
        ([(L, False), (L, False)], OutcomeUnknownError, []),
        ([(L, True), (T, True)], OutcomeUnknownError, [-1, 1]),
        ([(L, True), (N, False)], OutcomeUnknownError, [-1, 1]),
        ([(L, True), (S, False)], OutcomeUnknownError, [-1, 1]),
        ([(L, True), (A, False)], OutcomeUnknownError, [-1, 1]),
        # No answer by the deadline is not asked again.
        ([(T, True)], OutcomeUnknownError, [-1, 1]),
        ([(T, False)], OutcomeUnknownError, []),
        # A clock that is ahead costs a new id, twice at most.
        ([(A, False)], None, [-1]),
        ([(A, False), (A, False)], None, [-1]),
        ([(A, False), (A, False), (A, False)], LedgerUnavailableError, []),
        ([(A, False), (L, True)], None, [-1]),
        # Nothing was sent.
        ([(N, False)], LedgerUnavailableError, []),
    ],
    ids=str,
)
async def test_the_gate_asks_again_or_voids_as_the_table_says(
    gate: Gate,
    ledger: LossyLedger,
    clock: Clock,
    user_id: UUID,
    script: list[tuple[Event, bool]],
    error: type[Exception] | None,
    records: list[int],
) -> None:
    """Nobody is charged for what was answered as not charged, and nobody twice."""
    ledger.script += script
    raised: Exception | None = None
    try:
        assert (await gate.charge(user_id)).allowed
    except LedgerUnavailableError as failure:
        raised = failure
    assert type(raised) is (type(None) if error is None else error)
    assert ledger.asked == len(script) + (error is None)
    assert ledger.script == []
    assert await settled(gate, ledger, clock, user_id) == records


async def test_a_retry_has_the_same_id_and_a_new_attempt_another(
    gate: Gate, ledger: LossyLedger, user_id: UUID
) -> None:
    """So that the ledger finds the first, and takes nothing for what was ahead of its clock."""
    ledger.lose(A, L, decided=False)
    await gate.charge(user_id)
    (ahead, _), (lost, is_first_retry), (again, is_retry) = ledger.attempts
    assert ahead != lost
    assert lost == again
    assert (is_first_retry, is_retry) == (False, True)


async def test_a_lost_answer_is_not_asked_for_where_the_time_is_over(
    gate: Gate, ledger: LossyLedger, clock: Clock, user_id: UUID
) -> None:
    """It is voided at once."""
    real = ledger.decide

    async def slow(attempt: Attempt) -> Decision:
        try:
            return await real(attempt)
        finally:
            clock.ms += 51

    ledger.decide = slow  # type: ignore[method-assign]
    ledger.lose(L)
    with pytest.raises(OutcomeUnknownError):
        await gate.charge(user_id)
    assert ledger.asked == 1
    assert await settled(gate, ledger, clock, user_id) == [-1, 1]


@pytest.mark.parametrize(
    ("answer", "is_voided"),
    [
        (LedgerUninitialisedError("wiped"), True),
        (LedgerCorruptError("overwritten"), True),
        (UnresolvedError("cut short"), True),
        (TransactionIdError("stale"), True),
        (TransactionConflictError("other content"), False),
        (AmountError("out of range"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_an_answer_about_the_retry_alone_leaves_the_first_attempt_to_be_voided(
    gate: Gate,
    ledger: LossyLedger,
    clock: Clock,
    user_id: UUID,
    answer: Exception,
    *,
    is_voided: bool,
) -> None:
    """It may have been charged, or be charged yet; an answer for the id is one for both."""
    ledger.script += [(L, True), answer]
    with pytest.raises(type(answer)):
        await gate.charge(user_id)
    assert len(gate.retries) == int(is_voided)
    assert await settled(gate, ledger, clock, user_id) == ([-1, 1] if is_voided else [-1])
    # The same answer to a first attempt settles it.
    ledger.script += [answer]
    with pytest.raises(type(answer)):
        await gate.charge(user_id)
    assert len(gate.retries) == 0


async def test_a_server_that_refuses_all_calls_has_charged_no_user(
    gate: Gate, ledger: LossyLedger, clock: Clock, user_id: UUID
) -> None:
    """A full one, or a replica: nothing is voided but what was sent before."""
    ledger.script += [AttemptError(Event.NOT_SENT, "OOM")]
    with pytest.raises(LedgerUnavailableError, match="OOM"):
        await gate.charge(user_id)
    assert len(gate.retries) == 0
    ledger.script += [(L, True), AttemptError(Event.NOT_SENT, "READONLY")]
    with pytest.raises(OutcomeUnknownError, match="READONLY"):
        await gate.charge(user_id)
    assert await settled(gate, ledger, clock, user_id) == [-1, 1]


async def test_a_user_that_is_unknown_to_the_retry_is_brought_in_and_charged_once(
    ledger: LossyLedger, clock: Clock, user_id: UUID
) -> None:
    """The first attempt is voided; a new one takes its place."""
    gate = Gate(ledger, MemoryStore(), CreditPolicy(), GateOptions(provision_users=True))
    ledger.lose(L, decided=False)
    assert (await gate.charge(user_id)).allowed
    assert (ledger.asked, len(gate.retries)) == (3, 1)
    assert await settled(gate, ledger, clock, user_id) == [-1]


async def test_an_id_of_the_callers_is_never_sent_beside_its_own_void(
    ledger: LossyLedger, clock: Clock, user_id: UUID
) -> None:
    """The void would give back what the new attempt took."""
    gate = Gate(ledger, MemoryStore(), CreditPolicy(), GateOptions(provision_users=True))
    ledger.lose(L, decided=False)
    given = CreditTransactionId.mint(clock.ms)
    with pytest.raises(OutcomeUnknownError):
        await gate.charge(user_id, transaction_id=given)
    assert await settled(gate, ledger, clock, user_id) == []


async def test_a_user_is_brought_in_once_a_request(
    ledger: LossyLedger, store: MemoryStore, user_id: UUID
) -> None:
    """A ledger that goes on to know nobody is asked twice, and not for ever."""
    gate = Gate(ledger, store, CreditPolicy(), GateOptions(provision_users=True))
    real = ledger.decide

    async def unknown(attempt: Attempt) -> Decision:
        return replace(await real(attempt), verdict=Verdict.UNKNOWN_USER)

    ledger.decide = unknown  # type: ignore[method-assign]
    assert (await gate.charge(user_id)).verdict is Verdict.UNKNOWN_USER
    assert ledger.asked == 2


async def test_a_caller_that_gives_up_in_the_queue_leaves_nothing_behind(
    gate: Gate, ledger: LossyLedger, user_id: UUID
) -> None:
    """Nothing was sent, so nothing is voided; the circuit breaker learns nothing from it."""

    async def wait(attempt: Attempt) -> Decision:
        await asyncio.sleep(60)
        raise AssertionError(attempt)

    ledger.decide = wait  # type: ignore[method-assign]
    task = asyncio.create_task(gate.charge(user_id))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(gate.retries) == 0


async def test_an_adapter_that_fails_after_sending_charges_no_user(
    gate: Gate, ledger: LossyLedger, clock: Clock, user_id: UUID
) -> None:
    """The error is the caller's to see, and the attempt is undone."""
    real = ledger.decide

    async def broken(attempt: Attempt) -> Decision:
        await real(attempt)
        raise ZeroDivisionError

    ledger.decide = broken  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        await gate.charge(user_id)
    assert await settled(gate, ledger, clock, user_id) == [-1, 1]


async def test_a_void_waits_for_the_deadline_of_its_attempt(
    gate: Gate, ledger: LossyLedger, clock: Clock, user_id: UUID
) -> None:
    """Before it, the attempt may still arrive."""
    asked: list[int] = []
    real = ledger.void

    async def note(void: object) -> object:
        asked.append(clock.ms)
        return await real(void)  # type: ignore[arg-type]

    ledger.void = note  # type: ignore[assignment]
    ledger.lose(T)
    with pytest.raises(OutcomeUnknownError):
        await gate.charge(user_id)
    deadline_ms = clock.ms + 50
    clock.ms = deadline_ms + 1
    assert await gate.retries.join(WAIT_S_MAX)
    assert asked
    assert min(asked) > deadline_ms
