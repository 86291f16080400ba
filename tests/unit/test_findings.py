"""The id of a finding stays while the same is wrong, and no longer."""

from dataclasses import replace
from uuid import UUID

import pytest

from faregate.domain.finding import DriftKind, Finding

LIVE = Finding(
    kind=DriftKind.LIVE, user_id=UUID(int=7), sequence=5, expected=10, found=15, detail="a sentence"
)
GAP = replace(LIVE, kind=DriftKind.GAP, expected=None, found=None, subject="6")


def test_the_id_of_drift_stays_under_traffic() -> None:
    """Numbers move on, and the difference does not. It is the same in every process."""
    assert LIVE.id == "live-b2509dba"
    assert replace(LIVE, sequence=9, expected=6, found=11, detail="another").id == LIVE.id


@pytest.mark.parametrize(
    "change",
    [{"found": 16}, {"user_id": UUID(int=8)}, {"kind": DriftKind.BEHIND}],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_finding_has_another_id(change: dict[str, object]) -> None:
    """So it is an alarm again, although the one before was accepted."""
    assert replace(LIVE, **change).id != LIVE.id  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change", [{"sequence": 4}, {"subject": "7"}], ids=lambda change: next(iter(change))
)
def test_a_finding_at_a_row_has_its_place(change: dict[str, object]) -> None:
    """Two gaps of a user are two findings."""
    assert replace(GAP, **change).id != GAP.id  # type: ignore[arg-type]


def test_a_finding_names_the_command_that_repairs_it() -> None:
    assert LIVE.as_dict()["repair"] == f"faregate repair {LIVE.id}"
    assert replace(LIVE, kind=DriftKind.EPOCH).as_dict()["repair"] == "faregate rebuild"
