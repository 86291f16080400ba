"""Where two refusals hold at once, the one that stands first in docs/decisions.md is the answer."""

from collections.abc import Iterator
from itertools import pairwise

import pytest

from scenarios.precedence import CAUSES, ENTRIES_MAX, FINAL, NOTHING, REDIS_ONLY, refused
from spec.decision_table import ANY, OPERATIONS, TABLE, Row, refusals
from spec.stage import KINDS, Stage, staged
from spec.trace import agrees, trace

pytestmark = pytest.mark.redis


def rows_of(name: str) -> dict[str, Row]:
    """The refusals of a step for which there is a cause, in the order of the table."""
    rows = {**ANY, **{row.status: row for row in refusals(OPERATIONS.get(name, name))}}
    return {status: row for status, row in rows.items() if status in CAUSES[name]}


def neighbours() -> Iterator[tuple[str, str, str]]:
    """A step, and two of its refusals that follow each other and can hold at once."""
    for name in CAUSES:
        for upper, lower in pairwise(rows_of(name).values()):
            if not lower.is_apart:
                yield name, upper.status, lower.status


def shorten_searches(_script: str, source: str) -> str:
    """Cut searches short early, so that they are."""
    return source.replace(
        "PAGE_LENGTH, ENTRIES_MAX = 16,", "PAGE_LENGTH, ENTRIES_MAX = 4,"
    ).replace("SPEND_ENTRIES_MAX = 1024", f"SPEND_ENTRIES_MAX = {ENTRIES_MAX}")


@pytest.fixture(scope="module")
def stage(redis_url: str) -> Iterator[Stage]:
    with staged(redis_url, shorten_searches) as opened:
        yield opened


CASES = [
    (kind, *pair)
    for pair in neighbours()
    for kind in KINDS
    if kind == "redis" or not REDIS_ONLY & set(pair)
]


@pytest.mark.parametrize(("kind", "name", "upper", "lower"), CASES)
def test_the_upper_of_two_refusals_is_the_answer(
    stage: Stage, kind: str, name: str, upper: str, lower: str
) -> None:
    """The lower one holds, too: without the upper one it is the answer."""
    causes, rows = CAUSES[name], rows_of(name)
    for status, cause, other in (
        (upper, causes[upper], causes[lower]),
        (upper, causes[upper], NOTHING),
        (lower, causes[lower], NOTHING),
    ):
        steps = refused(FINAL[name], cause, other)
        last = trace(stage, kind, steps, f"{name}: {upper} before {lower}")[-1]
        assert agrees(rows[status], last.played), last


def test_every_operation_that_refuses_has_its_pairs() -> None:
    """A refusal that is not here would never be tried."""
    tried = {(OPERATIONS.get(name, name), status) for name in CAUSES for status in CAUSES[name]}
    assert {(row.operation, row.status) for row in TABLE if row in refusals(row.operation)} <= tried
