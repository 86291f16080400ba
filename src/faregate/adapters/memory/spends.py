"""Decides on spends, in one order."""

from collections.abc import Sequence
from dataclasses import replace

from faregate.adapters.memory.keys import IdempotencyKeys
from faregate.adapters.memory.limits import RateLimits
from faregate.adapters.memory.state import MemoryState
from faregate.adapters.memory.values import (
    Deduct,
    MemoryHold,
    allowed,
    amounts_of,
    blank_decision,
    check_same,
)
from faregate.domain.attempt import Attempt, AttemptError, Event, Phase
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import AmountError, FaregateError, TransactionIdError
from faregate.domain.hold import HoldAnswer, HoldState
from faregate.domain.idempotency import KeyState
from faregate.domain.limit import LimitState
from faregate.domain.policy import OnExpiry, in_current_period
from faregate.domain.spend import HoldOptions
from faregate.domain.transaction import (
    CREDITS_MAX,
    CreditTransaction,
    CreditTransactionId,
    TransactionType,
)
from faregate.domain.user import User
from faregate.domain.windows import (
    ATTEMPT_MS_MAX,
    GIVEN_ID_AHEAD_MS_MAX,
    GIVEN_ID_MS_MAX,
    MEMORY_MS,
    MINTED_ID_AHEAD_MS_MAX,
)

#: The refusals that come after the rate limits in the order of checks.
_AFTER_LIMITS = (Verdict.RATE_LIMITED, Verdict.OUT_OF_CREDITS, Verdict.CREDITS_HELD)
_LATE = "it came after its deadline"


class _Earlier:
    """Answers retries as before, and refuses ids that must not be charged."""

    def __init__(self, state: MemoryState, keys: IdempotencyKeys) -> None:
        self._state = state
        self._records = state.records
        self._keys = keys

    def answer(self, attempt: Attempt, blank: Decision) -> Decision | None:
        """Answer a retry, known by its idempotency key or its id; return None for a new spend."""
        if attempt.is_retry:
            self._state.note_named(blank.user_id, blank.transaction_id)
        found = self._by_idempotency_key(attempt, blank)
        is_named = _time_of(blank) <= self._state.named_ms[blank.user_id]
        if found is None and (attempt.is_given or is_named):
            found = self._by_id(attempt, blank)
        return found

    def _by_idempotency_key(self, attempt: Attempt, blank: Decision) -> Decision | None:
        """Answer a request with a known key. It takes over once the lease has ended."""
        key, now_ms = attempt.spend.options.key, self._records.now_ms
        lease = key and self._keys.known(blank.user_id, key, now_ms)
        if not key or not lease:
            return None
        if lease.fingerprint != key.fingerprint_digest:
            return replace(blank, verdict=Verdict.KEY_REUSED)
        identity = blank.transaction_id
        state = KeyState.TAKEN_OVER
        if lease.is_done:
            state = KeyState.DONE
        elif lease.holder == identity:
            # The answer to its first attempt was lost.
            if lease.first.id == identity:
                return None
        elif now_ms - lease.leased_at_ms < key.lease_ms:
            state = KeyState.IN_FLIGHT
        elif _is_late(attempt, blank):
            raise AttemptError(Event.LATE, _LATE)
        else:
            lease.leased_at_ms, lease.holder = now_ms, identity
        return self._repeat(attempt, blank, lease.first, key_state=state, attempt_id=identity)

    def _by_id(self, attempt: Attempt, blank: Decision) -> Decision | None:
        """Answer an attempt whose id is known or refused."""
        spend, identity = attempt.spend, blank.transaction_id
        deduct = self._state.deducts.get(identity)
        if deduct is not None and deduct.is_over:
            return replace(blank, verdict=Verdict.VOIDED)
        self._check_age(attempt, _time_of(blank))
        found = self._records.known(identity)
        if found is None:
            return None
        was_hold = deduct is not None and deduct.hold is not None
        known = (found.type, found.user_id, found.amount, was_hold)
        is_hold = spend.options.hold is not None
        wanted = (TransactionType.DEDUCT, spend.user_id, -spend.cost, is_hold)
        check_same(identity, is_same=known == wanted)
        if attempt.is_given:
            self._state.note_answer(attempt, found)
        return self._repeat(
            attempt, blank, found, key_state=KeyState.NEW if spend.options.key else None
        )

    def _check_age(self, attempt: Attempt, id_ms: int) -> None:
        """Check that an earlier attempt with the id would still be found."""
        # The refunds of a minted id may be forgotten before its record is.
        age_ms, ahead_ms, known_ms = self._records.now_ms - id_ms, MINTED_ID_AHEAD_MS_MAX, MEMORY_MS
        if attempt.is_given:
            ahead_ms, known_ms = GIVEN_ID_AHEAD_MS_MAX, GIVEN_ID_MS_MAX
        is_recent = -ahead_ms <= age_ms <= known_ms
        if is_recent and id_ms - ahead_ms >= self._records.oldest_ms:
            return
        if attempt.is_given:
            raise TransactionIdError("the id is outside the window in which a retry is known")
        raise AttemptError(Event.LATE, "the id is older than what the ledger has kept")

    def _repeat(
        self, attempt: Attempt, blank: Decision, first: CreditTransaction, **more: object
    ) -> Decision:
        """Answer as the first attempt was answered."""
        repeated = allowed(blank, first, transaction_id=first.id, repeated=True, **more)
        deduct = self._state.deducts.get(first.id)
        if deduct is None or deduct.hold is None or attempt.spend.options.hold is None:
            return repeated
        return replace(repeated, expires_at_ms=deduct.hold.answer.expires_at_ms)


