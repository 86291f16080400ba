"""The arithmetic of docs/scale.md."""

from dataclasses import replace
from math import inf

import pytest

from benchmarks import scale, sizing
from benchmarks.sizing import (
    DAY_S,
    Line,
    Measured,
    Wanted,
    call_spends,
    closed_flight,
    divided,
    needed_for,
    primaries_for,
    used_shares,
)
from faregate.adapters.redis import flights, lane

MEASURED = Measured(
    redis_us=Line(10, 90),
    client_us=Line(10, 40),
    log_bytes=Line(100, 200),
    received_bytes=Line(50, 150),
    sent_bytes=Line(30, 30),
    account_bytes=145,
    record_bytes=82,
    app_us=150,
    row_us=20,
    row_bytes=360,
    leaf_bytes=40,
)
WANTED = Wanted(decisions_a_s=3_000, rows_a_day=DAY_S * 1_000, users=1e6, shards=16)


def test_a_line_is_found_again() -> None:
    """By its costs at some sizes of calls."""
    line = Line(12, 80)
    found = Line.through({size: line.at(size) for size in (1, 4, 16, 32)})
    assert (found.each, found.call) == pytest.approx((12, 80))


def test_a_line_has_no_part_below_zero() -> None:
    """Though noise says so."""
    assert Line.through({1: 10.0, 4: 20.0}).call == 0
    assert Line.through({1: 100.0, 2: 10.0}).each == 0


def test_a_call_has_the_spends_of_one_shard() -> None:
    """All of a flight on one shard; one where there are many shards; in between by chance."""
    assert call_spends(64, 1) == 64
    assert call_spends(1, 16) == pytest.approx(1)
    assert call_spends(0.1, 16) == pytest.approx(1)
    assert call_spends(2, 2) == pytest.approx(2 / 1.5)
    assert call_spends(1_000, 10) == pytest.approx(100)


def test_flights_are_those_of_the_lane() -> None:
    """The model knows their bounds."""
    ours = (sizing.FLIGHT_MAX, sizing.FLIGHT_MIN, sizing.FLIGHTS_MAX)
    assert ours == (lane.CALL_SIZE_MAX, lane.CALL_SIZE_MIN, flights.FLIGHTS_MAX)


def test_callers_in_a_closed_loop_share_flights() -> None:
    """Half of them wait while others ask; of many, three quarters; a flight has at most 128."""
    sizes = [closed_flight(callers, 1) for callers in (1, 16, 64, 256, 1_000)]
    assert sizes == pytest.approx([1, 8, 32, 64, 128])
    assert closed_flight(64, 4) == 8


def test_the_busiest_primary_decides_how_many_there_are() -> None:
    """It is no busier than allowed, and on one primary less it would be."""
    wanted = replace(WANTED, decisions_a_s=40_000, rows_a_day=1e9)
    count = primaries_for(MEASURED, wanted)
    needed = needed_for(MEASURED, wanted)
    assert count is not None
    assert needed is not None
    share = needed.node_shards / wanted.shards
    assert wanted.decisions_a_s * share * needed.redis_us <= 1e6 * wanted.busy
    assert count > 40_000 * needed.redis_us / 1e6


def test_too_few_shards_are_said() -> None:
    """A shard lies on one primary, so shards bound what a ledger decides."""
    assert primaries_for(MEASURED, replace(WANTED, decisions_a_s=1e6)) is None
    assert needed_for(MEASURED, replace(WANTED, decisions_a_s=1e6)) is None


def test_memory_is_that_of_users_and_of_records_for_ten_minutes_and_an_outage() -> None:
    """Bounded by what waits of a shard at most."""
    needed = needed_for(MEASURED, WANTED)
    assert needed is not None
    assert needed.primaries == 1
    assert needed.rows_a_s == 3_000
    records = 3_000 * 600 + 3_000 * 3_600
    stored, pending = 3_000 * 600, 16 * 500_000
    assert records > stored + pending
    assert needed.node_bytes == pytest.approx(1e6 * 145 + (stored + pending) * 82)
    assert needed.outage_s_max == pytest.approx(16 * 500_000 / 3_000)


def test_rows_are_disk_and_time_of_workers() -> None:
    """No more rows a second are made than decisions."""
    needed = needed_for(MEASURED, WANTED)
    assert needed is not None
    assert needed.disk_bytes_a_day == DAY_S * 1_000 * 400
    assert needed.disk_bytes_a_year == 365 * needed.disk_bytes_a_day
    assert needed.workers == 1
    assert replace(WANTED, rows_a_day=1e12).rows_a_s == WANTED.decisions_a_s


def test_a_ledger_without_rows_may_wait_for_ever() -> None:
    """Such as one whose charges are all aggregated elsewhere."""
    wanted = replace(WANTED, rows_a_day=0.0)
    needed = needed_for(MEASURED, wanted)
    assert needed is not None
    assert needed.outage_s_max == inf
    assert used_shares(MEASURED, wanted)["an hour without Postgres"] == 0


def test_each_bound_grows_with_what_is_wanted() -> None:
    """Two ledgers have half of each share of rows."""
    one, half = used_shares(MEASURED, WANTED), used_shares(MEASURED, divided(WANTED, 2))
    assert set(one) == set(half)
    for name in ("a year on disk", "one worker's time", "an hour without Postgres"):
        assert half[name] == pytest.approx(one[name] / 2)


def test_what_breaks_first_is_named() -> None:
    """The bound with the largest share."""
    rows = dict(scale.sizes(MEASURED, [(replace(WANTED, rows_a_day=10e9), 1)]))
    assert rows["breaks first"] == "a year on disk"
    rows = dict(scale.sizes(MEASURED, [(replace(WANTED, decisions_a_s=1e6), 1)]))
    assert rows["breaks first"] == "a primary for each shard"
    assert rows["primaries"] == "too few shards"


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.5, "0.5"), (3, "3"), (1_500, "1.5 k"), (1e6, "1 M"), (2.88e10, "29 B"), (4e14, "400 T")],
)
def test_numbers_are_short(value: float, told: str) -> None:
    """Two digits are as much as the inputs hold."""
    assert scale.count_of(value) == told


def test_sizes_have_units() -> None:
    """Bytes are no billions."""
    assert [scale.bytes_of(n) for n in (700, 2_000, 3e6, 4e9, 5e12)] == [
        "700 B", "2 KB", "3 MB", "4 GB", "5 TB",
    ]  # fmt: skip
