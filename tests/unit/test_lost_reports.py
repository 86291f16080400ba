"""Reports of lost answers, as gates write them and the worker reads them."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.adapters.redis.lost import LOST_IDS_MAX, LostReport
from faregate.domain.errors import LedgerCorruptError


@given(
    gate=st.binary(min_size=8, max_size=8),
    place=st.tuples(st.integers(0, 2**48 - 1), st.integers(0, 2**32 - 1)),
    ids=st.lists(st.uuids(), max_size=20),
    is_at_least=st.booleans(),
)
def test_a_report_is_read_as_it_was_written(
    *, gate: bytes, place: tuple[int, int], ids: list[UUID], is_at_least: bool
) -> None:
    """With its gate and its position, which are the field."""
    report = LostReport(gate, "{}-{}".format(*place), tuple(ids), is_at_least)
    assert LostReport.unpack(report.field, report.pack()) == report


def test_a_full_report_has_64_kb_and_a_longer_one_is_refused() -> None:
    """So one field of the hash never takes Redis long."""
    assert len(LostReport(b"12345678", "1-0", (UUID(int=1),) * LOST_IDS_MAX).pack()) <= 2**16
    with pytest.raises(ValueError, match="do not fit"):
        LostReport(b"12345678", "1-0", (UUID(int=1),) * (LOST_IDS_MAX + 1)).pack()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"123456781-0", b"\x02\x00"),
        (b"123456781-0", b"\x01\x02"),
        (b"123456781-0", b"\x01\x00" + bytes(15)),
        (b"123456781-0", b""),
        (b"12345678", b"\x01\x00"),
        (b"12345678x-0", b"\x01\x00"),
    ],
)
def test_an_overwritten_report_is_told_by_name(field: bytes, value: bytes) -> None:
    """And never counted."""
    with pytest.raises(LedgerCorruptError):
        LostReport.unpack(field, value)
