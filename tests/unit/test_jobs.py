"""Jobs of a queue: what each attempt is charged, and what is given back."""

import pickle
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from faregate import Allowance, CreditPolicy, Period, PeriodKind, SyncGate, Verdict
from faregate.domain.errors import (
    AmountError,
    ConfigurationError,
    InvalidArgumentError,
    LedgerUnavailableError,
)
from faregate.domain.idempotency import LEASE_MS
from faregate.jobs import JobAttempt, JobRefusedError, charged_job
from faregate.testing import Failure, MemoryGate, memory_gate


class Queue:
    """Says which attempt of which job runs, as a queue does."""

    def __init__(self) -> None:
        self.now = JobAttempt(job_id="one")

    def attempt(self) -> JobAttempt:
        return self.now

    def retry(self) -> None:
        self.now = JobAttempt(job_id=self.now.job_id, number=self.now.number + 1)


def payer(user_id: UUID, *_: object) -> UUID:
    return user_id


def weight(_: UUID, length: int) -> int:
    return length


@pytest.fixture
def memory() -> MemoryGate:
    return memory_gate(credits=10)


@pytest.fixture
def gate(memory: MemoryGate) -> Iterator[SyncGate]:
    with SyncGate(lambda: memory) as gate:
        yield gate


@pytest.fixture
def queue() -> Queue:
    return Queue()


def test_a_retry_of_a_failed_job_pays_again(
    memory: MemoryGate, gate: SyncGate, queue: Queue
) -> None:
    """And the attempt that failed costs nothing, by whatever it failed."""
    user = memory.sign_up()
    errors: list[BaseException] = [ValueError(), SystemExit()]

    @charged_job(gate, user=payer, attempt=queue.attempt, cost=weight)
    def work(user_id: UUID, length: int) -> str:
        assert memory.credits_of(user) == 10 - length
        if errors:
            raise errors.pop()
        return "done"

    for error in (SystemExit, ValueError):
        with pytest.raises(error):
            work(user, 4)
        assert memory.credits_of(user) == 10
        queue.retry()
    assert work(user, 4) == "done"
    assert memory.charged(user) - memory.refunded(user) == 4
    (last,) = [one for one in memory.records(user) if one.metadata == {"job": "one", "attempt": 2}]
    assert last.amount == -4


def test_a_job_that_is_delivered_twice_runs_once(
    memory: MemoryGate, gate: SyncGate, queue: Queue
) -> None:
    """While it runs, the second comes back after the lease; once it is done, it is told so."""
    user = memory.sign_up()
    refused: list[JobRefusedError] = []

    @charged_job(gate, user=payer, attempt=queue.attempt, cost=4)
    def work(user_id: UUID) -> None:
        assert not refused
        queue.retry()
        with pytest.raises(JobRefusedError) as again:
            work(user_id)
        refused.append(again.value)

    work(user)
    assert (refused[0].reason, refused[0].retry_after_ms) == ("in_flight", LEASE_MS)
    with pytest.raises(JobRefusedError) as done:
        work(user)
    assert (done.value.reason, done.value.retry_after_ms) == ("done", None)
    assert memory.charged(user) == 4


@pytest.mark.parametrize("price", [{"cost": 4}, {"estimate": 4}], ids=["charge", "hold"])
def test_a_job_whose_worker_died_is_charged_once(
    memory: MemoryGate, gate: SyncGate, queue: Queue, price: dict[str, Any]
) -> None:
    """After the lease the next attempt runs for the charge of the dead one."""
    user = memory.sign_up()
    ran: list[int] = []

    @charged_job(gate, user=payer, attempt=queue.attempt, ttl_ms=2 * LEASE_MS, **price)
    def work(user_id: UUID) -> None:
        ran.append(queue.now.number)
        if not queue.now.number:
            # The rest of this call stands for the worker that lives: the first one is dead.
            memory.clock.advance(LEASE_MS)
            queue.retry()
            work(user_id)

    work(user)
    assert ran == [0, 1]
    assert memory.credits_of(user) == 6


