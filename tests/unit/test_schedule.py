"""Which reconciliation is due."""

import pytest

from faregate.domain.schedule import WHOLE_INTERVAL_S, LastRun, Run, due

EVERY_S = 900.0


def last(began_s: float, whole_s: float | None) -> LastRun:
    return LastRun(began_s=began_s, ended_s=0, whole_s=whole_s, drift_users=0, finding_counts={})


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, Run.WHOLE),
        (last(10, None), Run.WHOLE),
        (last(10, WHOLE_INTERVAL_S), Run.WHOLE),
        (last(EVERY_S, 1_000), Run.RECENT),
        (last(300, 1_000), None),
        (last(300, WHOLE_INTERVAL_S - 100), None),
    ],
    ids=["never", "never whole", "whole a day ago", "a while ago", "lately", "whole soon"],
)
def test_all_users_are_due_once_a_day_and_others_in_between(
    found: LastRun | None, expected: Run | None
) -> None:
    assert due(found, EVERY_S) == expected
