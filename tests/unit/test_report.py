"""A replay is exact only if the client and the servers tell the same."""

from dataclasses import replace
from typing import Any

import pytest

from faregate.cli.load import LoadCounts
from faregate.cli.proof import Proof, RowCounts
from faregate.cli.report import disagreements

STARTING_CREDITS = 100

#: Ten conversations of two users: seven settled, one refused, two whose owners were killed.
COUNTS = {
    "requests": 10,
    "allowed": 7,
    "refused": 1,
    "killed": 2,
    "spent": 35,
    "beyond_estimate": 3,
}
ROWS = RowCounts(
    count=17,
    users=2,
    deducts=9,
    beyond_estimate=3,
    below_estimate=1,
    given_back=2,
    voided=0,
    refunded=0,
    spent=35,
    credits=165,
)
PROOF = Proof(
    rows=ROWS,
    users=2,
    live_credits=165,
    holds_open=0,
    pending=0,
    dead_letters=0,
    drift_users=0,
    problems=[],
)

WRONG: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "a request without an outcome": ({"requests": 11}, {}),
    "a settlement that nobody was told of": ({"allowed": 6, "refused": 2}, {}),
    "a refund that nobody asked for": ({}, {"refunded": 1, "below_estimate": 0}),
    "more taken than was told": ({"beyond_estimate": 2}, {}),
    "a credit too much": ({}, {"spent": 36}),
    "a credit that is not accounted for": ({"spent": 34}, {"spent": 34}),
    "a row for nothing": ({}, {"count": 18}),
    "a killed owner's hold that was kept": ({}, {"given_back": 1, "deducts": 8, "count": 15}),
    "a hold given back beside those of killed owners": (
        {},
        {"given_back": 3, "deducts": 10, "count": 19},
    ),
}


def found(counts: dict[str, Any], rows: dict[str, int]) -> list[str]:
    proof = replace(PROOF, rows=replace(ROWS, **rows))
    return disagreements(LoadCounts(**{**COUNTS, **counts}), proof, STARTING_CREDITS)


def test_the_same_numbers_are_exact() -> None:
    """Of the client and of the servers."""
    assert found({}, {}) == []


@pytest.mark.parametrize("name", WRONG)
def test_one_different_number_is_reported(name: str) -> None:
    """In a sentence of its own."""
    assert len(found(*WRONG[name])) == 1


def test_a_hold_that_came_too_late_is_exact_if_its_request_was_sent_again() -> None:
    """It went back, and the next one was settled."""
    rows = {"given_back": 3, "deducts": 10, "count": 19}
    assert found({"retried": 1}, rows) == []
