"""Forced failures and answers, and the adapters in memory that produce them."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from enum import StrEnum
from inspect import iscoroutinefunction
from typing import Any, Final, Self, TypeAlias, TypeVar, cast

from faregate.adapters.memory.ledger import MemoryLedger
from faregate.adapters.memory.store import MemoryStore
from faregate.domain.attempt import Attempt, AttemptError, Event
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import (
    ArchiveUnavailableError,
    InvalidArgumentError,
    LedgerUnavailableError,
    LedgerUninitialisedError,
)
from faregate.domain.idempotency import KeyState
from faregate.domain.identity import LedgerIdentity
from faregate.domain.limit import LimitState, RateLimit
from faregate.domain.spend import Spend, SpendOptions
from faregate.domain.transaction import CreditTransactionId
from faregate.testing.clock import Clock

_P = TypeVar("_P")
_Start: TypeAlias = Callable[[], Coroutine[Any, Any, None]]

#: The limit that refuses if a policy has none.
_ON_PURPOSE = RateLimit(name="on purpose", count=1, period_ms=60_000)
_LACKING = {Verdict.OUT_OF_CREDITS, Verdict.CREDITS_HELD}


class Failure(StrEnum):
    """The failures that a test can force."""

    #: Redis does not answer: nothing is decided.
    REDIS_DOWN = "redis_down"
    #: Redis was wiped, or belongs to another ledger. Nothing is decided until it is rebuilt.
    REDIS_LOST = "redis_lost"
    #: Postgres does not answer: users that Redis knows are served, new users are not.
    POSTGRES_DOWN = "postgres_down"
    #: A charge or hold is lost on its way to Redis. The gate cannot know this, and voids it.
    REQUEST_LOST = "request_lost"
    #: A charge or hold is made, and the answer is lost. The gate voids it, which gives it back.
    ANSWER_LOST = "answer_lost"


#: Answers only for requests with an idempotency key.
_OF_KEYS: Final = {
    Verdict.KEY_REUSED,
    Verdict.TOO_MANY_KEYS,
    KeyState.IN_FLIGHT,
    KeyState.DONE,
}
_ANSWERS: Final = _OF_KEYS | {
    Verdict.UNKNOWN_USER,
    Verdict.VOIDED,
    Verdict.BACKLOG,
    Verdict.TOO_MANY_HOLDS,
    Verdict.RATE_LIMITED,
    Verdict.OUT_OF_CREDITS,
    Verdict.CREDITS_HELD,
    Verdict.OVERLOADED,
}


def check_answer(answer: Verdict | KeyState) -> Verdict | KeyState:
    """Return a forced answer, if it is a possible one.

    Raises:
        InvalidArgumentError: No charge and no hold ever gets this answer.
    """
    if answer not in _ANSWERS:
        raise InvalidArgumentError(f"no charge and no hold is answered {answer!r} on purpose")
    return answer


@dataclass(slots=True)
class Faults:
    """The forced faults. All adapters of a gate share one object."""

    failure: Failure | None = None
    answer: Verdict | KeyState | None = None
    retry_after_ms: int = 0

    def reach_redis(self) -> None:
        """Raise the error of Redis, if its failure is forced."""
        if self.failure is Failure.REDIS_DOWN:
            raise LedgerUnavailableError("Redis is down on purpose")
        if self.failure is Failure.REDIS_LOST:
            raise LedgerUninitialisedError("Redis is lost on purpose")

    def reach_postgres(self) -> None:
        """Raise the error of Postgres, if its failure is forced."""
        if self.failure is Failure.POSTGRES_DOWN:
            raise ArchiveUnavailableError("Postgres is down on purpose")

    def answer_to(self, spend: Spend) -> Verdict | KeyState | None:
        """Return the forced answer, if it applies to the request."""
        asked = spend.options
        is_apart = (
            spend.policy.is_shadow
            or (self.answer in _OF_KEYS and asked.key is None)
            or (self.answer is Verdict.TOO_MANY_HOLDS and asked.hold is None)
        )
        return None if is_apart else self.answer


def guarded(inner: _P, reach: Callable[[], object], **instead: object) -> _P:
    """Return an adapter whose async methods call `reach` first, except those in `instead`.

    The methods in `instead` have failures of their own.
    """
    return cast(_P, _Guarded(inner, reach, instead))


class _Guarded:
    def __init__(
        self, inner: object, reach: Callable[[], object], instead: dict[str, object]
    ) -> None:
        self._inner = inner
        self._reach = reach
        self.__dict__.update(instead)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if not iscoroutinefunction(method) or name == "aclose":
            return method

        async def reached(*args: object, **named: object) -> object:
            self._reach()
            return await method(*args, **named)

        return reached


class Identity:
    """The identity of the ledger, which a gate reads at its start and on each new event loop.

    A gate is started by its first use.
    """

    def __init__(self, store: MemoryStore, faults: Faults) -> None:
        self._is_first_use = True
        self._store = store
        self._faults = faults

    async def ask(self) -> LedgerIdentity:
        """See the port `Accounts`."""
        if not self._is_first_use:
            self._faults.reach_postgres()
        self._is_first_use = False
        return await self._store.identity()

    def asked_by(self, start: _Start) -> _Start:
        """Return a start that reads the identity even before the first use."""

        async def started() -> None:
            self._is_first_use = False
            await start()

        return started


class FaultyDecisions:
    """Decides as a ledger in memory, unless an answer or a failure is forced."""

    def __init__(self, inner: MemoryLedger, faults: Faults, clock: Clock, timeout_ms: int) -> None:
        self._inner = inner
        self._timeout_ms = timeout_ms
        self._faults = faults
        self._clock = clock

    @property
    def name(self) -> str:
        """See the port `SpendLane`."""
        return self._inner.name

    @property
    def is_full(self) -> bool:
        """See the port `SpendLane`."""
        return self._inner.is_full

    def lane(self, *_: object) -> Self:
        """Return the only lane; see the port `Ledger`."""
        return self

    async def decide(self, attempt: Attempt) -> Decision:
        """See the port `SpendLane`."""
        if self._faults.failure is Failure.REDIS_DOWN:
            raise AttemptError(Event.NOT_SENT, "Redis is down on purpose")
        self._faults.reach_redis()
        answer = self._faults.answer_to(attempt.spend)
        if answer is not None or self._faults.failure is Failure.REQUEST_LOST:
            self._send(attempt)
        if answer is not None:
            return await self._answered(attempt.spend, answer)
        if self._faults.failure is Failure.REQUEST_LOST:
            self._time_out(attempt)
        decision = await self._inner.decide(attempt)
        if self._faults.failure is Failure.ANSWER_LOST:
            self._time_out(attempt)
        return decision

    def _send(self, attempt: Attempt) -> None:
        now_ms = self._clock()
        identity = attempt.transaction_id or CreditTransactionId.mint(now_ms)
        attempt.note_sent(identity, now_ms, now_ms + self._timeout_ms)

    def _time_out(self, attempt: Attempt) -> None:
        """Let the deadline pass without an answer."""
        self._clock.advance(max(0, attempt.deadline_ms + 1 - self._clock()))
        raise AttemptError(Event.TIMED_OUT, "a message was lost on purpose")

    async def _answered(self, spend: Spend, answer: Verdict | KeyState) -> Decision:
        """Return a forced answer with the current balance of the user, from a peek."""
        asked = SpendOptions(limit_key=spend.options.limit_key, is_limited=spend.options.is_limited)
        policy = replace(spend.policy, is_unlimited=False)
        peek = Spend(spend.user_id, 0, policy, asked)
        found = await self._inner.decide(Attempt(peek))
        blank = replace(
            found, amount=-spend.cost, limited_by="", retry_after_ms=0, policy=spend.policy
        )
        if found.verdict is Verdict.UNKNOWN_USER:
            # An unknown user is installed first.
            return blank
        if isinstance(answer, KeyState):
            hold = spend.options.hold
            expires_at_ms = 0 if hold is None else self._clock() + hold.ttl_ms
            return replace(
                blank,
                verdict=Verdict.ALLOWED,
                repeated=True,
                key_state=answer,
                expires_at_ms=expires_at_ms,
            )
        if answer is Verdict.RATE_LIMITED:
            return self._rate_limited(spend, blank)
        if answer is Verdict.OVERLOADED:
            blank = replace(blank, retry_after_ms=self._faults.retry_after_ms)
        if answer in _LACKING:
            blank = replace(blank, credits=0, allowance_left=0)
        return replace(blank, verdict=answer)

    def _rate_limited(self, spend: Spend, blank: Decision) -> Decision:
        """Refuse by the first limit, or by a made-up one."""
        limit = spend.limits[0] if spend.limits else _ON_PURPOSE
        wait_ms = self._faults.retry_after_ms
        refusing = LimitState.of(limit, remaining=0, resets_in_ms=wait_ms)
        return replace(
            blank,
            verdict=Verdict.RATE_LIMITED,
            limited_by=limit.name,
            retry_after_ms=wait_ms,
            limits=(refusing, *blank.limits[1:]),
        )
