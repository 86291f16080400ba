"""The history of the usage app: its pages, its cursors, and what is refused."""

import re
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from faregate.asgi.cursor import PATTERN, read_cursor, write_cursor
from faregate.domain.history import HistoryPlace
from faregate.domain.transaction import CreditTransactionId
from faregate.testing import memory_gate
from usage_client import app_of, read


async def test_history_is_read_page_by_page() -> None:
    """Newest first, each transaction once; other users' rows are no part of it."""
    gate = memory_gate(credits=1_000)
    user, other = gate.sign_up(), gate.sign_up()
    for number in range(10):
        # Every other one is of the same time as the one before.
        gate.clock.advance(1_000 * (number % 2))
        await gate.charge(other)
        await gate.charge(user)
    decision = await gate.charge(user)
    await gate.refund(decision)
    app, query, found = app_of(gate, user), "limit=5", []
    while query:
        page = await read(app, "/usage/history", query)
        found.append(page["transactions"])
        cursor = page["next_cursor"]
        query = f"limit=5&cursor={cursor}" if cursor else ""
    assert [len(rows) for rows in found] == [5, 5, 3]
    rows = [row for page in found for row in page]
    assert len({row["id"] for row in rows}) == 13
    times = [row["timestamp"] for row in rows]
    assert times == sorted(times, reverse=True)
    (refund,) = (row for row in rows if row["type"] == "refund")
    assert refund["refund_of"] == str(decision.transaction_id)
    assert (refund["amount"], refund["balance_after"]) == (1, 990)
    assert rows[-1]["timestamp"].startswith("2026-01-01T00:00:00")


async def test_a_page_has_a_size() -> None:
    """Fifty unless said otherwise, a hundred at most."""
    gate = memory_gate(credits=1_000)
    user = gate.sign_up()
    for _ in range(120):
        await gate.charge(user)
    app = app_of(gate, user)
    sizes = [
        len((await read(app, "/usage/history", query))["transactions"])
        for query in ("", "limit=1", "limit=100", "limit=007")
    ]
    assert sizes == [50, 1, 100, 7]


@pytest.mark.parametrize(
    "limit", ["0", "101", "-1", "1e2", "", "%20", "5;", "9" * 5_000, "%D9%A3", "50.0", "null"]
)
async def test_a_limit_that_is_none_is_refused(limit: str) -> None:
    """Read by its characters, so that no number is too long for anybody."""
    gate = memory_gate()
    problem = await read(app_of(gate, gate.sign_up()), "/usage/history", f"limit={limit}")
    assert (problem["status"], problem["code"]) == (400, "invalid_limit")


@pytest.mark.parametrize(
    "cursor",
    ["", "0", "A" * 31, "A" * 33, "A" * 32 + "%0A", "A" * 31 + "%3D", "A" * 31 + "%2B"],
)
async def test_a_cursor_that_is_none_is_refused(cursor: str) -> None:
    """What nobody was given is told apart from what is over."""
    gate = memory_gate()
    problem = await read(app_of(gate, gate.sign_up()), "/usage/history", f"cursor={cursor}")
    assert (problem["status"], problem["code"]) == (400, "invalid_cursor")


@pytest.mark.parametrize(
    "time",
    [
        datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ],
)
def test_a_cursor_comes_back_as_the_place_it_was(time: datetime) -> None:
    """To the microsecond, before 1970, too."""
    place = HistoryPlace(timestamp=time, id=CreditTransactionId(uuid4()))
    assert read_cursor(write_cursor(place)) == place


@pytest.mark.parametrize(("time_us", "count"), [(2**62, 2), (-(2**62), 0)])
async def test_every_text_in_the_pattern_of_cursors_leads_to_a_page(
    time_us: int, count: int
) -> None:
    """A time that no row can have lies after all rows, or before them."""
    gate = memory_gate()
    user = gate.sign_up()
    await gate.charge(user)
    cursor = urlsafe_b64encode(time_us.to_bytes(8, signed=True) + bytes(16)).decode()
    assert re.fullmatch(PATTERN, cursor)
    page = await read(app_of(gate, user), "/usage/history", f"cursor={cursor}")
    assert len(page["transactions"]) == count