def test_a_job_that_is_interrupted_before_it_gets_its_charge_is_refunded(
    memory: MemoryGate, gate: SyncGate, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by the timeout of its queue."""
    user = memory.sign_up()
    ran: list[UUID] = []
    work = charged_job(gate, user=payer, attempt=queue.attempt, cost=4)(ran.append)
    run = gate.run

    def interrupted(operation: Any) -> None:
        run(operation)
        monkeypatch.setattr(gate, "run", run)
        raise KeyboardInterrupt

    monkeypatch.setattr(gate, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        work(user)
    assert memory.credits_of(user) == 10
    work(user)
    assert ran == [user]
    assert memory.credits_of(user) == 6


def test_a_job_with_a_hold_is_settled_at_the_cost_of_its_result(
    memory: MemoryGate, gate: SyncGate, queue: Queue
) -> None:
    """Or else its estimate; and nothing where it fails."""
    user = memory.sign_up()

    @charged_job(gate, user=payer, attempt=queue.attempt, estimate=5, actual=len)
    def told(user_id: UUID) -> str:
        return "two" if queue.now.number else ""[0]

    @charged_job(gate, user=payer, attempt=queue.attempt, estimate=weight)
    def estimated(user_id: UUID, length: int) -> None:
        assert memory.credits_of(user) == 2

    @charged_job(gate, user=payer, attempt=queue.attempt, estimate=5, actual=lambda _: -1)
    def mistold(user_id: UUID) -> None:
        pass

    with pytest.raises(IndexError):
        told(user)
    with pytest.raises(AmountError):
        mistold(user)
    assert memory.credits_of(user) == 10
    queue.retry()
    told(user)
    assert memory.credits_of(user) == 7
    queue.retry()
    estimated(user, 5)
    assert memory.credits_of(user) == 2


@pytest.mark.parametrize("job_id", [None, ""])
def test_a_call_outside_of_a_queue_is_not_taken_for_a_job(job_id: Any) -> None:
    """All such calls would be one job, and only the first of them would run."""
    with pytest.raises(InvalidArgumentError):
        JobAttempt(job_id=job_id)


def test_a_refusal_says_when_to_try_again(gate: SyncGate, queue: Queue, memory: MemoryGate) -> None:
    """As a queue pickles it; waiting for credits does not help where no period brings some."""
    user = memory.sign_up()

    @charged_job(gate, user=payer, attempt=queue.attempt)
    def work(user_id: UUID) -> None:
        raise AssertionError

    def refusal(answer: Verdict) -> JobRefusedError:
        with memory.answering(answer, retry_after_ms=250), pytest.raises(JobRefusedError) as told:
            work(user)
        sent: JobRefusedError = pickle.loads(pickle.dumps(told.value))  # noqa: S301
        return sent

    assert refusal(Verdict.RATE_LIMITED).retry_after_ms == 250
    assert refusal(Verdict.CREDITS_HELD).retry_after_ms == 1_000
    assert str(refusal(Verdict.RATE_LIMITED)) == "rate_limited, retry after 250 ms"
    memory.set_credits(user, 0)
    with pytest.raises(JobRefusedError, match="out_of_credits") as told:
        work(user)
    assert told.value.retry_after_ms is None
    assert memory.charged(user) == 0


def test_credits_that_a_period_brings_are_waited_for(queue: Queue) -> None:
    """Until it begins."""
    allowance = Allowance(amount=1, period=Period(kind=PeriodKind.MONTH))
    memory = memory_gate(CreditPolicy(starting_credits=0, allowance=allowance))
    user = memory.sign_up()
    with SyncGate(lambda: memory) as gate:

        @charged_job(gate, user=payer, attempt=queue.attempt)
        def work(user_id: UUID) -> None: ...

        work(user)
        queue.now = JobAttempt(job_id="two")
        with pytest.raises(JobRefusedError) as told:
            work(user)
    assert told.value.retry_after_ms == 31 * 86_400_000


@pytest.mark.parametrize("failure", [Failure.REDIS_DOWN, Failure.ANSWER_LOST])
def test_a_job_that_cannot_be_charged_does_not_run(
    memory: MemoryGate, gate: SyncGate, queue: Queue, failure: Failure
) -> None:
    """Its queue tries it again, and it is charged once."""
    user = memory.sign_up()

    @charged_job(gate, user=payer, attempt=queue.attempt)
    def work(user_id: UUID) -> str:
        return "done"

    with memory.failing(failure), pytest.raises(LedgerUnavailableError):
        work(user)
    queue.retry()
    assert work(user) == "done"
    assert gate.join_retries(5)
    assert memory.charged(user) - memory.refunded(user) == 1


async def test_async_jobs_are_charged_alike(memory: MemoryGate, queue: Queue) -> None:
    """By a gate of the event loop they run on, or a function that finds it."""
    user = memory.sign_up()

    @charged_job(lambda: memory, user=payer, attempt=queue.attempt, estimate=5, actual=len)
    async def work(user_id: UUID) -> str:
        return "two" if queue.now.number else ""[0]

    async with memory.lifespan():
        with pytest.raises(IndexError):
            await work(user)
        queue.retry()
        assert await work(user) == "two"
    assert memory.credits_of(user) == 7


def test_invalid_settings_are_refused_at_once(
    memory: MemoryGate, gate: SyncGate, queue: Queue
) -> None:
    """A gate that does not suit the function; a cost beside an estimate; an actual cost of none."""

    async def later(user_id: UUID) -> None: ...

    def now(user_id: UUID) -> None: ...

    with pytest.raises(TypeError, match="is async"):
        charged_job(gate, user=payer, attempt=queue.attempt)(later)
    with pytest.raises(TypeError, match="is not async"):
        charged_job(memory, user=payer, attempt=queue.attempt)(now)
    with pytest.raises(ConfigurationError):
        charged_job(gate, user=payer, attempt=queue.attempt, cost=1, estimate=2)
    with pytest.raises(ConfigurationError):
        charged_job(gate, user=payer, attempt=queue.attempt, actual=len)
