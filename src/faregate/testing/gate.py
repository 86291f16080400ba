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
#: Larger than the number of failures and records of any test.
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
        credits: The starting credits of that policy; None for 3.
        clock: The clock; None for a new one, which stands still on 1 January 2026.
        options: The options of the gate.
        tier_of: Returns the tier of a user, if there are several.

    Raises:
        InvalidArgumentError: Both policies and credits are given; policies have starting credits.
    """
    if policies is None:
        policies = CreditPolicy(starting_credits=_STARTING_CREDITS if credits is None else credits)
    elif credits is not None:
        raise InvalidArgumentError("policies or credits, not both: policies have starting_credits")
    return MemoryGate(policies, clock or Clock(), options, tier_of)


class MemoryGate(Gate):
    """A `Gate` to mount like any other. Its helpers are synchronous and need no event loop."""

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
        #: The clock, which a test advances.
        self.clock = clock
        #: The live ledger, with forced faults.
        decisions = FaultyDecisions(live, faults, clock, timeout_ms)
        self.ledger: Ledger = guarded(
            live, faults.reach_redis, decide=decisions.decide, lane=decisions.lane
        )
        #: The requests that were served without a decision.
        self.journal = MemoryJournal()
        super().__init__(
            self.ledger,
            guarded(store, faults.reach_postgres, identity=identity.ask),
            tiers,
            # Forced failures must not open the breaker.
            replace(options, breaker=BreakerOptions(failures_max=_NEVER)),
            tier_of,
            history=guarded(store, self._read_rows),
            journal=self.journal,
        )
        _at_once(store.mark_installed(_at_once(store.identity()).epoch))
        self.start = identity.asked_by(self.start)

    def sign_up(self, user_id: UUID | None = None, *, credits: int | None = None) -> UUID:
        """Create a user, and return its id; all others are unknown.

        Args:
            user_id: Its id; None for a new one.
            credits: Its credits; None for the starting credits.
        """
        user_id = user_id or uuid4()
        user = _at_once(self._store.open(user_id, provision=True))
        if user is not None:
            _at_once(self._live.install(user))
        if credits is not None:
            self.set_credits(user_id, credits)
        return user_id

    def set_credits(self, user_id: UUID, credits: int, *, tier: str | None = None) -> None:
        """Set the credits that the next charge of a user finds, by an adjustment.

        Args:
            user_id: An existing user.
            credits: The credits; below zero for a debt.
            tier: The tier whose allowance applies; None for the default one.
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
        """Return the credits that the next charge of a user would find."""
        user = _at_once(self._live.read(user_id, self.policies.of(tier).granted))
        if user is None:
            raise InvalidArgumentError(f"user {user_id} has not signed up: `gate.sign_up` does it")
        return user.credits

    def records(
        self, user_id: UUID | None = None, kind: TransactionType | None = None
    ) -> list[CreditTransaction]:
        """Return the records, the oldest first: of one user or all, of one type or all."""
        found = (
            record
            for record in (*self._store.rows.values(), *self._live.pending.values())
            if user_id in {None, record.user_id} and kind in {None, record.type}
        )
        return sorted(found, key=lambda record: (record.timestamp, record.sequence))

    def charged(self, user_id: UUID | None = None) -> int:
        """Return the credits that charges and holds took in total, including refunded ones."""
        return -sum(record.amount for record in self.records(user_id, TransactionType.DEDUCT))

    def refunded(self, user_id: UUID | None = None) -> int:
        """Return the credits that were given back in total."""
        return sum(record.amount for record in self.records(user_id, TransactionType.REFUND))

    @contextmanager
    def answering(
        self, answer: Verdict | KeyState, *, retry_after_ms: int = 1_000
    ) -> Iterator[None]:
        """Force the answer to all charges and holds in the block; nothing is taken.

        Some answers apply only to requests with an idempotency key, or only to holds; others are
        decided as usual.

        Args:
            answer: A refusal, or the state of the first request with an idempotency key.
            retry_after_ms: The wait of `RATE_LIMITED` and `OVERLOADED`, in milliseconds.

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
        """Force a failure in the block. Background work of the gate is done afterwards."""
        earlier, self._faults.failure = self._faults.failure, failure
        try:
            yield
        finally:
            self._faults.failure = earlier

    def drain(self) -> int:
        """Store all records as rows, as the worker and `history` do; return how many."""
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
    """Run a coroutine that never waits, with or without a running loop."""
    try:
        asked.send(None)
    except StopIteration as done:
        answer: _T = done.value
        return answer
    asked.close()
    raise RuntimeError("an operation in memory has waited, which must not happen")
