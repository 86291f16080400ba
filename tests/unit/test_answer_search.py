"""The search for answers that Redis has lost: after a new link, in each shard, told once."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from answer_logs import identity, note
from faregate.adapters.redis.answer_search import AnswerSearch
from faregate.adapters.redis.answered import AnswerLog
from faregate.adapters.redis.keys import Shard, shards
from faregate.adapters.redis.link import Argument
from faregate.adapters.redis.lost import LOST_IDS_MAX, LostReport
from faregate.adapters.redis.records import FIELD
from faregate.adapters.redis.values import ShardState
from faregate.domain.errors import LedgerUnavailableError
from faregate.domain.health import CallCounts
from waiting import until

SHARDS = shards(2)


class Stream:
    """The streams of all shards, as far as the search asks about them."""

    def __init__(self, oldest_ms: int = 0) -> None:
        self.entries: dict[bytes, bytes] = {}
        self.reports: dict[bytes, dict[bytes, bytes]] = {}
        self.oldest_ms = oldest_ms
        self.asked = 0
        self.failures = 0

    async def ask(self, shard: Shard, *command: Argument) -> Any:
        self.asked += 1
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise LedgerUnavailableError("down")
        match command:
            case ("GET", _):
                return ShardState(epoch=1, oldest_ms=self.oldest_ms).pack()
            case ("XRANGE", _, str(position), _):
                found = self.entries.get(shard.stream + position.encode())
                return [[position.encode(), [FIELD, found]]] if found is not None else []
            case ("HSET", bytes(name), bytes(field), bytes(value)):
                self.reports.setdefault(name, {})[field] = value
        return None

    def put(self, shard: int, ms: int, *ids: int) -> None:
        payload = b"".join(map(identity, ids))
        self.entries[SHARDS[shard].stream + f"{ms}-7".encode()] = payload

    def told(self, shard: int) -> list[tuple[str, list[int], bool]]:
        """Return the reports of a shard: position, ids, and whether they are at least these."""
        found = self.reports.get(SHARDS[shard].lost, {})
        reports = [LostReport.unpack(*pair) for pair in found.items()]
        return [(one.position, [i.int for i in one.ids], one.is_at_least) for one in reports]


def gate_on(stream: Stream) -> tuple[AnswerSearch, CallCounts]:
    counts = CallCounts()
    return AnswerSearch(SHARDS, stream.ask, counts), counts


async def looked(lost: AnswerSearch) -> None:
    """Wait until no shard is being looked at."""
    await until(lambda: not lost._tasks)


async def test_a_new_link_to_an_intact_history_tells_nothing() -> None:
    """A restart or a reconnection: one look at the newest entry of each shard."""
    stream = Stream()
    lost, counts = gate_on(stream)
    log = lost.log_of_new_link()
    for ms in (10, 20, 30):
        note(log, [(0, ms), (1, ms + 1)], [ms, ms])
        stream.put(0, ms, 1, ms)
        stream.put(1, ms, ms + 1)
    before = stream.asked
    log.is_closed = True
    lost.log_of_new_link()
    await looked(lost)
    assert (stream.reports, counts.lost) == ({}, 0)
    assert (before, stream.asked) == (0, 2)
    await lost.aclose()


async def test_an_intact_history_costs_no_reading_of_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A busy gate remembers a quarter of a million answers; reading them would stop its loop."""
    monkeypatch.setattr(AnswerLog, "of_shard", None)
    stream = Stream()
    lost, counts = gate_on(stream)
    log = lost.log_of_new_link()
    for ms in (10, 30, 20):
        # The answer of 20 belongs to a call that was sent again.
        note(log, [(0, ms)], [ms])
    stream.put(0, 30, 30)
    log.is_closed = True
    lost.log_of_new_link()
    await looked(lost)
    assert (stream.reports, counts.lost) == ({}, 0)
    await lost.aclose()


async def test_missing_answers_are_told_once_in_each_shard() -> None:
    """With their ids, from the first missing entry on; a later loss is told by itself."""
    stream = Stream()
    lost, counts = gate_on(stream)
    log = lost.log_of_new_link()
    for ms in range(10, 20):
        note(log, [(0, ms), (1, ms + 100)], [ms, ms])
        stream.put(1, ms, ms + 100)
        if ms < 17:
            stream.put(0, ms, ms)
    # Another entry took the position of a lost one.
    stream.put(0, 18, 99)
    log.is_closed = True
    new = lost.log_of_new_link()
    # Answers of the new history, of which a part goes, too.
    for ms in (20, 21, 22):
        note(new, [(0, ms)], [ms])
        stream.put(0, ms, ms)
    await looked(lost)
    assert stream.told(0) == [("17-7", [17, 18, 19], False)]
    assert (stream.told(1), counts.lost) == ([], 3)
    del stream.entries[SHARDS[0].stream + b"22-7"]
    new.is_closed = True
    lost.log_of_new_link()
    await looked(lost)
    assert stream.told(0) == [("17-7", [17, 18, 19], False), ("22-7", [22], False)]
    assert counts.lost == 4
    await lost.aclose()


