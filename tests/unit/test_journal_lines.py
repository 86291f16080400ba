"""The lines of a journal: what is written is what is read, and damage is seen."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.adapters.journal.lines import decode, encode
from faregate.domain.errors import InvalidArgumentError
from faregate.domain.idempotency import IdempotencyKey
from faregate.domain.journal import JournalChange
from faregate.domain.period import Period, PeriodKind
from faregate.domain.policy import Allowance
from faregate.domain.transaction import CreditTransactionId
from journals import USER, entry

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ALLOWANCES = st.builds(
    Allowance,
    amount=st.integers(1, 9),
    period=st.sampled_from(
        [Period(kind=PeriodKind.WEEK), Period(kind=PeriodKind.ROLLING, length_ms=5_000)]
    ),
    rollover_max=st.integers(0, 9),
)


@given(
    description=TEXT,
    metadata=st.none() | st.dictionaries(TEXT, JSON, max_size=4),
    allowance=st.none() | ALLOWANCES,
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    expires_at_ms=st.none() | st.integers(0, 2**48),
    key=st.none() | st.builds(IdempotencyKey, key=st.text(min_size=1, max_size=9)),
)
def test_a_line_names_the_written_values(
    description: str,
    metadata: dict[str, object] | None,
    allowance: Allowance | None,
    flags: tuple[bool, bool, bool],
    expires_at_ms: int | None,
    key: IdempotencyKey | None,
) -> None:
    """Whatever a request brings, it comes back, in one line."""
    is_unlimited, may_be_charged, is_served = flags
    written = replace(
        entry(7),
        description=description,
        metadata=metadata,
        allowance=allowance,
        is_unlimited=is_unlimited,
        may_be_charged=may_be_charged,
        is_served=is_served,
        expires_at_ms=expires_at_ms,
        key=None if key is None else key.to_saved(),
    )
    text = encode(written)
    assert text.count(b"\n") == 1
    assert decode(1, text).content == written


@pytest.mark.parametrize(
    "given_",
    [
        {"refund_id": CreditTransactionId(UUID(int=5)), "amount": 2},
        {"cost": 0},
        {"expires_at_ms": 5},
    ],
    ids=str,
)
def test_a_change_names_the_written_values(given_: dict[str, Any]) -> None:
    """Each kind of it."""
    written = JournalChange(attempt_id=entry().attempt_id, user_id=USER, **given_)
    assert decode(1, encode(written)).content == written


@given(place=st.integers(0, 10_000), value=st.integers(0, 255))
def test_a_line_that_was_damaged_is_not_believed(place: int, value: int) -> None:
    """No byte can change unseen but to one that means the same."""
    text = bytearray(encode(entry(3)))
    place %= len(text) - 2
    was, text[place] = text[place], value
    line = decode(1, bytes(text))
    assert value == was or line.content is None
    assert value == was or line.problem


def test_nothing_is_written_down_that_could_not_be_a_row() -> None:
    """An entry that the import would have to refuse is refused before it is served."""
    for bad in ({"description": "\0"}, {"metadata": {"a": float("nan")}}, {"cost": -1}):
        with pytest.raises(InvalidArgumentError):
            replace(entry(), **bad)
