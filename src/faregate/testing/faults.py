"""Failures and answers that a test asks for."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from faregate.domain.decision import Verdict
from faregate.domain.errors import (
    ArchiveUnavailableError,
    InvalidArgumentError,
    LedgerUnavailableError,
    LedgerUninitialisedError,
)
from faregate.domain.idempotency import KeyState
from faregate.domain.spend import Spend


class Failure(StrEnum):
    """What can go wrong around a gate."""

    #: Redis does not answer: nothing can be decided, and nothing happens.
    REDIS_DOWN = "redis_down"
    #: Redis was wiped, or belongs to another ledger. It serves nobody until it is rebuilt.
    REDIS_LOST = "redis_lost"
    #: Postgres does not answer: who is known to Redis is served, who is new is not.
    POSTGRES_DOWN = "postgres_down"
    #: A charge or hold is lost on its way to Redis. The gate cannot know that, and voids it.
    REQUEST_LOST = "request_lost"
    #: A charge or hold is made, and the answer is lost. The gate voids it, which gives it back.
    ANSWER_LOST = "answer_lost"


#: What may be said of a request with an idempotency key alone.
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
    """Return what charges and holds are to be answered, if they can be.

    Raises:
        InvalidArgumentError: No charge and no hold is ever answered so.
    """
    if answer not in _ANSWERS:
        raise InvalidArgumentError(f"no charge and no hold is answered {answer!r} on purpose")
    return answer


@dataclass(slots=True)
class Faults:
    """The faults of now. One object is shared by all adapters of a gate."""

    failure: Failure | None = None
    answer: Verdict | KeyState | None = None
    retry_after_ms: int = 0

    def reach_redis(self) -> None:
        """Raise as Redis would, where it is broken."""
        if self.failure is Failure.REDIS_DOWN:
            raise LedgerUnavailableError("Redis is down on purpose")
        if self.failure is Failure.REDIS_LOST:
            raise LedgerUninitialisedError("Redis is lost on purpose")

    def reach_postgres(self) -> None:
        """Raise as Postgres would, where it is broken."""
        if self.failure is Failure.POSTGRES_DOWN:
            raise ArchiveUnavailableError("Postgres is down on purpose")

    def answer_to(self, spend: Spend) -> Verdict | KeyState | None:
        """Return the answer that a test asks for, where such a request can be answered so."""
        asked = spend.options
        is_apart = (
            spend.policy.is_shadow
            or (self.answer in _OF_KEYS and asked.key is None)
            or (self.answer is Verdict.TOO_MANY_HOLDS and asked.hold is None)
        )
        return None if is_apart else self.answer
