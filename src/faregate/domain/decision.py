"""The answer to one request for credits."""

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
    """What the ledger decided. The refusals stand in the order in which they are checked."""

    #: The change was made, and its record written, in one step.
    ALLOWED = "allowed"
    #: Neither Redis nor Postgres knows the user.
    UNKNOWN_USER = "unknown_user"
    #: The idempotency key came with another request before.
    KEY_REUSED = "key_reused"
    #: This transaction id was voided or wholly refunded; a new attempt needs a new id.
    VOIDED = "voided"
    #: Too many records wait for Postgres; nothing is charged until the worker has caught up.
    BACKLOG = "backlog"
    #: A refund of a deduct that neither Redis nor Postgres knows (yet).
    UNKNOWN_DEDUCT = "unknown_deduct"
    #: The refunds of one deduct would add up to more than the deduct.
    REFUND_EXCEEDED = "refund_exceeded"
    #: As many idempotency keys of the user are remembered as may be.
    TOO_MANY_KEYS = "too_many_keys"
    #: As many holds of the user are open as may be.
    TOO_MANY_HOLDS = "too_many_holds"
    #: A rate limit allows no request now.
    RATE_LIMITED = "rate_limited"
    #: The balance is smaller than the cost.
    OUT_OF_CREDITS = "out_of_credits"
    #: The balance is smaller than the cost, but with what the user's open holds may give back it
    #: is not. Try again soon.
    CREDITS_HELD = "credits_held"
    #: Nobody holds this, or its end was more than a day ago.
    UNKNOWN_HOLD = "unknown_hold"
    #: The hold expired before; see what became of it.
    HOLD_EXPIRED = "hold_expired"
    #: Another attempt with the idempotency key has taken over, or was served: this one gives back
    #: nothing.
    TAKEN_OVER = "taken_over"
    #: The hold has been settled or cancelled, so it cannot be extended.
    HOLD_CLOSED = "hold_closed"
    #: The hold has not expired yet.
    HOLD_OPEN = "hold_open"
    #: Nothing was decided, and the request is served all the same: its policy is only observed.
    UNDECIDED = "undecided"
    #: More requests wait than can be decided in time. Nothing was sent, and nothing is charged.
    OVERLOADED = "overloaded"
    #: Redis did not answer in time. The refund, or the end of the hold, is made in the background;
    #: its numbers are not known yet.
    PENDING = "pending"


#: To name a member of an enumeration takes a call of a function in Python 3.11.
_ALLOWED = Verdict.ALLOWED
_SERVED = (KeyState.NEW, KeyState.TAKEN_OVER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer to one request for a change of a balance."""

    #: Whether the change was made or, if not, why.
    verdict: Verdict
    #: The user who asked.
    user_id: UUID
    #: The id of the change.
    transaction_id: CreditTransactionId
    #: The change that was asked for: negative for a charge.
    amount: int
    #: The balance after the change or, for a refusal, the balance as it is.
    credits: int
    #: The transaction's position in the user's history; 0 for a refusal or where none was written.
    sequence: int = 0
    #: Whether this answers a retry: the change had already been made, once.
    repeated: bool = False
    #: The address of the record in its stream, for a refund that follows soon. Opaque.
    position: str = ""
    #: What is left of the user's allowance; part of `credits`, and spent first.
    allowance_left: int = 0
    #: When the next period begins, in Unix milliseconds; None without an allowance.
    resets_at_ms: int | None = None
    #: The name of the rate limit that refused.
    limited_by: str = ""
    #: When to come back after a rate limit or an overload, in milliseconds from now; else 0.
    retry_after_ms: int = 0
    #: What is left of each rate limit of the policy: after the request was counted or, for a
    #: refusal, as it is. Empty where none was looked at, as for a retry.
    limits: tuple[LimitState, ...] = ()
    #: The policy that was applied; None for a change that no policy rules, such as a grant.
    policy: CreditPolicy | None = None
    #: Of a request with an idempotency key that is allowed: whether it is to be served. With
    #: `repeated`, the decision is the one that the first request with the key was given.
    key_state: KeyState | None = None
    #: Of a request that is known by its idempotency key: the id that this attempt came with.
    attempt_id: CreditTransactionId | None = None
    #: What a policy that is only observed would have said; then nothing was charged.
    shadow: Verdict | None = None
    #: Whether the request is served because no decision could be had: what it costs is in the
    #: journal, the balance is not known, and the transaction id is that of the attempt.
    journaled: bool = False
    #: The ledger's time of the decision in Unix milliseconds; 0 where the ledger was not asked.
    decided_at_ms: int = 0
    #: When the hold expires, in Unix milliseconds; 0 for a charge, and where it is not known.
    expires_at_ms: int = 0

    @property
    def allowed(self) -> bool:
        """Whether the change was made."""
        return self.verdict is _ALLOWED

    @property
    def is_pending(self) -> bool:
        """Whether it is yet to be made, in the background; only of a refund."""
        return self.verdict is Verdict.PENDING

    @property
    def keyed_attempt(self) -> CreditTransactionId | None:
        """The id of the attempt that is to be served for an idempotency key; None if none is."""
        if self.key_state not in _SERVED:
            return None
        return self.attempt_id or self.transaction_id

    @classmethod
    def repeat(cls, transaction: CreditTransaction) -> Self:
        """Answer the retry of what has been recorded already."""
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


#: Makes a decision from its fields, in their order or by name.
decision_of: Callable[..., Decision] = quick_maker(Decision)
