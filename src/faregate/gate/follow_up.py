"""Follows up attempts without a decision, and refusals whose reason can be removed.

It executes the actions of `domain.attempt.NEXT`. An allowed charge does not pass through here.
"""

from random import random

from faregate.domain.attempt import Action, Attempt, AttemptError, Event, Phase
from faregate.domain.decision import Decision, Verdict, decision_of
from faregate.domain.errors import (
    AmountError,
    FaregateError,
    LedgerUnavailableError,
    OutcomeUnknownError,
    TransactionConflictError,
)
from faregate.domain.transaction import NO_ID
from faregate.gate.breaker import CircuitBreaker
from faregate.gate.reversals import Voids
from faregate.gate.session import Session

#: The most repetitions of a spend, with the same id or a new one.
ASKS_MORE_MAX = 2
#: The wait of an overloaded caller, in milliseconds: up to twice this, so that retries spread out.
RETRY_AFTER_MS = 1_000


class FollowUp:
    """Sends again, voids, or refuses."""

    def __init__(self, session: Session, voids: Voids) -> None:
        self._session = session
        self._voids = voids

    async def resume(
        self,
        attempt: Attempt,
        error: BaseException,
        breaker: CircuitBreaker,
        ticket: int,
        *,
        asks_left: int = ASKS_MORE_MAX,
    ) -> Decision:
        """Follow up an error of `Ledger.decide`.

        Args:
            attempt: The attempt that failed.
            error: The error.
            breaker: The breaker that admitted its call.
            ticket: The ticket of its call.
            asks_left: How often it may still be sent.

        Raises:
            LedgerUnavailableError: There is no decision. Nothing was charged; after an
                `OutcomeUnknownError` the attempt is being voided.
        """
        event = _event_of(error)
        if event is Event.SHED and attempt.phase is Phase.QUEUED:
            # As in the table; a shortcut for overloads.
            breaker.note_abandoned(ticket)
            return overloaded(attempt)
        breaker.report(ticket, error)
        if attempt.phase is Phase.QUEUED and event in {Event.ANSWERED, Event.ANSWERED_ALONE}:
            # Refused before it was sent.
            raise error
        # A closing gate sends nothing more.
        can_ask = asks_left > 0 and self._session.ready_on is not None
        has_time = can_ask and self._session.ledger.now_ms() < attempt.deadline_ms
        action = attempt.follow(event, has_time=has_time)
        if action in {Action.ASK_AGAIN, Action.ASK_ANEW}:
            return await self._ask(attempt, asks_left - 1)
        if action in {Action.VOID, Action.VOID_AND_ANSWER}:
            self._voids.make_later(attempt)
        if not isinstance(error, AttemptError):
            raise error
        if action is Action.VOID:
            raise OutcomeUnknownError(str(error)) from error
        raise LedgerUnavailableError(str(error)) from error

    async def retry_refused(
        self, attempt: Attempt, decision: Decision, asks_left: int = ASKS_MORE_MAX
    ) -> Decision:
        """Remove the reason of a refusal if possible, and send the spend again.

        An unknown user is installed. If credits are held, expired holds of the user are ended. It
        returns the last decision.
        """
        if not asks_left or not await self._removes_reason(decision):
            return decision
        if attempt.phase is Phase.ENDED and attempt.spend.options.transaction_id is not None:
            # The attempt was sent twice, so its id is being voided and must not be sent again.
            raise OutcomeUnknownError("the connection was lost while the user was brought in")
        return await self._ask(Attempt(attempt.spend), 0)

    async def _removes_reason(self, refusal: Decision) -> bool:
        user_id = refusal.user_id
        if refusal.verdict is Verdict.UNKNOWN_USER:
            return await self._session.install(user_id)
        if refusal.verdict in {Verdict.CREDITS_HELD, Verdict.TOO_MANY_HOLDS}:
            ledger = self._session.ledger
            return await self._session.ask(user_id, lambda: ledger.expire_due(user_id)) > 0
        return False

    async def _ask(self, attempt: Attempt, asks_left: int) -> Decision:
        spend = attempt.spend
        breaker = self._session.breakers.of_user(spend.user_id, spend.durability)
        ticket = breaker.failures
        try:
            decision = await self._session.ledger.decide(attempt)
        except BaseException as error:
            return await self.resume(attempt, error, breaker, ticket, asks_left=asks_left)
        breaker.note_success()
        is_alone = decision.verdict is Verdict.UNKNOWN_USER
        event = Event.ANSWERED_ALONE if is_alone else Event.ANSWERED
        if attempt.follow(event, has_time=True) is Action.VOID_AND_ANSWER:
            self._voids.make_later(attempt)
        return await self.retry_refused(attempt, decision, asks_left)


def _event_of(error: BaseException) -> Event:
    """Return the event for an error of an attempt.

    An error outside of our tree is a cancelled caller or a bug in the adapter. In both cases the
    attempt is undone if it was sent.
    """
    if isinstance(error, AttemptError):
        return error.event
    if isinstance(error, TransactionConflictError | AmountError):
        return Event.ANSWERED
    return Event.ANSWERED_ALONE if isinstance(error, FaregateError) else Event.CANCELLED


def overloaded(attempt: Attempt) -> Decision:
    """Return the refusal of an attempt that was not sent because of an overload."""
    spend = attempt.spend
    return decision_of(
        verdict=Verdict.OVERLOADED,
        user_id=spend.user_id,
        transaction_id=attempt.transaction_id or NO_ID,
        amount=-spend.cost,
        credits=0,
        retry_after_ms=int(RETRY_AFTER_MS * (1 + random())),  # noqa: S311 -- no secret
        policy=spend.policy,
    )
