"""A worker whose jobs halt at a named point for as long as a test wants.

python -m halting_worker_process FOLDER

A file `arm POINT` in the folder arms a point. The first job that reaches it makes `halted PID` of
that file, and goes on when it is deleted. Pauses after faults are short, so that rounds are.
"""

import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from faregate.adapters.postgres.archive import PostgresArchive
from faregate.adapters.redis.stream import RedisStream
from faregate.bootstrap import open_archive, open_stream
from faregate.config import Settings
from faregate_worker import __main__ as program
from faregate_worker import jobs, supervisor, work
from halts import Halts
from points import watch

PAUSE_S = 0.05


def shorten_pauses() -> None:
    """Pause as after a fault, but not as long."""
    modules: Any = work, jobs, program, supervisor
    modules[0].PAUSE_S_MIN = modules[0].PAUSE_S_MAX = PAUSE_S
    modules[1].FAILURE_PAUSE_S = PAUSE_S
    modules[2].RESTART_WAIT_S = modules[2].RECONNECT_WAIT_S_MAX = PAUSE_S
    modules[3].RESTART_WAIT_S = PAUSE_S


def watch_jobs(halts: Halts) -> None:
    """Let the jobs of this worker halt."""
    opened: list[RedisStream] = []
    in_jobs: Any = jobs

    def stream_of(settings: Settings) -> closing[RedisStream]:
        made: Any = open_stream(settings)
        opened.append(made.thing)
        return closing(made.thing)

    def archive_of(settings: Settings) -> closing[PostgresArchive]:
        made: Any = open_archive(settings)
        watch(opened.pop(), made.thing, halts.reach)
        return closing(made.thing)

    in_jobs.open_stream, in_jobs.open_archive = stream_of, archive_of


def main() -> int:
    shorten_pauses()
    watch_jobs(Halts(Path(sys.argv[1])))
    return program.main([])


if __name__ == "__main__":
    sys.exit(main())
