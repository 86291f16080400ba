"""Decides on spends, in one order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from faregate.adapters.memory.keys import IdempotencyKeys
from faregate.adapters.memory.limits import RateLimits
from faregate.adapters.memory.state import State
from faregate.adapters.memory.values import (
    Deduct,
    Held,
    allowed,
    blank_decision,
    check_same,
    taken_by,
)
from faregate.domain.attempt import Attempt, AttemptError, Event, Phase
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import AmountError, FaregateError, TransactionIdError
from faregate.domain.hold import HoldAnswer, HoldState
from faregate.domain.idempotency import KeyState
from faregate.domain.limit import LimitState
from faregate.domain.policy import OnExpiry, renewed
from faregate.domain.spend import HoldTerms, Spend
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
    LOOK_BACK_MS,
)

#: The refusals before which the rate limits have been looked at.
_AFTER_LIMITS = (Verdict.RATE_LIMITED, Verdict.OUT_OF_CREDITS, Verdict.CREDITS_HELD)
_LATE = "it came after its deadline"


@dataclass(frozen=True, slots=True)
class _Asked:
    """One attempt as it reaches the ledger."""

    spend: Spend
    id: CreditTransactionId
    #: Whether it was sent before, so that an earlier attempt with its id may still come.
    is_sent_again: bool
    #: Whether it must not take anything any more.
    is_late: bool
    #: The user in the period of now.
    user: User
    #: The refusal that holds until something better is decided.
    blank: Decision

    @property
    def is_given(self) -> bool:
        """Whether the caller chose the id."""
        return self.spend.options.transaction_id is not None

    @property
    def id_ms(self) -> int:
        """The time in the id."""
        return self.id.time_ms or 0


class Spends:
    """Charges and holds: each is answered by the first answer that holds."""

    def __init__(self, state: State, keys: IdempotencyKeys, limits: RateLimits) -> None:
        self._state = state
        self._records = state.records
        self._keys = keys
        self._limits = limits

    def decide(self, attempt: Attempt, identity: CreditTransactionId) -> Decision:
        """Return the decision on an attempt that has been sent with an id; see the port."""
        spend, user = attempt.spend, self._state.user(attempt.spend.user_id)
        if user is None:
            return self._blank(spend, identity, None)
        asked = self._asked(attempt, identity, user)
        if not asked.is_given and asked.id_ms > self._records.now_ms + LOOK_BACK_MS:
            raise AttemptError(Event.AHEAD, "the id is ahead of the ledger")
        if attempt.is_retry:
            self._state.name(user.id, identity)
        earlier = self._by_key(asked)
        if earlier is None and (asked.is_given or asked.id_ms <= self._state.named_ms[user.id]):
            earlier = self._by_id(asked)
        if earlier is not None:
            return earlier
        states = self._limits.states(spend, self._records.now_ms)
        refusal = self._refusal(asked, states)
        if refusal is not None:
            return self._refuse(asked, refusal, states)
        if not (spend.is_recorded or spend.options.hold):
            return replace(asked.blank, verdict=Verdict.ALLOWED, limits=states)
        return self._take(asked)

    def _asked(self, attempt: Attempt, identity: CreditTransactionId, user: User) -> _Asked:
        spend, now_ms = attempt.spend, self._records.now_ms
        in_period, _ = renewed(user, spend.policy.granted, now_ms)
        is_old = not attempt.is_given and now_ms > (identity.time_ms or 0) + ATTEMPT_MS_MAX
        return _Asked(
            spend=spend,
            id=identity,
            is_sent_again=attempt.phase is Phase.SENT_AGAIN,
            is_late=is_old or now_ms > attempt.deadline_ms,
            user=in_period,
            blank=self._blank(spend, identity, in_period),
        )

    def _blank(self, spend: Spend, identity: CreditTransactionId, user: User | None) -> Decision:
        return blank_decision(
            spend.user_id,
            identity,
            -spend.cost,
            now_ms=self._records.now_ms,
            user=user,
            policy=spend.policy,
        )

    def _by_key(self, asked: _Asked) -> Decision | None:
        """Answer a request whose key is known. One that is not completed in time is taken over."""
        key, now_ms = asked.spend.options.key, self._records.now_ms
        entry = key and self._keys.known(asked.user.id, key, now_ms)
        if not key or not entry:
            return None
        if entry.fingerprint != key.fingerprint_digest:
            return replace(asked.blank, verdict=Verdict.KEY_REUSED)
        state = KeyState.TAKEN_OVER
        if entry.is_done:
            state = KeyState.DONE
        elif entry.holder == asked.id:
            # The answer to its first attempt was lost.
            if entry.first.id == asked.id:
                return None
        elif now_ms - entry.leased_at_ms < key.lease_ms:
            state = KeyState.IN_FLIGHT
        elif asked.is_late:
            raise AttemptError(Event.LATE, _LATE)
        else:
            entry.leased_at_ms, entry.holder = now_ms, asked.id
        return self._repeat(asked, entry.first, key_state=state, attempt_id=asked.id)

    def _by_id(self, asked: _Asked) -> Decision | None:
        """Answer an attempt whose id is known, or must not be charged any more."""
        deduct = self._state.deducts.get(asked.id)
        if deduct is not None and deduct.is_over:
            return replace(asked.blank, verdict=Verdict.VOIDED)
        self._check_age(asked)
        found = self._records.known(asked.id)
        if found is None:
            return None
        was_held = deduct is not None and deduct.hold is not None
        known = (found.type, found.user_id, found.amount, was_held)
        is_held = asked.spend.options.hold is not None
        wanted = (TransactionType.DEDUCT, asked.user.id, -asked.spend.cost, is_held)
        check_same(asked.id, is_same=known == wanted)
        return self._repeat(asked, found, key_state=_new_key(asked.spend))

    def _check_age(self, asked: _Asked) -> None:
        """Make sure that an earlier attempt with the id would be found."""
        age_ms, oldest_ms = self._records.now_ms - asked.id_ms, self._records.oldest_ms
        if not asked.is_given:
            if asked.id_ms - LOOK_BACK_MS < oldest_ms:
                raise AttemptError(Event.LATE, "the id is older than what the ledger has kept")
            return
        is_recent = -GIVEN_ID_AHEAD_MS_MAX <= age_ms <= GIVEN_ID_MS_MAX
        if not is_recent or asked.id_ms - GIVEN_ID_AHEAD_MS_MAX < oldest_ms:
            raise TransactionIdError("the id is outside the window in which a retry is known")

    def _repeat(self, asked: _Asked, first: CreditTransaction, **more: object) -> Decision:
        """Answer as the first attempt was answered."""
        repeated = allowed(asked.blank, first, transaction_id=first.id, repeated=True, **more)
        deduct = self._state.deducts.get(first.id)
        if deduct is None or deduct.hold is None or asked.spend.options.hold is None:
            return repeated
        return replace(repeated, expires_at_ms=deduct.hold.answer.expires_at_ms)

    def _refusal(
        self, asked: _Asked, states: Sequence[LimitState]
    ) -> Verdict | FaregateError | None:
        """Return the first refusal that holds."""
        spend, user, now_ms = asked.spend, asked.user, self._records.now_ms
        key, hold = spend.options.key, spend.options.hold
        keys_full = key is not None and self._keys.is_full(user.id, key, now_ms)
        holds_full = hold and len(self._state.open_holds(user.id)) >= hold.open_max
        lacks = 0 < spend.cost > user.credits
        checks: tuple[tuple[Verdict | FaregateError, object], ...] = (
            (AttemptError(Event.LATE, _LATE), asked.is_late),
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
        self, asked: _Asked, refusal: Verdict | FaregateError, states: tuple[LimitState, ...]
    ) -> Decision:
        """Give a refusal. An earlier attempt with the id may still come: it is refused, too."""
        if asked.is_sent_again:
            self._state.refuse(asked.id, asked.user.id)
        if isinstance(refusal, FaregateError):
            raise refusal
        refused = replace(asked.blank, verdict=refusal)
        if refusal in _AFTER_LIMITS:
            refused = replace(refused, limits=states)
        if refusal is not Verdict.RATE_LIMITED:
            return refused
        limit = next(state for state in states if not state.remaining)
        return replace(refused, limited_by=limit.name, retry_after_ms=limit.resets_in_ms)

    def _take(self, asked: _Asked) -> Decision:
        """Take the cost, and remember the spend."""
        spend, now_ms = asked.spend, self._records.now_ms
        record = self._state.take(
            self._state.users[spend.user_id],
            spend.policy.granted,
            spend.cost,
            id=asked.id,
            description=spend.description,
            metadata=spend.options.metadata,
        )
        self._limits.take(spend, now_ms)
        if asked.is_given:
            self._records.remembered.put(record.id, record, GIVEN_ID_MS_MAX + ATTEMPT_MS_MAX)
        if spend.options.key is not None:
            self._keys.keep(spend.options.key, record, now_ms)
        hold = spend.options.hold
        return allowed(
            asked.blank,
            record,
            limits=self._limits.states(spend, now_ms),
            key_state=_new_key(spend),
            expires_at_ms=0 if hold is None else self._open(hold, record),
        )

    def _open(self, terms: HoldTerms, record: CreditTransaction) -> int:
        """Open a hold; return when it expires."""
        expires_at_ms = self._records.now_ms + terms.ttl_ms
        deduct = Deduct(record.id, record.user_id, taken_by(record))
        answer = HoldAnswer(
            verdict=Verdict.ALLOWED,
            user_id=record.user_id,
            hold_id=record.id,
            state=HoldState.OPEN,
            expires_at_ms=expires_at_ms,
        )
        keeps = terms.on_expiry is OnExpiry.KEEP
        deduct.hold = Held(deduct, answer, self._records.now_ms, keeps)
        self._state.keep(deduct)
        return expires_at_ms


def _new_key(spend: Spend) -> KeyState | None:
    return KeyState.NEW if spend.options.key else None
