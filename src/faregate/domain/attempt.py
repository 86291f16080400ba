"""The states and events of one attempt of a spend, as a table without I/O.

    QUEUED ── sent ──> SENT ── connection lost ──> SENT_AGAIN (the same id) ──> ENDED

Only an attempt that was sent may have been charged. So an attempt that was not sent is only
refused, and one that was sent without an answer is voided. `NEXT` has every pair of state and
event.
"""

from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType

from faregate.domain.errors import LedgerUnavailableError
from faregate.domain.request import Void
from faregate.domain.spend import Spend
from faregate.domain.transaction import CreditTransactionId


class Phase(Enum):
    """The state of an attempt."""

    QUEUED = auto()
    SENT = auto()
    #: Sent again with the same id, after the first answer was lost.
    SENT_AGAIN = auto()
    ENDED = auto()


#: Constants, since access to an enum member is a function call in Python 3.11.
_QUEUED, _SENT, _SENT_AGAIN = Phase.QUEUED, Phase.SENT, Phase.SENT_AGAIN


class Event(Enum):
    """The events of an attempt."""

    #: The ledger decided, and the answer holds for every attempt with the id.
    ANSWERED = auto()
    #: The ledger decided on this attempt alone; an earlier one may still be charged.
    ANSWERED_ALONE = auto()
    #: The id is ahead of the ledger's clock. Nothing was written.
    AHEAD = auto()
    #: The attempt reached the ledger after its deadline, and is not charged.
    LATE = auto()
    #: There was no answer by the deadline.
    TIMED_OUT = auto()
    #: The connection broke after it was sent.
    LOST = auto()
    #: The caller gave up.
    CANCELLED = auto()
    #: The queue was full, or it waited in the queue for too long.
    SHED = auto()
    #: There was no connection, or the server refused the call before executing it.
    NOT_SENT = auto()
    #: The ledger decided, but the decision is not as safe as the spend asked for.
    UNCONFIRMED = auto()


class Action(Enum):
    """The actions after an event."""

    ANSWER = auto()
    #: Send the attempt again with the same id, if there is time; otherwise see `WITHOUT_TIME`.
    ASK_AGAIN = auto()
    #: Send the attempt again with a new id, if there is time.
    ASK_ANEW = auto()
    #: Fail: nothing was charged.
    REFUSE = auto()
    #: Fail, and void the id.
    VOID = auto()
    #: Return the answer, and void an earlier attempt with the id.
    VOID_AND_ANSWER = auto()
    #: Do nothing: no caller waits, and nothing was sent.
    DROP = auto()


NEXT: Mapping[tuple[Phase, Event], Action] = MappingProxyType(
    {
        (Phase.QUEUED, Event.SHED): Action.REFUSE,
        (Phase.QUEUED, Event.NOT_SENT): Action.REFUSE,
        (Phase.QUEUED, Event.CANCELLED): Action.DROP,
        (Phase.SENT, Event.ANSWERED): Action.ANSWER,
        (Phase.SENT, Event.ANSWERED_ALONE): Action.ANSWER,
        (Phase.SENT, Event.AHEAD): Action.ASK_ANEW,
        (Phase.SENT, Event.LATE): Action.ASK_ANEW,
        (Phase.SENT, Event.TIMED_OUT): Action.VOID,
        (Phase.SENT, Event.LOST): Action.ASK_AGAIN,
        (Phase.SENT, Event.NOT_SENT): Action.REFUSE,
        (Phase.SENT, Event.CANCELLED): Action.VOID,
        (Phase.SENT, Event.UNCONFIRMED): Action.VOID,
        (Phase.SENT_AGAIN, Event.SHED): Action.VOID,
        (Phase.SENT_AGAIN, Event.NOT_SENT): Action.VOID,
        (Phase.SENT_AGAIN, Event.ANSWERED): Action.ANSWER,
        (Phase.SENT_AGAIN, Event.ANSWERED_ALONE): Action.VOID_AND_ANSWER,
        (Phase.SENT_AGAIN, Event.AHEAD): Action.VOID,
        (Phase.SENT_AGAIN, Event.LATE): Action.VOID,
        (Phase.SENT_AGAIN, Event.TIMED_OUT): Action.VOID,
        (Phase.SENT_AGAIN, Event.LOST): Action.VOID,
        (Phase.SENT_AGAIN, Event.CANCELLED): Action.VOID,
        (Phase.SENT_AGAIN, Event.UNCONFIRMED): Action.VOID,
    }
)
#: The actions instead, if the time of the caller is over.
WITHOUT_TIME: Mapping[Action, Action] = MappingProxyType(
    {Action.ASK_AGAIN: Action.VOID, Action.ASK_ANEW: Action.REFUSE}
)


class AttemptError(LedgerUnavailableError):
    """An attempt ended without a decision. Never leaves the gate."""

    def __init__(self, event: Event, message: str) -> None:
        super().__init__(message)
        self.event = event


class Attempt:
    """One attempt of a spend. The ledger updates its state."""

    __slots__ = (
        "asked_at_ms",
        "deadline_ms",
        "first_deadline_ms",
        "phase",
        "spend",
        "transaction_id",
    )

    def __init__(self, spend: Spend) -> None:
        self.spend = spend
        self.phase = _QUEUED
        #: Given by the caller, or minted when it is sent.
        self.transaction_id = spend.options.transaction_id
        #: When the attempt was sent, and its deadline, after which it must not be charged: in the
        #: ledger's time, in Unix milliseconds; 0 until it is sent.
        self.asked_at_ms = 0
        self.deadline_ms = 0
        #: The deadline of its first sending.
        self.first_deadline_ms = 0

    @property
    def is_given(self) -> bool:
        """Whether the caller chose its id, so that an earlier call may have used it."""
        return self.spend.options.transaction_id is not None

    @property
    def is_retry(self) -> bool:
        """Whether an earlier attempt with the id may have been charged."""
        return self.phase is _SENT_AGAIN or self.is_given

    def note_sent(self, transaction_id: CreditTransactionId, now_ms: int, deadline_ms: int) -> None:
        """Note that it was sent.

        Args:
            transaction_id: Its id from now on.
            now_ms: A time of the ledger that has certainly passed, in Unix milliseconds.
            deadline_ms: Its deadline, in Unix milliseconds.
        """
        if self.phase is _QUEUED:
            self.transaction_id = transaction_id
            self.asked_at_ms = now_ms
            self.first_deadline_ms = deadline_ms
            self.phase = _SENT
        self.deadline_ms = deadline_ms

    def follow(self, event: Event, *, has_time: bool) -> Action:
        """Apply an event, and return the action."""
        action = NEXT[self.phase, event]
        if not has_time:
            action = WITHOUT_TIME.get(action, action)
        if action is Action.ASK_AGAIN:
            self.phase = Phase.SENT_AGAIN
        elif action is Action.ASK_ANEW:
            self.phase = Phase.QUEUED
            self.transaction_id = self.spend.options.transaction_id
        else:
            self.phase = Phase.ENDED
        return action

    def void(self) -> Void:
        """Return the void of the attempt, which must have been sent."""
        if self.transaction_id is None:
            raise AssertionError("an attempt that was not sent has nothing to void")
        return Void(
            user_id=self.spend.user_id,
            transaction_id=self.transaction_id,
            asked_at_ms=self.asked_at_ms if self.is_given else 0,
            deadline_ms=self.deadline_ms,
            first_deadline_ms=self.first_deadline_ms if self.is_given else 0,
        )
