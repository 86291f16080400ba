"""A ledger in memory that loses messages as a test says, and a clock for it."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from faregate.adapters.memory.ledger import MemoryLedger
from faregate.adapters.memory.store import MemoryStore
from faregate.adapters.memory.stream import MemoryStream
from faregate.domain.attempt import Attempt, AttemptError, Event
from faregate.domain.decision import Decision
from faregate.domain.errors import LedgerUnavailableError, OutcomeUnknownError
from faregate.domain.transaction import CreditTransactionId

#: Everything beside decisions, but for reading, by which tests look at what there is.
CALLS = (
    "attach",
    "void",
    "settle",
    "extend",
    "expire_due",
    "refund",
    "credit",
    "collect",
    "complete",
    "response",
    "install",
    "correct_shadow",
    "shadow_counts",
)
#: After which a message was sent.
_SENT = {Event.TIMED_OUT, Event.LOST, Event.AHEAD, Event.LATE}


class LossyLedger(MemoryLedger):
    """Does what its script says, and then what a ledger in memory does."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        super().__init__(now_ms=now_ms)
        for name in CALLS:
            setattr(self, name, self._losing(name, getattr(self, name)))
        #: What becomes of the next decisions: the event, whether the ledger decides before, or an
        #: error that it answers.
        self.script: list[tuple[Event, bool] | Exception] = []
        #: How many of the next calls lose their answer, by name; all if `is_lossy`.
        self.lost: Counter[str] = Counter()
        self.is_lossy = False
        #: Whether nothing can be sent.
        self.is_down = False
        #: How often it was asked to decide, and the attempts that it was asked about.
        self.asked = 0
        self.attempts: list[tuple[CreditTransactionId | None, bool]] = []
        #: Answers to decisions wait for this, where there is one; `is_waiting` says that one does.
        self.released: asyncio.Event | None = None
        self.is_waiting = asyncio.Event()

    def lose(self, *events: Event, decided: bool = True) -> None:
        """Let these be what becomes of the next decisions; the ledger has decided, or not."""
        self.script += [(event, decided) for event in events]

    async def decide(self, attempt: Attempt) -> Decision:
        self.asked += 1
        if self.is_down:
            raise AttemptError(Event.NOT_SENT, "Redis is down")
        step = self.script.pop(0) if self.script else None
        if isinstance(step, Exception):
            self._send(attempt)
            raise step
        if step is not None and not step[1]:
            if step[0] in _SENT:
                self._send(attempt)
            raise AttemptError(step[0], "lost on the way there")
        decision = await super().decide(attempt)
        self.attempts.append((attempt.transaction_id, attempt.is_retry))
        if self.released is not None:
            self.is_waiting.set()
            await self.released.wait()
        if step is not None or self.is_lossy:
            event = Event.TIMED_OUT if step is None else step[0]
            raise AttemptError(event, "lost on the way back")
        return decision

    def _send(self, attempt: Attempt) -> None:
        now_ms = self.now_ms()
        identity = attempt.transaction_id or CreditTransactionId.mint(now_ms)
        attempt.note_sent(identity, now_ms, now_ms + 50)
        self.attempts.append((attempt.transaction_id, attempt.is_retry))

    def _losing(
        self, name: str, real: Callable[..., Awaitable[Any]]
    ) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any) -> Any:
            if self.is_down:
                raise LedgerUnavailableError("Redis is down")
            answer = await real(*args)
            if self.lost[name]:
                self.lost[name] -= 1
                raise OutcomeUnknownError("lost on the way back")
            if self.is_lossy and name != "attach":
                raise OutcomeUnknownError("lost on the way back")
            return answer

        return call


class Clock:
    """A clock that moves when it is told to."""

    ms = 1_800_000_000_000

    def __call__(self) -> int:
        return self.ms


def outlive(ledger: MemoryLedger, store: MemoryStore, clock: Clock, ms: int) -> None:
    """Make rows of all records, and let time pass until the ledger has forgotten them."""
    stream = MemoryStream(ledger)
    batch = stream.read(0, store.cursors().get(0), 10)
    assert batch is not None
    cursor = store.store(batch).cursor
    clock.ms += ms
    assert stream.note_stored(0, cursor) == batch.count
