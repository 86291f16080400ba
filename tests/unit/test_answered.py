"""The decisions that a gate remembers, and how few looks find the first that is missing."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from answer_logs import note
from faregate.adapters.redis import answered
from faregate.adapters.redis.answered import REMEMBERED_S, REPLIES_MAX, AnswerLog, first_missing


async def remembered(log: AnswerLog, shard: int) -> list[tuple[str, list[int]]]:
    found = await log.of_shard(shard)
    return [(one.position, [*map(int.from_bytes, one.ids)]) for one in found]


async def test_only_what_was_told_and_recorded_is_remembered() -> None:
    """A refusal has no record; a caller that gave up was told nothing, and is voided."""
    log = AnswerLog()
    note(log, [(0, 1), (1, 2), (0, 3), (0, 4)], [20, 21], dropped=[2], refused=[3])
    note(log, [(0, 5)], [10])
    note(log, [(0, 6)], [0], refused=[0])
    note(log, [(0, 7)], [40], dropped=[0])
    assert await remembered(log, 0) == [("10-7", [5]), ("20-7", [1])]
    assert await remembered(log, 1) == [("21-7", [2])]


async def test_a_log_forgets_what_is_old_and_never_holds_more_calls_than_its_bound() -> None:
    """And knows that it did, so that a loss is then told to be at least so large."""
    log = AnswerLog()
    for number in range(5):
        note(log, [(0, number)], [number + 1], now_s=float(number))
    assert not log.is_cut
    for number in range(4):
        note(log, [(0, 9)], [90 + number], now_s=REMEMBERED_S + 4.5)
    assert log.is_cut
    assert [one.ms for one in await log.of_shard(0)] == [90, 91, 92, 93]
    for _ in range(REPLIES_MAX + 5):
        log.note((), (), b"", (), REMEMBERED_S + 4.5)
    assert len(log) == REPLIES_MAX


@given(count=st.integers(0, 300), kept=st.integers(0, 300))
def test_the_first_missing_entry_is_found_in_few_looks(count: int, kept: int) -> None:
    """History keeps a prefix. If all is there, one look says so."""
    looks = 0

    async def is_there(one: int) -> bool:
        nonlocal looks
        looks += 1
        return one < kept

    assert asyncio.run(first_missing(range(count), is_there)) == min(kept, count)
    assert looks <= (1 if kept >= count else 1 + count.bit_length())


async def test_only_the_entries_that_are_looked_at_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A shard of a long log is put in order by positions alone."""
    log = AnswerLog()
    for ms in range(10, 200):
        note(log, [(0, ms)], [ms])
    monkeypatch.setattr(answered, "CallReply", None)
    assert [one.ms for one in await log.of_shard(0)] == list(range(10, 200))
