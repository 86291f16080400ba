"""Recognises spends that were asked for before: by their idempotency key, or by their id."""

from dataclasses import dataclass, replace
from typing import Self

from faregate.adapters.memory.accounts import Account
from faregate.adapters.memory.parts import Parts
from faregate.adapters.memory.shard import Recorded
from faregate.domain.attempt import Attempt, AttemptError, Event, Phase
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import TransactionConflictError, TransactionIdError
from faregate.domain.idempotency import KeyState
from faregate.domain.spend import Spend
from faregate.domain.transaction import CreditTransactionId, TransactionType
from faregate.domain.windows import (
    ATTEMPT_MS_MAX,
    GIVEN_ID_AHEAD_MS_MAX,
    GIVEN_ID_MS_MAX,
    LOOK_BACK_MS,
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One attempt as it reaches the ledger."""

    spend: Spend
    id: CreditTransactionId
    deadline_ms: int
    #: Whether it was sent before, so that an earlier attempt with its id may still come.
    is_sent_again: bool

    @classmethod
    def of(cls, attempt: Attempt, identity: CreditTransactionId) -> Self:
        """Return an attempt that has been sent with an id."""
        return cls(
            spend=attempt.spend,
            id=identity,
            deadline_ms=attempt.deadline_ms,
            is_sent_again=attempt.phase is Phase.SENT_AGAIN,
        )

    @property
    def is_given(self) -> bool:
        """Whether the caller chose the id."""
        return self.spend.options.transaction_id is not None

    @property
    def id_ms(self) -> int:
        """The time in the id."""
        return self.id.time_ms or 0

    def is_late(self, now_ms: int) -> bool:
        """Whether it must not take anything any more."""
        is_old = not self.is_given and now_ms > self.id_ms + ATTEMPT_MS_MAX
        return is_old or now_ms > self.deadline_ms


class EarlierAttempts:
    """Answers spends as they were answered before, and refuses those that must not be charged."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._shard = parts.shard

    def name(self, asked: Asked, account: Account) -> bool:
        """Note an id that an earlier attempt may have; say whether one may have had it."""
        if asked.is_sent_again:
            account.name(asked.id_ms)
        elif asked.is_given:
            account.name(min(asked.id_ms, self._shard.now_ms))
        return asked.is_given or asked.id_ms <= account.named_ms

    def by_key(self, asked: Asked, blank: Decision) -> Decision | None:
        """Answer a request whose key is known. One that is not completed in time is taken over."""
        key, now_ms = asked.spend.options.key, self._shard.now_ms
        entry = key and self._parts.keys.known(asked.spend.user_id, key, now_ms)
        if not key or not entry:
            return None
        if entry.fingerprint != key.fingerprint_digest:
            return replace(blank, verdict=Verdict.KEY_REUSED)
        state = KeyState.DONE
        if not entry.is_done and entry.holder == asked.id:
            # The answer to its first attempt was lost.
            if entry.id == asked.id:
                return None
            state = KeyState.TAKEN_OVER
        elif not entry.is_done and now_ms - entry.leased_at_ms < key.lease_ms:
            state = KeyState.IN_FLIGHT
        elif not entry.is_done:
            if asked.is_late(now_ms):
                raise AttemptError(Event.LATE, "it came after its deadline")
            entry.leased_at_ms, entry.holder = now_ms, asked.id
            state = KeyState.TAKEN_OVER
        repeated = self._repeat(asked, blank, entry.first)
        return replace(repeated, key_state=state, attempt_id=asked.id)

    def by_id(self, asked: Asked, blank: Decision) -> Decision | None:
        """Answer an attempt whose id is known, or must not be charged any more."""
        deduct = self._parts.deducts.get(asked.id)
        if deduct is not None and deduct.is_over:
            return replace(blank, verdict=Verdict.VOIDED)
        self._check_age(asked)
        found = self._parts.ids.get(asked.id) if asked.is_given else None
        found = found or self._shard.find(asked.id, asked.id_ms - LOOK_BACK_MS)
        if found is None:
            return None
        known = (found.record.type, found.record.user_id, found.record.amount, found.is_hold)
        is_hold = asked.spend.options.hold is not None
        if known != (TransactionType.DEDUCT, blank.user_id, blank.amount, is_hold):
            raise TransactionConflictError(f"transaction {asked.id} is known with other content")
        repeated = self._repeat(asked, blank, found)
        return replace(repeated, key_state=KeyState.NEW if asked.spend.options.key else None)

    def _check_age(self, asked: Asked) -> None:
        """Make sure that an earlier attempt with the id would be found."""
        now_ms, oldest_ms = self._shard.now_ms, self._shard.oldest_kept_ms
        if not asked.is_given:
            if asked.id_ms - LOOK_BACK_MS < oldest_ms:
                raise AttemptError(Event.LATE, "the id is older than what the ledger has kept")
            return
        is_recent = -GIVEN_ID_AHEAD_MS_MAX <= now_ms - asked.id_ms <= GIVEN_ID_MS_MAX
        if not is_recent or asked.id_ms - GIVEN_ID_AHEAD_MS_MAX < oldest_ms:
            raise TransactionIdError("the id is outside the window in which a retry is known")

    def _repeat(self, asked: Asked, blank: Decision, first: Recorded) -> Decision:
        """Answer as the first attempt was answered."""
        record, expires_at_ms = first.record, 0
        if asked.spend.options.hold is not None:
            deduct = self._parts.deducts.get(record.id)
            expires_at_ms = deduct.hold.expires_at_ms if deduct and deduct.hold else 0
        return replace(
            blank,
            verdict=Verdict.ALLOWED,
            transaction_id=record.id,
            amount=record.amount,
            credits=record.balance_after,
            sequence=record.sequence,
            allowance_left=record.allowance_after,
            repeated=True,
            expires_at_ms=expires_at_ms,
        )
