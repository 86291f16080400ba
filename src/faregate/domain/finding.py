"""Findings: numbers, rows and objects of the schema that are wrong, as operators see them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Self
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
    #: A row is not as the worker wrote it, or the worker did not write it; or batches do not follow
    #: from one another.
    FORGED = "forged"
    #: The refunds of a deduct add up to more than the deduct.
    REFUND = "refund"
    #: The schema is not what the migrations make: a guard is missing, switched off or altered.
    GUARD = "guard"
    #: Redis and Postgres do not belong together.
    EPOCH = "epoch"


_DIGITS = re.compile("[0-9a-f]{8}")
#: Found at a row, whose number stays; the number of others moves on under traffic.
_AT_A_ROW = frozenset(
    {DriftKind.GAP, DriftKind.FORK, DriftKind.CHAIN, DriftKind.FORGED, DriftKind.REFUND}
)


def is_finding_id(name: str) -> bool:
    """Whether a finding could have this id."""
    kind, _, digits = name.partition("-")
    return kind in set(DriftKind) and _DIGITS.fullmatch(digits) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it must be."""

    kind: DriftKind
    #: Whose ledger it is, or None where it concerns all.
    user_id: UUID | None
    #: The number of the transaction at which it shows, where there is one.
    sequence: int | None = None
    expected: int | None
    found: int | None
    #: One sentence for the operator.
    detail: str
    #: What it is about beside a user: a guard, a row, a deduct, or the last number of a gap.
    subject: str | None = None

    @property
    def id(self) -> str:
        """The name of the finding, such as `live-1a2b3c4d`.

        It stays while the same is wrong, whatever traffic flows, and is another one when the
        difference has changed.
        """
        numbers = self.expected, self.found
        sequence = self.sequence if self.kind in _AT_A_ROW else None
        known = [number for number in numbers if number is not None]
        difference = known[-1] - known[0] if len(known) > 1 else numbers
        content = repr((self.kind.value, str(self.user_id), sequence, self.subject, difference))
        return f"{self.kind}-{sha256(content.encode()).hexdigest()[:8]}"

    @property
    def repair(self) -> str:
        """The command that repairs it, or says why nothing can."""
        return "faregate rebuild" if self.kind is DriftKind.EPOCH else f"faregate repair {self.id}"

    def as_dict(self) -> Mapping[str, object]:
        """Return all of it as plain data, with its id and the command that repairs it."""
        fields = asdict(self) | {"user_id": self.user_id and str(self.user_id)}
        return {"id": self.id, **fields, "repair": self.repair}


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """Somebody has accepted a finding: it is listed, and is no alarm."""

    actor: str
    reason: str
    acknowledged_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Findings, with those that were accepted apart."""

    findings: Sequence[Finding]
    acknowledged: Sequence[tuple[Finding, Acknowledgement]]

    @classmethod
    def of(cls, found: Iterable[Finding], accepted: Mapping[str, Acknowledgement]) -> Self:
        """Separate findings by the ids that are accepted."""
        listed = list(found)
        return cls(
            findings=[finding for finding in listed if finding.id not in accepted],
            acknowledged=[(one, accepted[one.id]) for one in listed if one.id in accepted],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """What a reconciliation found."""

    began_at: datetime
    ended_at: datetime
    #: Only users with newer rows were compared; None where all were.
    since: datetime | None
    #: What the next one may take for `since`; None where it must compare all.
    next_since: datetime | None
    #: How many users were compared.
    users_count: int
    #: Where the numbers differ, in the order of user ids.
    findings: Sequence[Finding]
    #: Differences that were accepted.
    acknowledged: Sequence[tuple[Finding, Acknowledgement]] = ()
    #: How many records were not known to be rows at the end.
    pending_count: int
    #: How many dead letters wait for an operator.
    dead_letter_count: int

    @property
    def drift_users_count(self) -> int:
        """How many users have drift."""
        return len({finding.user_id for finding in self.findings if finding.user_id})

    @property
    def is_exact(self) -> bool:
        """Whether every number agrees, but for what is accepted."""
        return not self.findings
