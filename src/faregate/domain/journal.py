"""Journals: requests that were served without a decision, and their collection.

A journal has two kinds of lines: an entry for each request, and later changes of its cost, by a
refund or a settlement. A refused request is an entry, too, if it may have been charged and could
not be voided before its process ended.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Self
from uuid import UUID

from faregate.domain.idempotency import SavedKey
from faregate.domain.policy import Allowance
from faregate.domain.request import Void
from faregate.domain.texts import encode_description, encode_metadata
from faregate.domain.transaction import (
    METADATA_BYTES_MAX,
    CreditTransactionId,
    check_whole,
)
from faregate.domain.user import check_user_id

#: The largest metadata of a collected row: that of a request, and the fields that the import adds.
JOURNALED_METADATA_BYTES_MAX = METADATA_BYTES_MAX + 512


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """A request that was served without a decision, or must still be voided."""

    #: The id of the attempt, under which it may have been charged.
    attempt_id: CreditTransactionId
    user_id: UUID
    #: The cost in credits; for a hold, the cost if it is not settled.
    cost: int
    #: Whether the user is never refused: then it is recorded, and takes no credits.
    is_unlimited: bool = False
    description: str
    metadata: Mapping[str, object] | None = None
    #: The allowance of the user, by its policy.
    allowance: Allowance | None = None
    #: The time and the deadline of the attempt, as in `Void`.
    asked_at_ms: int
    deadline_ms: int
    #: When the request was served, by the clock of that machine, in Unix milliseconds.
    served_at_ms: int
    #: Whether the attempt may have been charged: then it is voided before the collection.
    may_be_charged: bool = False
    #: Whether the request was served; otherwise there is nothing to collect.
    is_served: bool = True
    #: The idempotency key, by which a retry under another transaction id is recognised.
    key: SavedKey | None = None
    #: For a hold: when it expires, in Unix milliseconds.
    expires_at_ms: int | None = None

    def __post_init__(self) -> None:
        check_user_id(self.user_id)
        check_whole("a cost", self.cost, 0)
        # A request that could not become a row later is not served.
        encode_description(self.description)
        encode_metadata(self.metadata)

    @property
    def deduct_id(self) -> CreditTransactionId:
        """The id of its deduct, derived from the attempt, so that it is collected once."""
        return CreditTransactionId.derive("journal", self.attempt_id.value)

    @property
    def owed(self) -> int:
        """The credits to take for it."""
        return 0 if self.is_unlimited else self.cost

    @property
    def is_recorded(self) -> bool:
        """Whether its collection makes a record."""
        return self.is_unlimited or self.cost > 0

    @property
    def row_metadata(self) -> Mapping[str, object]:
        """The metadata of that deduct, with the full cost, which may exceed the credits taken."""
        served_at = datetime.fromtimestamp(self.served_at_ms / 1000, UTC)
        facts = {
            "attempt": str(self.attempt_id),
            "cost": self.cost,
            "served_at": served_at.isoformat(timespec="milliseconds"),
        }
        return {**(self.metadata or {}), "journal": facts}

    def void(self) -> Void:
        """Return the void of the attempt."""
        return Void(
            user_id=self.user_id,
            transaction_id=self.attempt_id,
            asked_at_ms=self.asked_at_ms,
            deadline_ms=self.deadline_ms,
        )

    def is_open(self, now_ms: int) -> bool:
        """Whether the request is a hold that may still be settled."""
        return self.expires_at_ms is not None and now_ms < self.expires_at_ms

    def changed(self, changes: Iterable["JournalChange"]) -> Self:
        """Return the entry after changes, in their order."""
        cost, expires_at_ms = self.cost, self.expires_at_ms
        given_back: dict[CreditTransactionId, int | None] = {}
        for change in changes:
            if change.refund_id is not None:
                given_back.setdefault(change.refund_id, change.amount)
            elif change.cost is not None:
                cost, expires_at_ms = change.cost, None
            elif expires_at_ms is not None:
                expires_at_ms = change.expires_at_ms
        back = sum(cost if amount is None else amount for amount in given_back.values())
        return replace(self, cost=max(0, cost - back), expires_at_ms=expires_at_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalChange:
    """A later change of a journaled request: a refund, a settlement, or an extension."""

    attempt_id: CreditTransactionId
    user_id: UUID
    #: For a refund: its id, and the credits that it gives back; None for all.
    refund_id: CreditTransactionId | None = None
    amount: int | None = None
    #: For a settlement or a cancellation: the cost of the hold, in credits.
    cost: int | None = None
    #: For an extension: when the hold expires, in Unix milliseconds.
    expires_at_ms: int | None = None

    def __post_init__(self) -> None:
        if self.cost is not None:
            check_whole("a cost", self.cost, 0)
        if self.amount is not None:
            check_whole("a refund", self.amount, 1)


class Collection(StrEnum):
    """The outcome of a journaled request."""

    #: The request was charged now, as far as the credits went.
    COLLECTED = "collected"
    #: The request was charged before: by an earlier import, or as a request with the same id or
    #: key.
    KNOWN = "known"
    #: The request costs nothing; an earlier charge was given back.
    CANCELLED = "cancelled"
    #: The request was not served, and is voided.
    VOIDED = "voided"
    #: Postgres knows no such user.
    UNKNOWN_USER = "unknown_user"
    #: The request is a hold that may yet be settled.
    OPEN = "open"
    #: The ledger can never charge it.
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """The outcome of a journaled request, and its charge."""

    outcome: Collection
    #: The credits that were charged, and those that could not be charged.
    charged: int = 0
    shortfall: int = 0
    #: Why the request was refused.
    reason: str = ""