class Spends:
    """Charges and holds. The checks run in a fixed order; the first that applies decides."""

    def __init__(self, state: MemoryState, keys: IdempotencyKeys, limits: RateLimits) -> None:
        self._state = state
        self._records = state.records
        self._keys = keys
        self._limits = limits
        self._earlier = _Earlier(state, keys)

    def decide(self, attempt: Attempt, identity: CreditTransactionId) -> Decision:
        """Return the decision on an attempt that has been sent with an id; see the port."""
        spend, now_ms = attempt.spend, self._records.now_ms
        user = self._state.user(spend.user_id)
        if user is not None:
            user, _ = in_current_period(user, spend.policy.granted, now_ms)
        blank = blank_decision(
            spend.user_id, identity, -spend.cost, now_ms=now_ms, user=user, policy=spend.policy
        )
        if user is None:
            return blank
        if not attempt.is_given and _time_of(blank) > now_ms + MINTED_ID_AHEAD_MS_MAX:
            raise AttemptError(Event.AHEAD, "the id is ahead of the ledger")
        earlier = self._earlier.answer(attempt, blank)
        if earlier is not None:
            return earlier
        states = self._limits.states(spend, now_ms)
        refusal = self._refusal(attempt, blank, user, states)
        if refusal is not None:
            return self._refuse(attempt, blank, refusal, states)
        if not (spend.is_recorded or spend.options.hold):
            return replace(blank, verdict=Verdict.ALLOWED, limits=states)
        return self._take(attempt, blank)

    def _refusal(
        self, attempt: Attempt, blank: Decision, user: User, states: Sequence[LimitState]
    ) -> Verdict | FaregateError | None:
        """Return the first refusal that applies."""
        spend, now_ms = attempt.spend, self._records.now_ms
        key, hold = spend.options.key, spend.options.hold
        keys_full = key is not None and self._keys.is_full(user.id, key, now_ms)
        holds_full = hold and len(self._state.open_holds(user.id)) >= hold.open_max
        lacks = 0 < spend.cost > user.credits
        checks: tuple[tuple[Verdict | FaregateError, object], ...] = (
            (AttemptError(Event.LATE, _LATE), _is_late(attempt, blank)),
            (Verdict.BACKLOG, self._records.is_full),
            (Verdict.TOO_MANY_KEYS, keys_full),
            (Verdict.TOO_MANY_HOLDS, holds_full),
            (Verdict.RATE_LIMITED, not all(state.remaining for state in states)),
            (Verdict.OUT_OF_CREDITS, lacks and spend.cost > user.credits + user.held),
            (Verdict.CREDITS_HELD, lacks),
            (AmountError("the balance would leave its range"), user.credits > CREDITS_MAX),
        )
        return next((refusal for refusal, holds in checks if holds), None)

    def _refuse(
        self,
        attempt: Attempt,
        blank: Decision,
        refusal: Verdict | FaregateError,
        states: tuple[LimitState, ...],
    ) -> Decision:
        """Refuse. An earlier attempt with the same id that arrives later is refused, too."""
        if attempt.phase is Phase.SENT_AGAIN:
            self._state.refuse(blank.transaction_id, blank.user_id)
        if isinstance(refusal, FaregateError):
            raise refusal
        refused = replace(blank, verdict=refusal)
        if refusal in _AFTER_LIMITS:
            refused = replace(refused, limits=states)
        if refusal is not Verdict.RATE_LIMITED:
            return refused
        limit = next(state for state in states if not state.remaining)
        return replace(refused, limited_by=limit.name, retry_after_ms=limit.resets_in_ms)

    def _take(self, attempt: Attempt, blank: Decision) -> Decision:
        """Take the cost, and save the values that a retry needs."""
        spend, now_ms = attempt.spend, self._records.now_ms
        record = self._state.take(
            self._state.users[spend.user_id],
            spend.policy.granted,
            spend.cost,
            id=blank.transaction_id,
            description=spend.description,
            metadata=spend.options.metadata,
        )
        self._limits.take(spend, now_ms)
        if attempt.is_given:
            self._records.remembered.put(record.id, record, GIVEN_ID_MS_MAX + ATTEMPT_MS_MAX)
            self._state.note_first_answer(attempt, record)
        if spend.options.key is not None:
            self._keys.save(spend.options.key, record, now_ms)
        hold = spend.options.hold
        return allowed(
            blank,
            record,
            limits=self._limits.states(spend, now_ms),
            key_state=KeyState.NEW if spend.options.key else None,
            expires_at_ms=0 if hold is None else self._open(hold, record),
        )

    def _open(self, options: HoldOptions, record: CreditTransaction) -> int:
        """Open a hold; return when it expires."""
        expires_at_ms = self._records.now_ms + options.ttl_ms
        deduct = Deduct(record.id, record.user_id, amounts_of(record))
        answer = HoldAnswer(
            verdict=Verdict.ALLOWED,
            user_id=record.user_id,
            hold_id=record.id,
            state=HoldState.OPEN,
            expires_at_ms=expires_at_ms,
        )
        is_kept_at_expiry = options.on_expiry is OnExpiry.KEEP
        deduct.hold = MemoryHold(deduct, answer, self._records.now_ms, is_kept_at_expiry)
        self._state.save(deduct)
        return expires_at_ms


def _time_of(blank: Decision) -> int:
    """Return the time in the id of an attempt, in Unix milliseconds."""
    return blank.transaction_id.time_ms or 0


def _is_late(attempt: Attempt, blank: Decision) -> bool:
    """Return whether the deadline of an attempt is over."""
    now_ms = blank.decided_at_ms
    is_old = not attempt.is_given and now_ms > _time_of(blank) + ATTEMPT_MS_MAX
    return is_old or now_ms > attempt.deadline_ms
