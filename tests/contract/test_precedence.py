"""Where two refusals hold at once, the one that stands first in docs/decisions.md is the answer."""

from collections.abc import Iterator
from itertools import pairwise

import pytest

from spec.decision_table import TABLE, UNINITIALISED, refusals
from spec.staging import KINDS, Stage, staged
from spec.witnesses import agrees, play
from scenarios.precedence import CAUSES, FINAL, LOOKBACK_MAX, NOTHING, REDIS_ONLY, refused

pytestmark = pytest.mark.redis


def neighbours() -> Iterator[tuple[str, str, str]]:
    """An operation, and two of its refusals that follow each other and can hold at once."""
    for operation, causes in CAUSES.items():
        rows = refusals(operation)
        if "uninitialised" in causes:
            yield operation, "uninitialised", rows[0].status
        for upper, lower in pairwise(rows):
            if not lower.is_apart:
                yield operation, upper.status, lower.status


@pytest.fixture(scope="module")
def stage(redis_url: str) -> Iterator[Stage]:
    """Searches are cut short early, so that they can be."""

    def shorten(_script: str, source: str) -> str:
        return source.replace("LOOKBACK_MAX = 10000", f"LOOKBACK_MAX = {LOOKBACK_MAX}")

    with staged(redis_url, shorten) as opened:
        yield opened


CASES = [
    (kind, *pair)
    for pair in neighbours()
    for kind in KINDS
    if kind == "redis" or not REDIS_ONLY & set(pair)
]


@pytest.mark.parametrize(("kind", "operation", "upper", "lower"), CASES)
def test_the_upper_of_two_refusals_is_the_answer(
    stage: Stage, kind: str, operation: str, upper: str, lower: str
) -> None:
    """The lower one holds, too: without the upper one it is the answer."""
    causes = CAUSES[operation]
    rows = {row.status: row for row in [*refusals(operation), UNINITIALISED]}
    for status, cause, other in (
        (upper, causes[upper], causes[lower]),
        (upper, causes[upper], NOTHING),
        (lower, causes[lower], NOTHING),
    ):
        steps = refused(FINAL[operation], cause, other)
        last = play(stage, kind, steps, f"{operation}: {upper} before {lower}")[-1]
        assert agrees(rows[status], last.played), last
        assert kind == "memory" or last.heard[-1][1] == status, last


def test_every_operation_that_refuses_has_its_pairs() -> None:
    """An operation that is not here would never be tried."""
    several = {row.operation for row in TABLE if len(refusals(row.operation)) > 1}
    # Of a sweep that comes second, no two reasons hold at once.
    assert several - {"expire"} <= set(CAUSES)
