"""Findings for operators: wrong numbers, rows and objects of the schema."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Self
from uuid import UUID


class DriftKind(StrEnum):
    """The kinds of findings of reconcile and verify."""

    #: Live credits differ from durable credits plus pending amounts.
    LIVE = "live"
    #: Redis is behind the rows of a user: it was restored from an older copy.
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
    #: one another.
    FORGED = "forged"
    #: The refunds of a deduct add up to more than the deduct.
    REFUND = "refund"
    #: The schema differs from the migrations: a guard is missing, disabled or altered.
    GUARD = "guard"
    #: Redis and Postgres do not belong together.
    EPOCH = "epoch"


_DIGITS = re.compile("[0-9a-f]{8}")
#: Kinds with a fixed sequence, since they belong to a row; the sequence of others moves under
#: traffic.
_AT_A_ROW = frozenset(
    {DriftKind.GAP, DriftKind.FORK, DriftKind.CHAIN, DriftKind.FORGED, DriftKind.REFUND}
)


def is_finding_id(name: str) -> bool:
    """Return whether a text has the form of a finding id."""
    kind, _, digits = name.partition("-")
    return kind in set(DriftKind) and _DIGITS.fullmatch(digits) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One violation of an invariant."""

    kind: DriftKind
    #: The user; None if it concerns all.
    user_id: UUID | None
    #: The sequence of the transaction, if there is one.
    sequence: int | None = None
    expected: int | None
    found: int | None
    #: One sentence for the operator.
    detail: str
    #: The subject other than a user: a guard, a row, a deduct, or the last number of a gap.
    subject: str | None = None

    @property
    def id(self) -> str:
        """The id of the finding, such as `live-1a2b3c4d`.

        It is constant under traffic while the same is wrong, and changes with the difference.
        """
        numbers = self.expected, self.found
        sequence = self.sequence if self.kind in _AT_A_ROW else None
        known = [number for number in numbers if number is not None]
        difference = known[-1] - known[0] if len(known) > 1 else numbers
        content = repr((self.kind.value, str(self.user_id), sequence, self.subject, difference))
        return f"{self.kind}-{sha256(content.encode()).hexdigest()[:8]}"

    @property
    def repair(self) -> str:
        """The command that repairs it, or explains why no command can."""
        return "faregate rebuild" if self.kind is DriftKind.EPOCH else f"faregate repair {self.id}"

    def as_dict(self) -> Mapping[str, object]:
        """Return the finding as plain data, with its id and the command that repairs it."""
        fields = asdict(self) | {"user_id": self.user_id and str(self.user_id)}
        return {"id": self.id, **fields, "repair": self.repair}


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """The acceptance of a finding by an operator: it is listed, and is no alarm."""

    actor: str
    reason: str
    acknowledged_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The result of a verification: findings, and those that were accepted."""

    findings: Sequence[Finding]
    acknowledged: Sequence[tuple[Finding, Acknowledgement]]

    @classmethod
    def of(cls, found: Iterable[Finding], accepted: Mapping[str, Acknowledgement]) -> Self:
        """Separate accepted findings from the others."""
        listed = list(found)
        return cls(
            findings=[finding for finding in listed if finding.id not in accepted],
            acknowledged=[(one, accepted[one.id]) for one in listed if one.id in accepted],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """The result of a reconciliation."""

    began_at: datetime
    ended_at: datetime
    #: Only users with newer rows were compared; None if all were.
    since: datetime | None
    #: The `since` for the next one; None if it must compare all users.
    next_since: datetime | None
    #: The number of compared users.
    users_count: int
    #: The differences, in the order of user ids.
    findings: Sequence[Finding]
    #: Accepted differences.
    acknowledged: Sequence[tuple[Finding, Acknowledgement]] = ()
    #: The number of pending records at the end.
    pending_count: int
    #: The number of dead letters that wait for an operator.
    dead_letter_count: int

    @property
    def drift_users_count(self) -> int:
        """The number of users with drift."""
        return len({finding.user_id for finding in self.findings if finding.user_id})

    @property
    def is_exact(self) -> bool:
        """Whether all numbers agree, except accepted differences."""
        return not self.findings
