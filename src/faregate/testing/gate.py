"""A gate in memory, with helpers for tests."""

from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID, uuid4

from faregate.adapters.memory.journal import MemoryJournal
from faregate.adapters.memory.ledger import MemoryLedger
from faregate.adapters.memory.store import MemoryStore
from faregate.adapters.memory.stream import MemoryStream
from faregate.domain.decision import Verdict
from faregate.domain.errors import InvalidArgumentError
from faregate.domain.idempotency import KeyState
from faregate.domain.policy import BreakerOptions, CreditPolicy, GateOptions, PolicySet
from faregate.domain.request import Credit
from faregate.domain.transaction import CreditTransaction, CreditTransactionId, TransactionType
from faregate.gate import Gate, TierOf
from faregate.ports import Ledger
from faregate.testing.clock import Clock
from faregate.testing.faults import (
    Failure,
    Faults,
    FaultyDecisions,
    Identity,
    check_answer,
    guarded,
)

_T = TypeVar("_T")

_STARTING_CREDITS = 3
#: More failures than any test has, and more records.
_NEVER = _ALL = 1_000_000_000


def memory_gate(
    policies: CreditPolicy | PolicySet | None = None,
    *,
    credits: int | None = None,
    clock: Clock | None = None,
    options: GateOptions | None = None,
    tier_of: TierOf | None = None,
) -> "MemoryGate":
    """Make a gate in memory, with no user yet.

    Args:
        policies: As for `build_gate`; None for one policy with no limits.
        credits: The starting credits of that one policy; None for 3.
        clock: The time; None for one of its own, which stands still on the first of January 2026.
        options: How the gate behaves, as in production.
        tier_of: Says which tier a user has, where the policies are for several.

    Raises:
        InvalidArgumentError: Both policies and credits are given: policies say what users start
            with.
    """
    if policies is None:
        policies = CreditPolicy(starting_credits=_STARTING_CREDITS if credits is None else credits)
    elif credits is not None:
        raise InvalidArgumentError("policies or credits, not both: policies have starting_credits")
    return MemoryGate(policies, clock or Clock(), options, tier_of)


