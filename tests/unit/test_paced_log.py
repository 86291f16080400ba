"""An outage does not write a line a request."""

import logging

import pytest

from faregate.gate.paced_log import PacedLog


def test_a_kind_of_line_is_written_once_a_second_with_the_number_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The first one at once."""
    now_s = 50.0
    warn = PacedLog(logging.getLogger("faregate"), clock=lambda: now_s)
    for number in range(1_000):
        warn("request %d is refused", number)
    now_s += 1.0
    warn("request %d is refused", 1_000)
    warn("request %d is refused", 1_001)
    now_s += 60.0
    warn("request %d is refused", 1_002)
    assert [record.getMessage() for record in caplog.records] == [
        "request 0 is refused",
        "request 1000 is refused (and 999 more)",
        "request 1002 is refused (and 1 more)",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
