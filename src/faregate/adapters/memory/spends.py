"""Decides on spends, in one order."""

from dataclasses import replace

from faregate.adapters.memory.accounts import Account, Change, InPeriod, blank_decision
from faregate.adapters.memory.deducts import Deduct, HoldPart
from faregate.adapters.memory.earlier import Asked, EarlierAttempts
from faregate.adapters.memory.parts import Parts
from faregate.adapters.memory.shard import Recorded
from faregate.domain.attempt import AttemptError, Event
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import AmountError, FaregateError
from faregate.domain.idempotency import KeyState
from faregate.domain.limit import LimitState
from faregate.domain.policy import OnExpiry
from faregate.domain.spend import Spend
from faregate.domain.transaction import TransactionType
from faregate.domain.windows import ATTEMPT_MS_MAX, GIVEN_ID_MS_MAX, LOOK_BACK_MS

#: The refusals before which the rate limits have been looked at.
_AFTER_LIMITS = (Verdict.RATE_LIMITED, Verdict.OUT_OF_CREDITS, Verdict.CREDITS_HELD)


class Spends:
    """Charges and holds: each is answered by the first answer that holds."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._earlier = EarlierAttempts(parts)
        self._shard = parts.shard

    def decide(self, asked: Asked) -> Decision:
        """Return the decision; see the port."""
        account = self._parts.accounts.find(asked.spend.user_id)
        if account is None:
            return self._blank(asked)
        if not asked.is_given and asked.id_ms > self._shard.now_ms + LOOK_BACK_MS:
            raise AttemptError(Event.AHEAD, "the id is ahead of the ledger")
        in_period = self._parts.accounts.in_period(account, asked.spend.policy.granted)
        blank = self._blank(asked, in_period)
        may_be_known = self._earlier.name(asked, account)
        earlier = self._earlier.by_key(asked, blank)
        if earlier is None and may_be_known:
            earlier = self._earlier.by_id(asked, blank)
        if earlier is not None:
            return earlier
        states = self._parts.limits.states(asked.spend, account, self._shard.now_ms)
        refusal = self._refusal(asked, account, in_period, states)
        if refusal is not None:
            return self._refuse(asked, blank, refusal, states)
        if not (asked.spend.is_recorded or asked.spend.options.hold):
            return replace(blank, verdict=Verdict.ALLOWED, limits=states)
        return self._take(asked, account, in_period, blank)

    def _blank(self, asked: Asked, in_period: InPeriod | None = None) -> Decision:
        return blank_decision(
            asked.spend.user_id,
            asked.id,
            -asked.spend.cost,
            now_ms=self._shard.now_ms,
            user=in_period.user if in_period else None,
            policy=asked.spend.policy,
        )

    def _refusal(
        self,
        asked: Asked,
        account: Account,
        in_period: InPeriod,
        states: tuple[LimitState, ...],
    ) -> Verdict | FaregateError | None:
        """Return the first refusal that holds."""
        spend, now_ms = asked.spend, self._shard.now_ms
        key, hold, credits_ = spend.options.key, spend.options.hold, in_period.user.credits
        keys_full = key is not None and self._parts.keys.is_full(spend.user_id, key, now_ms)
        holds_full = hold is not None and account.holds_count >= hold.open_max
        lacks = 0 < spend.cost > credits_
        checks: tuple[tuple[Verdict | FaregateError, bool], ...] = (
            (AttemptError(Event.LATE, "it came after its deadline"), asked.is_late(now_ms)),
            (Verdict.BACKLOG, self._shard.is_full),
            (Verdict.TOO_MANY_KEYS, keys_full),
            (Verdict.TOO_MANY_HOLDS, holds_full),
            (Verdict.RATE_LIMITED, not all(state.remaining for state in states)),
            (Verdict.OUT_OF_CREDITS, lacks and spend.cost > credits_ + account.held),
            (Verdict.CREDITS_HELD, lacks),
            (AmountError("the balance would leave its range"), in_period.is_out_of_range),
        )
        return next((refusal for refusal, holds in checks if holds), None)

    def _refuse(
        self,
        asked: Asked,
        blank: Decision,
        refusal: Verdict | FaregateError,
        states: tuple[LimitState, ...],
    ) -> Decision:
        """Give a refusal. An earlier attempt with the id may still come: it is refused, too."""
        if asked.is_sent_again:
            self._parts.deducts.refuse(asked.id, asked.spend.user_id)
        if isinstance(refusal, FaregateError):
            raise refusal
        if refusal not in _AFTER_LIMITS:
            return replace(blank, verdict=refusal)
        refused = replace(blank, verdict=refusal, limits=states)
        if refusal is not Verdict.RATE_LIMITED:
            return refused
        limit = next(state for state in states if not state.remaining)
        return replace(refused, limited_by=limit.name, retry_after_ms=limit.resets_in_ms)

    def _take(
        self, asked: Asked, account: Account, in_period: InPeriod, blank: Decision
    ) -> Decision:
        """Take the cost, and remember the spend."""
        spend, now_ms = asked.spend, self._shard.now_ms
        change = Change(
            id=asked.id,
            type=TransactionType.DEDUCT,
            amount=-spend.cost,
            description=spend.description,
            metadata=spend.options.metadata,
            is_hold=spend.options.hold is not None,
        )
        recorded = self._parts.take(account, in_period, change)
        self._parts.limits.take(spend, account, now_ms)
        if asked.is_given:
            self._parts.ids.put(asked.id, recorded, GIVEN_ID_MS_MAX + ATTEMPT_MS_MAX)
        if spend.options.key is not None:
            self._parts.keys.keep(spend.user_id, spend.options.key, recorded, now_ms)
        return replace(
            blank,
            verdict=Verdict.ALLOWED,
            credits=account.credits,
            sequence=account.sequence,
            position=recorded.position,
            allowance_left=account.allowance_left,
            limits=self._parts.limits.states(spend, account, now_ms),
            key_state=KeyState.NEW if spend.options.key else None,
            expires_at_ms=self._open_hold(spend, account, recorded),
        )

    def _open_hold(self, spend: Spend, account: Account, recorded: Recorded) -> int:
        """Open the hold of a spend that has one; return when it expires, or 0."""
        hold = spend.options.hold
        if hold is None:
            return 0
        deduct = Deduct.of(recorded)
        deduct.hold = HoldPart(
            opened_at_ms=self._shard.now_ms,
            expires_at_ms=self._shard.now_ms + hold.ttl_ms,
            keeps=hold.on_expiry is OnExpiry.KEEP,
        )
        self._parts.deducts.put(deduct)
        account.held += spend.cost
        account.holds_count += 1
        return deduct.hold.expires_at_ms
