"""What a ledger takes for the time of Redis: never ahead of it, and of each shard its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.adapters.redis.clock import ServerClock, ShardClocks

START_US = 1_800_000_000_000_000


class LocalClock:
    """The microseconds of this machine, as a test moves them on."""

    us = 1_000_000

    def __call__(self) -> int:
        return self.us


@given(
    offset_us=st.integers(10**12, 10**15),
    delays_us=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**7)), min_size=1),
)
def test_the_clock_is_never_ahead_of_the_server(
    offset_us: int, delays_us: list[tuple[int, int]]
) -> None:
    """However slow replies are, a deadline is never later than it was meant."""
    local = LocalClock()
    clock = ServerClock(local)
    for on_the_way_us, pause_us in delays_us:
        answered_us = local.us + offset_us
        local.us += on_the_way_us
        clock.observe(answered_us)
        local.us += pause_us
        assert clock.now_us() <= local.us + offset_us


def test_the_closest_of_recent_replies_counts() -> None:
    """A slow reply does not spoil what a fast one has shown; after a while it is forgotten."""
    local = LocalClock()
    clock = ServerClock(local)
    clock.observe(5_000_000)
    clock.observe(4_000_000)
    assert clock.now_us() == 5_000_000
    for _ in range(3):
        local.us += 6_000_000
        clock.observe(local.us + 3_000_000)
    assert clock.now_us() == local.us + 3_000_000


def test_a_clock_that_was_reset_knows_nothing() -> None:
    """After a jump only new replies count."""
    clock = ServerClock(LocalClock())
    assert clock.now_us() == 0
    clock.observe(5_000_000)
    clock.reset()
    assert clock.now_us() == 0
    clock.observe(2_000_000)
    assert clock.now_us() == 2_000_000


def test_a_shard_is_as_far_as_its_server_or_further() -> None:
    """Where its last record is from a clock that was ahead, its time is that of the record."""
    clocks = ShardClocks(3, LocalClock())
    assert (clocks.now_ms(), clocks.times_ms([0, 1])) == (0, [0, 0])
    clocks.start(START_US, [0, START_US - 5_000_000, START_US + 7_000_000])
    start_ms = START_US // 1_000
    assert clocks.times_ms([0, 1, 2]) == [start_ms, start_ms, start_ms + 7_000]
    assert clocks.now_ms() == start_ms


def test_one_script_has_one_time_and_shards_may_be_ahead_of_it() -> None:
    """So the earliest of its times is that of the server."""
    clocks = ShardClocks(2, LocalClock())
    clocks.start(START_US, [0, 0])
    clocks.observe([(0, 0, START_US + 1_000_000), (1, 0, START_US + 9_000_000)])
    assert clocks.now_ms() == START_US // 1_000 + 1_000
    assert clocks.times_ms([0, 1]) == [clocks.now_ms(), START_US // 1_000 + 9_000]


def test_a_time_that_does_not_change_does_not_show_the_server_clock() -> None:
    """It is that of the last record: the clock of the server is behind it."""
    local = LocalClock()
    clocks = ShardClocks(1, local)
    clocks.start(START_US, [START_US + 60_000_000])
    for _ in range(3):
        local.us += 1_000_000
        clocks.observe([(0, clocks.times_ms([0])[0], START_US + 60_000_000)])
    assert clocks.times_ms([0]) == [START_US // 1_000 + 60_000]
    assert clocks.now_ms() == START_US // 1_000 + 3_000


@pytest.mark.parametrize("back_us", [500_000, 600_000_000])
def test_after_the_clock_was_set_back_the_offset_is_measured_again(back_us: int) -> None:
    """Its reply is older than what was thought of it when it was asked."""
    local = LocalClock()
    clocks = ShardClocks(2, local)
    clocks.start(START_US, [0, 0])
    local.us += 1_000_000
    (assumed_ms,) = clocks.times_ms([0])
    now_us = START_US + 1_000_000 - back_us
    clocks.observe([(0, assumed_ms, now_us)])
    assert clocks.times_ms([0, 1]) == [now_us // 1_000, now_us // 1_000]


def test_a_clock_that_was_set_forward_counts_at_once() -> None:
    """A deadline by the old time would be over before it is sent."""
    clocks = ShardClocks(1, LocalClock())
    clocks.start(START_US, [0])
    clocks.observe([(0, clocks.times_ms([0])[0], START_US + 3_600_000_000)])
    assert clocks.times_ms([0]) == [START_US // 1_000 + 3_600_000]
