"""The decision on a request for credits."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self
from uuid import UUID

from faregate.domain.idempotency import KeyState
from faregate.domain.limit import LimitState
from faregate.domain.policy import CreditPolicy
from faregate.domain.quick import quick_maker
from faregate.domain.transaction import CreditTransaction, CreditTransactionId


class Verdict(StrEnum):
    """The verdict of the ledger. Refusals are in the order of their checks."""

    #: The change was made, and its record written, in one step.
    ALLOWED = "allowed"
    #: Neither Redis nor Postgres knows the user.
    UNKNOWN_USER = "unknown_user"
    #: The idempotency key was used for another request before.
    KEY_REUSED = "key_reused"
    #: This transaction id was voided or wholly refunded; a new attempt needs a new id.
    VOIDED = "voided"
    #: Too many records wait for Postgres; nothing is charged until the worker has caught up.
    BACKLOG = "backlog"
    #: A refund of a deduct that neither Redis nor Postgres knows (yet).
    UNKNOWN_DEDUCT = "unknown_deduct"
    #: The refunds of one deduct would add up to more than the deduct.
    REFUND_EXCEEDED = "refund_exceeded"
    #: The user has the most idempotency keys allowed.
    TOO_MANY_KEYS = "too_many_keys"
    #: The user has the most open holds allowed.
    TOO_MANY_HOLDS = "too_many_holds"
    #: A rate limit allows no request now.
    RATE_LIMITED = "rate_limited"
    #: The balance is smaller than the cost.
    OUT_OF_CREDITS = "out_of_credits"
    #: The balance is smaller than the cost, but open holds of the user may give back enough. Try
    #: again soon.
    CREDITS_HELD = "credits_held"
    #: There is no such hold, or it ended more than a day ago.
    UNKNOWN_HOLD = "unknown_hold"
    #: The hold has expired; see its state.
    HOLD_EXPIRED = "hold_expired"
    #: Another attempt with the idempotency key has taken over or was served, so this one gives back
    #: nothing.
    TAKEN_OVER = "taken_over"
    #: The hold has been settled or cancelled, so it cannot be extended.
    HOLD_CLOSED = "hold_closed"
    #: The hold has not expired yet.
    HOLD_OPEN = "hold_open"
    #: Nothing was decided, and the request is served, since its policy is a shadow policy.
    UNDECIDED = "undecided"
    #: More requests wait than can be decided in time. Nothing was sent or charged.
    OVERLOADED = "overloaded"
    #: Redis did not answer in time. The refund, or the end of the hold, is made in the background;
    #: its numbers are not known yet.
    PENDING = "pending"


#: Constants, since access to an enum member is a function call in Python 3.11.
_ALLOWED = Verdict.ALLOWED
_SERVED = (KeyState.NEW, KeyState.TAKEN_OVER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The decision on a requested change of a balance."""

    #: Whether the change was made or, if not, why.
    verdict: Verdict
    #: The user who asked.
    user_id: UUID
    #: The id of the change.
    transaction_id: CreditTransactionId
    #: The requested change: negative for a charge.
    amount: int
    #: The balance after the change or, for a refusal, the unchanged balance.
    credits: int
    #: The position of the transaction in the user's history; 0 if there is none.
    sequence: int = 0
    #: Whether this answers a retry: the change was made before, once.
    repeated: bool = False
    #: The opaque address of the record in its stream, for a refund soon after.
    position: str = ""
    #: The rest of the user's allowance: a part of `credits`, spent first.
    allowance_left: int = 0
    #: When the next period begins, in Unix milliseconds; None without an allowance.
    resets_at_ms: int | None = None
    #: The name of the rate limit that refused.
    limited_by: str = ""
    #: When to come back after a rate limit or an overload, in milliseconds from now; else 0.
    retry_after_ms: int = 0
    #: The states of the policy's rate limits, including this request if it is allowed. Empty if
    #: none was checked, as for a retry.
    limits: tuple[LimitState, ...] = ()
    #: The policy that was applied; None for a change without a policy, such as a grant.
    policy: CreditPolicy | None = None
    #: For an allowed request with an idempotency key: whether to serve it. With `repeated`, the
    #: decision is that on the first request with the key.
    key_state: KeyState | None = None
    #: For a request that is known by its idempotency key: the id of this attempt.
    attempt_id: CreditTransactionId | None = None
    #: The verdict of a shadow policy; then nothing was charged.
    shadow: Verdict | None = None
    #: Whether the request is served without a decision: its cost is in the journal, the balance is
    #: not known, and the transaction id is that of the attempt.
    journaled: bool = False
    #: The ledger's time of the decision, in Unix milliseconds; 0 if the ledger was not asked.
    decided_at_ms: int = 0
    #: When the hold expires, in Unix milliseconds; 0 for a charge, and if it is not known.
    expires_at_ms: int = 0

    @property
    def allowed(self) -> bool:
        """Whether the change was made."""
        return self.verdict is _ALLOWED

    @property
    def is_pending(self) -> bool:
        """Whether the change is made in the background; only for refunds."""
        return self.verdict is Verdict.PENDING

    @property
    def keyed_attempt(self) -> CreditTransactionId | None:
        """The id of the attempt to serve for an idempotency key; None if there is none."""
        if self.key_state not in _SERVED:
            return None
        return self.attempt_id or self.transaction_id

    @classmethod
    def repeat(cls, transaction: CreditTransaction) -> Self:
        """Return the decision for a retry, from its recorded transaction."""
        return cls(
            verdict=Verdict.ALLOWED,
            user_id=transaction.user_id,
            transaction_id=transaction.id,
            amount=transaction.amount,
            credits=transaction.balance_after,
            sequence=transaction.sequence,
            repeated=True,
            allowance_left=transaction.allowance_after,
        )


#: Makes a decision from its fields, by position or name.
decision_of: Callable[..., Decision] = quick_maker(Decision)
