"""What an operator is told when a number is not what it must be."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class DriftKind(StrEnum):
    """What a reconciliation or a verification can find."""

    #: Live credits differ from durable credits plus pending amounts.
    LIVE = "live"
    #: Redis knows less of a user's history than the rows do: it was restored from an older copy.
    BEHIND = "behind"
    #: `profiles.credits` differs from the sum of the user's rows.
    PROJECTION = "projection"
    #: A sequence number is missing: a record was lost.
    GAP = "gap"
    #: A sequence number occurs twice: two histories of one user.
    FORK = "fork"
    #: A balance does not follow from the one before it.
    CHAIN = "chain"
    #: A row is not as the worker wrote it, or the worker did not write it; or the notes of what it
    #: wrote do not follow from one another.
    FORGED = "forged"
    #: The refunds of a deduct add up to more than the deduct.
    REFUND = "refund"
    #: A guard of the schema (trigger, policy, constraint) is missing or switched off.
    GUARD = "guard"
    #: Redis and Postgres do not belong together.
    EPOCH = "epoch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it must be."""

    kind: DriftKind
    #: Whose ledger it is, or None where it concerns all.
    user_id: UUID | None
    expected: int | None
    found: int | None
    #: One sentence for the operator.
    detail: str