class MemoryGate(Gate):
    """A `Gate` to mount like any other. Its helpers act at once and need no event loop."""

    def __init__(
        self,
        policies: CreditPolicy | PolicySet,
        clock: Clock,
        options: GateOptions | None,
        tier_of: TierOf | None,
    ) -> None:
        """See `memory_gate`."""
        options = options or GateOptions()
        tiers = PolicySet.single(policies) if isinstance(policies, CreditPolicy) else policies
        timeout_ms = options.decision_timeout_ms
        self._faults = faults = Faults()
        self._live = live = MemoryLedger(now_ms=clock, decision_timeout_ms=timeout_ms)
        self._store = store = MemoryStore(
            starting_credits=tiers.of(None).starting_credits, now_ms=clock
        )
        identity = Identity(store, faults)
        _at_once(live.attach(_at_once(store.identity())))
        #: The time, which moves when it is told to.
        self.clock = clock
        #: The live ledger as the gate meets it.
        self.ledger: Ledger = guarded(
            live, faults.reach_redis, decide=FaultyDecisions(live, faults, clock, timeout_ms).decide
        )
        #: The requests that were served without a decision.
        self.journal = MemoryJournal()
        super().__init__(
            self.ledger,
            guarded(store, faults.reach_postgres, identity=identity.ask),
            tiers,
            # Failures come on purpose here, so that no number of them opens the breaker.
            replace(options, breaker=BreakerOptions(failures_max=_NEVER)),
            tier_of,
            history=guarded(store, self._read_rows),
            journal=self.journal,
        )
        _at_once(store.mark_installed(_at_once(store.identity()).epoch))
        self.start = identity.asked_by(self.start)

    def sign_up(self, user_id: UUID | None = None, *, credits: int | None = None) -> UUID:
        """Make a user that exists, and return its id; all others are unknown.

        Args:
            user_id: Its id; None for a new one.
            credits: What it has; None for the starting credits.
        """
        user_id = user_id or uuid4()
        user = _at_once(self._store.open(user_id, provision=True))
        if user is not None:
            _at_once(self._live.install(user))
        if credits is not None:
            self.set_credits(user_id, credits)
        return user_id

    def set_credits(self, user_id: UUID, credits: int, *, tier: str | None = None) -> None:
        """Let a user have so many credits, as its next charge finds them: by an adjustment.

        Args:
            user_id: A user that has signed up.
            credits: How many; below zero for a debt.
            tier: Whose policy says what a new period brings; None for the default one.
        """
        missing = credits - self.credits_of(user_id, tier=tier)
        if missing:
            credit = Credit(
                user_id=user_id,
                transaction_id=CreditTransactionId.mint(self.clock()),
                type=TransactionType.ADMIN_ADJUSTMENT,
                amount=missing,
                description="set by a test",
                negative_allowed=True,
            )
            _at_once(self._live.credit(credit))

    def credits_of(self, user_id: UUID, *, tier: str | None = None) -> int:
        """Return how many credits the next charge of a user would find."""
        user = _at_once(self._live.read(user_id, self.policies.of(tier).granted))
        if user is None:
            raise InvalidArgumentError(f"user {user_id} has not signed up: `gate.sign_up` does it")
        return user.credits

    def records(
        self, user_id: UUID | None = None, kind: TransactionType | None = None
    ) -> list[CreditTransaction]:
        """Return what was recorded, oldest first: of one user or all, of one type or all."""
        found = (
            record
            for record in (*self._store.rows.values(), *self._live.pending.values())
            if user_id in {None, record.user_id} and kind in {None, record.type}
        )
        return sorted(found, key=lambda record: (record.timestamp, record.sequence))

    def charged(self, user_id: UUID | None = None) -> int:
        """Return how many credits charges and holds have taken in all, refunded ones included."""
        return -sum(record.amount for record in self.records(user_id, TransactionType.DEDUCT))

    def refunded(self, user_id: UUID | None = None) -> int:
        """Return how many credits have been given back in all."""
        return sum(record.amount for record in self.records(user_id, TransactionType.REFUND))

    @contextmanager
    def answering(
        self, answer: Verdict | KeyState, *, retry_after_ms: int = 1_000
    ) -> Iterator[None]:
        """Answer all charges and holds so in this block; nothing is taken.

        An answer that only requests with an idempotency key get, or only holds, is given to these;
        others are decided as always.

        Args:
            answer: A refusal, or how the first request with an idempotency key stands.
            retry_after_ms: When the user is to come back: of `RATE_LIMITED` and `OVERLOADED`.

        Raises:
            InvalidArgumentError: No charge and no hold is ever answered so.
        """
        faults = self._faults
        earlier = (faults.answer, faults.retry_after_ms)
        faults.answer, faults.retry_after_ms = check_answer(answer), retry_after_ms
        try:
            yield
        finally:
            faults.answer, faults.retry_after_ms = earlier

    @contextmanager
    def failing(self, failure: Failure) -> Iterator[None]:
        """Let something fail in this block. The gate does afterwards what it tries again."""
        earlier, self._faults.failure = self._faults.failure, failure
        try:
            yield
        finally:
            self._faults.failure = earlier

    def drain(self) -> int:
        """Make rows of what was recorded, as the worker and `history` do; return how many."""
        stream = MemoryStream(self._live)
        batch = stream.read(0, self._store.cursors().get(0), _ALL)
        if batch is None:
            return 0
        stored = self._store.store(batch)
        stream.note_stored(0, stored.cursor)
        return stored.count

    def _read_rows(self) -> None:
        self._faults.reach_postgres()
        self.drain()


def _at_once(asked: Coroutine[Any, Any, _T]) -> _T:
    """Run what never waits, as nothing in memory does, whether or not a loop runs."""
    try:
        asked.send(None)
    except StopIteration as done:
        answer: _T = done.value
        return answer
    asked.close()
    raise RuntimeError("what is in memory has waited for something")
