"""When the ticker has a job made for expired holds."""

from collections.abc import Sequence

from fakeredis import FakeRedis
from rq import Queue

from clocks import Seconds
from faregate.adapters.memory.ledger import MemoryLedger
from faregate.adapters.memory.stream import MemoryStream
from faregate.config import QUEUE_NAME
from faregate_worker.ticker import SWEEP_INTERVAL_S, Ticker


class FakeSweeper:
    """Knows in which shards holds are due, and how often it was asked."""

    def __init__(self) -> None:
        self.due: list[int] = []
        self.asked = 0

    def shards_due(self) -> Sequence[int]:
        self.asked += 1
        return self.due

    def sweep(self, shard: int) -> int:
        raise NotImplementedError


def test_expired_holds_are_checked_once_an_interval_and_make_one_job() -> None:
    """Where none is due, no job is made."""
    clock, sweeper = Seconds(), FakeSweeper()
    queue = Queue(QUEUE_NAME, connection=FakeRedis(), serializer="json")
    stream = MemoryStream(MemoryLedger())
    ticker = Ticker(stream, queue, drain_s_max=2.5, sweeper=sweeper, clock=clock)
    assert (ticker.tick(), sweeper.asked) == (False, 0)
    clock.advance(SWEEP_INTERVAL_S)
    assert ([ticker.tick(), ticker.tick()], sweeper.asked) == ([False, False], 1)
    sweeper.due.append(3)
    for is_enqueued in (True, False):
        clock.advance(SWEEP_INTERVAL_S)
        assert ticker.tick() == is_enqueued
    assert len(queue.job_ids) == 1
