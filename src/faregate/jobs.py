"""Charges the jobs of a queue, such as RQ or Celery, before their work, and each job once.

    @charged_job(gate, user=lambda user_id, topic: UUID(user_id), attempt=attempt, cost=5)
    def report(user_id: str, topic: str) -> str: ...

The job and its function are the idempotency key. An attempt that fails is given back, which frees
the key, so the next attempt pays again. A job that is delivered again, since its worker died, is
charged once: after the lease of the key the new attempt runs for the charge of the dead one.
"""

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, cast
from uuid import UUID

from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import ConfigurationError, FaregateError, InvalidArgumentError
from faregate.domain.hold import Hold
from faregate.domain.idempotency import KeyState
from faregate.domain.transaction import check_whole
from faregate.gate import ChargeOptions, Gate
from faregate.gate.spending import TTL_MS
from faregate.sync import SyncGate

__all__ = ["JobAttempt", "JobRefusedError", "charged_job"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

#: How long a job waits at its end for pending refunds, in seconds, since the work horse of RQ ends
#: without finishing background work.
JOIN_S_MAX = 5.0
#: The default wait until a retry, in milliseconds.
SOON_MS = 1_000
_SOON = {
    Verdict.CREDITS_HELD,
    Verdict.BACKLOG,
    Verdict.TOO_MANY_HOLDS,
    Verdict.OVERLOADED,
    Verdict.RATE_LIMITED,
}
_NOT_SERVED = {KeyState.IN_FLIGHT, KeyState.DONE}

_log = logging.getLogger(__name__)


class JobRefusedError(FaregateError):
    """A job does not run: its user cannot pay now, or another worker runs it."""

    def __init__(self, reason: str, retry_after_ms: int | None = None) -> None:
        # Queues pickle errors by class and these two arguments.
        super().__init__(reason, retry_after_ms)
        #: The verdict, such as `out_of_credits`, or the state of the attempt: `in_flight`, `done`.
        self.reason = reason
        #: The time until a retry can succeed, in milliseconds; None if waiting does not help.
        self.retry_after_ms = retry_after_ms

    def __str__(self) -> str:
        when = self.retry_after_ms
        return self.reason if when is None else f"{self.reason}, retry after {when} ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobAttempt:
    """One attempt to run a job."""

    #: The same in all attempts. Each function is charged once for it.
    job_id: str
    #: The number of earlier attempts. It is recorded, and decides nothing.
    number: int = 0

    def __post_init__(self) -> None:
        given: object = self.job_id
        if not (isinstance(given, str) and given):
            raise InvalidArgumentError(f"a job has an id, not {given!r}: is it in a queue?")


@dataclass(slots=True, kw_only=True)
class _Charge:
    """The charge or the hold of one attempt."""

    user_id: UUID
    attempt: JobAttempt
    cost: int | None
    estimate: int | None
    ttl_ms: int
    #: The name of the function, so that charges of two functions differ.
    name: str
    #: The decision and the hold to give back if the attempt fails; None before the charge.
    decision: Decision | None = None
    hold: Hold | None = None

    async def begin(self, gate: Gate) -> None:
        """Charge the job.

        The decision is noted here, since a job may be interrupted before it gets a result.

        Raises:
            JobRefusedError: The job must not run.
            FaregateError: There is no decision; a possible charge is being voided.
        """
        job, number = self.attempt.job_id, self.attempt.number
        options: ChargeOptions = {
            "idempotency_key": f"{job} {self.name}",
            "description": "job",
            "metadata": {"job": job, "attempt": number},
        }
        hold: Hold | None = None
        try:
            if self.estimate is None:
                decision = await gate.charge(self.user_id, cost=self.cost, **options)
            else:
                hold = await gate.hold(self.user_id, self.estimate, ttl_ms=self.ttl_ms, **options)
                decision = hold.decision
        except FaregateError:
            await _finish(gate)
            raise
        if not decision.allowed:
            raise JobRefusedError(decision.verdict.value, _retry_after_ms(decision))
        if decision.key_state in _NOT_SERVED:
            # Once the lease is over, a job whose worker died is taken over.
            lease_ms = gate.idempotency_lease_ms
            is_done = decision.key_state is KeyState.DONE
            raise JobRefusedError(str(decision.key_state), None if is_done else lease_ms)
        self.decision, self.hold = decision, hold

    async def settle(self, gate: Gate, actual: int | None) -> None:
        """Settle the hold after the work; without an actual cost, by its estimate."""
        if self.hold is None:
            if self.decision is not None:
                await gate.complete(self.decision)
            return
        cost = self.hold.estimate if actual is None else actual
        answer = await gate.settle(self.hold, cost)
        if not answer.allowed and not answer.is_pending:
            _log.warning("job hold not settled: %s: %s", self.hold.id, answer.verdict)
        await _finish(gate)

    async def give_back(self, gate: Gate) -> None:
        """Give the charge back; an error here is logged, since the error of the job is raised."""
        if self.decision is None:
            return
        try:
            if self.hold is not None:
                await gate.cancel(self.hold)
            else:
                await gate.refund(self.decision, description="refund: the job failed")
        except FaregateError as error:
            _log.warning("job charge not refunded: %s: %s", self.decision.transaction_id, error)
        await _finish(gate)


async def _finish(gate: Gate) -> None:
    if not await gate.retries.join(JOIN_S_MAX):
        _log.warning("job ended with actions in the background: count=%d", len(gate.retries))


def _retry_after_ms(decision: Decision) -> int | None:
    """Return the time until a refused job may be tried again, in milliseconds."""
    if decision.retry_after_ms or decision.verdict in _SOON:
        return decision.retry_after_ms or SOON_MS
    if decision.verdict is Verdict.OUT_OF_CREDITS and decision.resets_at_ms is not None:
        return max(0, decision.resets_at_ms - decision.decided_at_ms)
    return None


def charged_job(
    gate: SyncGate | Gate | Callable[[], Gate],
    *,
    user: Callable[..., UUID],
    attempt: Callable[[], JobAttempt],
    cost: int | Callable[..., int] | None = None,
    estimate: int | Callable[..., int] | None = None,
    actual: Callable[[Any], int] | None = None,
    ttl_ms: int = TTL_MS,
) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """Return a decorator that charges each attempt of a job before it runs.

    Args:
        gate: A `SyncGate` for functions; a `Gate`, or a function that returns it, for async ones.
        user: Returns the user that is charged, from the arguments of the job.
        attempt: Returns the attempt of the running job, from the queue.
        cost: The cost in credits, or a function of the arguments; None for that of the policy.
        estimate: The estimate to hold instead, if the cost is known only after the work.
        actual: Returns the actual cost of a hold, from the result; without it, the estimate counts.
        ttl_ms: The lifetime of a hold in milliseconds, longer than the job may run. If the worker
            dies, a hold expires then, and a charge stands.

    Raises:
        ConfigurationError: There are both a cost and an estimate, or an actual cost without an
            estimate.
        TypeError: The gate is async and the function is not, or the other way round.
    """
    if (cost is not None and estimate is not None) or (actual is not None and estimate is None):
        raise ConfigurationError("give a cost or an estimate; `actual` needs an estimate")

    def decorate(function: Callable[_P, _T]) -> Callable[_P, _T]:
        def ask(*args: _P.args, **options: _P.kwargs) -> _Charge:
            return _Charge(
                user_id=user(*args, **options),
                attempt=attempt(),
                cost=cost(*args, **options) if callable(cost) else cost,
                estimate=estimate(*args, **options) if callable(estimate) else estimate,
                ttl_ms=ttl_ms,
                name=f"{function.__module__}.{function.__qualname__}",
            )

        if inspect.iscoroutinefunction(function):
            if isinstance(gate, SyncGate):
                raise TypeError(f"{function.__qualname__} is async, so its gate must be a Gate")
            return cast("Callable[_P, _T]", _async_job(gate, ask, function, actual))
        if not isinstance(gate, SyncGate):
            raise TypeError(f"{function.__qualname__} is not async, so its gate must be a SyncGate")
        return _sync_job(gate, ask, function, actual)

    return decorate


def _sync_job(
    gate: SyncGate,
    ask: Callable[_P, _Charge],
    function: Callable[_P, _T],
    actual: Callable[[Any], int] | None,
) -> Callable[_P, _T]:
    @functools.wraps(function)
    def run(*args: _P.args, **options: _P.kwargs) -> _T:
        charge = ask(*args, **options)
        try:
            gate.run(charge.begin)
            result = function(*args, **options)
            cost = actual and check_whole("an actual cost", actual(result), 0)
        except BaseException:
            gate.run(charge.give_back)
            raise
        gate.run(lambda of_job: charge.settle(of_job, cost))
        return result

    return run


def _async_job(
    gate: Gate | Callable[[], Gate],
    ask: Callable[_P, _Charge],
    function: Callable[_P, Awaitable[Any]],
    actual: Callable[[Any], int] | None,
) -> Callable[_P, Awaitable[Any]]:
    @functools.wraps(function)
    async def run(*args: _P.args, **options: _P.kwargs) -> Any:
        of_job = gate if isinstance(gate, Gate) else gate()
        charge = ask(*args, **options)
        try:
            await charge.begin(of_job)
            result = await function(*args, **options)
            cost = actual and check_whole("an actual cost", actual(result), 0)
        except BaseException:
            await charge.give_back(of_job)
            raise
        await charge.settle(of_job, cost)
        return result

    return run
