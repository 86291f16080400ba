"""A worker, a Redis and a Postgres of a test, each to be killed by SIGKILL and started again."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from faregate.cli.servers import EmbeddedPostgres
from halts import Halts
from own_redis import OwnRedis
from points import POINTS
from processes import runs
from waiting import WAIT_S_MAX, wait_for
from worker_process import System, children

VICTIMS = ("worker", "job", "ticker", "redis", "postgres")
AT_RANDOM = "at random"
PLACES = (*POINTS, AT_RANDOM)
#: When a process is killed at random, after the beginning of a round.
RANDOM_S_MAX = 0.3
#: What a worker says of a job and of a ticker that ended by SIGKILL.
KILLED_JOB = "waitpid returned 9 (signal 9)"
KILLED_TICKER = "ticker died, restarting: status=-9"


@dataclass(slots=True)
class Rig:
    """All that is killed. A kill returns once the kernel has told that it was one."""

    system: System
    redis: OwnRedis
    postgres: EmbeddedPostgres
    halts: Halts
    draw: random.Random
    worker: "subprocess.Popen[bytes]"

    def strike(self, victim: str, place: str) -> None:
        """Kill something where a job is at a point, or at random, and start it again."""
        if place == AT_RANDOM:
            time.sleep(self.draw.uniform(0, RANDOM_S_MAX))
            self._kill(victim, None)
            self._revive(victim)
            return
        # The job goes on while the other is dead, or when it is back.
        is_back_first = self.draw.random() < 0.5
        with self.halts.at(place) as job:
            self._kill(victim, job)
            if is_back_first:
                self._revive(victim)
        if not is_back_first:
            self._revive(victim)

    def _kill(self, victim: str, job: int | None) -> None:
        if victim == "worker":
            self.worker.kill()
            assert self.worker.wait(WAIT_S_MAX) == -signal.SIGKILL
        elif victim == "job":
            self._kill_child(KILLED_JOB, lambda: job or self._child(is_ticker=False))
        elif victim == "ticker":
            self._kill_child(KILLED_TICKER, lambda: self._child(is_ticker=True))
        elif victim == "redis":
            process = self.redis.process
            assert process is not None
            process.kill()
            assert process.wait(WAIT_S_MAX) == -signal.SIGKILL
        else:
            self.postgres.kill()
            assert self.postgres.died

    def _kill_child(self, told: str, find: Callable[[], int]) -> None:
        """Kill a child of the worker, which tells how it ended."""
        before = self._count(told)
        pid = find()
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: self._count(told) > before, told)
        assert not runs(pid)

    def _child(self, *, is_ticker: bool) -> int:
        found: list[int] = []

        def look() -> bool:
            found[:] = children(self.worker.pid, ticker=is_ticker)
            return bool(found)

        wait_for(look, "the worker has a ticker" if is_ticker else "the worker has a job")
        return found[0]

    def _count(self, text: str) -> int:
        return self.system.log.read_text(encoding="utf-8", errors="replace").count(text)

    def _revive(self, victim: str) -> None:
        if victim == "worker":
            self.worker = start_worker(self.system, self.halts)
        elif victim == "redis":
            self.redis.start()
        elif victim == "postgres":
            self.postgres.start()


def start_worker(system: System, halts: Halts) -> "subprocess.Popen[bytes]":
    """Start a worker whose jobs halt."""
    return system.start("halting_worker_process", str(halts.folder))


@contextmanager
def rigged(
    system: System, redis: OwnRedis, postgres: EmbeddedPostgres, folder: Path, seed: int
) -> Iterator[Rig]:
    """Run a worker beside servers of the test, and end it."""
    halts = Halts(folder)
    draw = random.Random(seed)  # noqa: S311 - no secret.
    rig = Rig(system, redis, postgres, halts, draw, start_worker(system, halts))
    try:
        yield rig
    finally:
        rig.worker.kill()
        rig.worker.wait(WAIT_S_MAX)