async def test_a_shard_that_moves_to_a_node_with_a_link_is_looked_at() -> None:
    """No link is new, and the answers came by the link to the primary that is gone."""
    stream = Stream()
    lost, counts = gate_on(stream)
    lost.start_search(SHARDS[0])
    assert lost._tasks == {}
    gone, successor = lost.log_of_new_link(), lost.log_of_new_link()
    note(gone, [(0, 1)], [10])
    note(successor, [(1, 2)], [0, 10])
    gone.is_closed = True
    lost.start_search(SHARDS[0])
    await looked(lost)
    assert (stream.told(0), stream.told(1), counts.lost) == ([("10-7", [1], False)], [], 1)
    await lost.aclose()


async def test_a_report_that_a_second_failover_has_lost_is_written_again() -> None:
    """The answers are counted once."""
    stream = Stream()
    lost, counts = gate_on(stream)
    log = lost.log_of_new_link()
    note(log, [(0, 1)], [10])
    log.is_closed = True
    lost.start_search(SHARDS[0])
    await looked(lost)
    stream.reports.clear()
    lost.start_search(SHARDS[0])
    await looked(lost)
    assert (stream.told(0), counts.lost) == ([("10-7", [1], False)], 1)
    await lost.aclose()


async def test_a_second_loss_also_takes_what_the_first_one_left() -> None:
    """The answers of a closed link are looked for again."""
    stream = Stream()
    lost, counts = gate_on(stream)
    log = lost.log_of_new_link()
    for ms in (10, 11, 12):
        note(log, [(0, ms)], [ms])
        stream.put(0, ms, ms)
    del stream.entries[SHARDS[0].stream + b"12-7"]
    log.is_closed = True
    new = lost.log_of_new_link()
    await looked(lost)
    note(new, [(0, 20)], [20])
    stream.entries = {SHARDS[0].stream + b"10-7": identity(10)}
    new.is_closed = True
    lost.log_of_new_link()
    await looked(lost)
    told = sorted(stream.told(0))
    assert told == [("11-7", [11], False), ("12-7", [12], False), ("20-7", [20], False)]
    assert counts.lost == 3
    await lost.aclose()


async def test_a_shard_that_does_not_answer_is_asked_until_it_does() -> None:
    """A failover takes longer than a search."""
    stream = Stream()
    stream.failures = 5
    lost, counts = gate_on(stream)
    log = lost.log_of_new_link()
    note(log, [(0, 1)], [10])
    log.is_closed = True
    lost.log_of_new_link()
    await looked(lost)
    assert (stream.told(0), counts.lost) == ([("10-7", [1], False)], 1)
    await lost.aclose()


async def test_trimmed_entries_are_not_lost() -> None:
    """They are rows; the state of the shard says from when on its stream is complete."""
    stream = Stream(oldest_ms=15)
    lost, counts = gate_on(stream)
    log = lost.log_of_new_link()
    for ms in range(10, 20):
        note(log, [(0, ms)], [ms])
    log.is_closed = True
    lost.log_of_new_link()
    await looked(lost)
    assert stream.told(0) == [("15-7", [15, 16, 17, 18, 19], False)]
    assert counts.lost == 5
    await lost.aclose()


async def test_a_loss_beyond_the_memory_is_told_to_be_at_least_so_large() -> None:
    """And one that is too large for a report is told by several."""
    stream = Stream()
    lost, counts = gate_on(stream)
    log = lost.log_of_new_link()
    for call in range(40):
        ids = [(0, call * 128 + number) for number in range(128)]
        note(log, ids, [10 + call], now_s=20.0 if call else 0.0)
    assert log.is_cut
    log.is_closed = True
    lost.log_of_new_link()
    await looked(lost)
    told = stream.told(0)
    assert [(position, is_at_least) for position, _, is_at_least in told] == [
        ("11-7", True),
        (f"{11 + LOST_IDS_MAX // 128}-7", False),
    ]
    ids_told = [UUID(int=number).int for _, ids_, _ in told for number in ids_]
    assert ids_told == list(range(128, 40 * 128))
    assert counts.lost == 39 * 128
    await lost.aclose()
