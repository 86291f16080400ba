"""What the doctor says of forks."""

from collections.abc import Iterator

from faregate.domain.fork import RecentForks
from faregate.domain.server import Severity, Symptom


def fork_symptoms(found: RecentForks) -> Iterator[Symptom]:
    """Return the faults of forks: balances that wait, and what was lost in the last day."""
    if found.users_waiting:
        yield Symptom(
            part="forks",
            severity=Severity.ERROR,
            detail=f"the live balances of {found.users_waiting} users lack records that Redis lost",
            remedy="faregate worker --check: a running worker aligns them",
        )
    if found.forks:
        yield Symptom(
            part="forks",
            severity=Severity.WARNING,
            detail=f"Redis lost its newest records in the last day: {found.kept} are rows,"
            f" {found.lost} answered decisions are not",
            remedy="faregate forks, and see docs/recovery.md",
        )
