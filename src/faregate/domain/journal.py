"""What is written down of requests that are served without a decision, and what becomes of it.

A journal has two kinds of lines: an entry for each request, and changes of what one costs, because
it was given back or settled. A request that was refused is an entry, too, if it may have been
charged and could not be voided as long as its process lived.
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

#: What the import adds to the metadata of a row, beyond what a request may bring.
JOURNALED_METADATA_BYTES_MAX = METADATA_BYTES_MAX + 512


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One request that was served without a decision, or has still to be voided."""

    #: The id of the attempt. If it has been charged all the same, then under this id.
    attempt_id: CreditTransactionId
    user_id: UUID
    #: In credits; of a hold, what it costs if nobody settles it.
    cost: int
    #: Whether the user is never refused: then it is recorded, and nothing is taken for it.
    is_unlimited: bool = False
    description: str
    metadata: Mapping[str, object] | None = None
    #: What the user gets anew in each period, by its policy.
    allowance: Allowance | None = None
    #: When the attempt was made and what its deadline was, as a `Void` has them.
    asked_at_ms: int
    deadline_ms: int
    #: When it was served, by the clock of the machine that did, in Unix milliseconds.
    served_at_ms: int
    #: Whether the attempt may have been charged: then it is voided before this is collected.
    may_be_charged: bool = False
    #: Whether it was served; if not, there is nothing to collect.
    is_served: bool = True
    #: By which a retry is known that had another transaction id.
    key: SavedKey | None = None
    #: Of a hold: until when it may be settled, in Unix milliseconds.
    expires_at_ms: int | None = None

    def __post_init__(self) -> None:
        check_user_id(self.user_id)
        check_whole("a cost", self.cost, 0)
        # Nothing is served that could not be made a row later.
        encode_description(self.description)
        encode_metadata(self.metadata)

    @property
    def deduct_id(self) -> CreditTransactionId:
        """The id of the deduct that collects it, so that it is collected once."""
        return CreditTransactionId.derive("journal", self.attempt_id.value)

    @property
    def owed(self) -> int:
        """What is to be taken for it, in credits."""
        return 0 if self.is_unlimited else self.cost

    @property
    def is_recorded(self) -> bool:
        """Whether there is anything to collect or to record of it."""
        return self.is_unlimited or self.cost > 0

    @property
    def row_metadata(self) -> Mapping[str, object]:
        """The metadata of that deduct: what it costs, which may be more than could be taken."""
        served_at = datetime.fromtimestamp(self.served_at_ms / 1000, UTC)
        facts = {
            "attempt": str(self.attempt_id),
            "cost": self.cost,
            "served_at": served_at.isoformat(timespec="milliseconds"),
        }
        return {**(self.metadata or {}), "journal": facts}

    def void(self) -> Void:
        """Return what undoes the attempt."""
        return Void(
            user_id=self.user_id,
            transaction_id=self.attempt_id,
            asked_at_ms=self.asked_at_ms,
            deadline_ms=self.deadline_ms,
        )

    def is_open(self, now_ms: int) -> bool:
        """Whether it is a hold that may yet be settled."""
        return self.expires_at_ms is not None and now_ms < self.expires_at_ms

    def changed(self, changes: Iterable["JournalChange"]) -> Self:
        """Return it as it is after changes, in their order."""
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
    """What becomes of a journaled request later: one of a refund, a settlement, an extension."""

    attempt_id: CreditTransactionId
    user_id: UUID
    #: Of a refund: by which a retry of it is known, and how much it gives back; None for all.
    refund_id: CreditTransactionId | None = None
    amount: int | None = None
    #: Of a settlement or a cancellation: what the hold costs, in credits.
    cost: int | None = None
    #: Of an extension: until when the hold may be settled, in Unix milliseconds.
    expires_at_ms: int | None = None

    def __post_init__(self) -> None:
        if self.cost is not None:
            check_whole("a cost", self.cost, 0)
        if self.amount is not None:
            check_whole("a refund", self.amount, 1)


class Collection(StrEnum):
    """What became of a journaled request."""

    #: It has been charged just now, as far as there was enough.
    COLLECTED = "collected"
    #: It has been charged before: by an earlier import, or as a request with the same id or key.
    KNOWN = "known"
    #: It costs nothing; what may have been charged for it has been given back.
    CANCELLED = "cancelled"
    #: It was not served, and is voided.
    VOIDED = "voided"
    #: Postgres knows no such user.
    UNKNOWN_USER = "unknown_user"
    #: It is a hold that may yet be settled.
    OPEN = "open"
    #: The ledger cannot take it, whenever it is asked.
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What became of a journaled request, and how much was taken for it."""

    outcome: Collection
    #: What was taken, and what was not there to be taken, in credits.
    charged: int = 0
    shortfall: int = 0
    #: Why it was refused.
    reason: str = ""
