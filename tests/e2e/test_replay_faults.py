"""Replays whose worker and servers are killed or stopped: the numbers stay the same.

Each test shows that its fault happened. The faults are real signals to the real processes.
"""

import os
import signal
import sys
import time
from pathlib import Path

import psycopg
import pytest

from e2e.replays import (
    Replay,
    kill_worker_while_pending,
    numbers,
    urls,
    wait_for_traffic,
    write_conversations,
    write_log,
)
from faregate.cli.servers import EmbeddedServers, EmbeddedValkey
from processes import runs
from waiting import wait_for

pytestmark = pytest.mark.long

LINES = 600
USERS = 100
#: Of a replay that is ended long before it is over.
ROWS = 1_500
#: How many records show that a replay is under way, and far from its end.
UNDER_WAY = 40
#: Longer than a charge may take to be decided, so that requests are answered 503.
REDIS_STOPPED_S = 3.5


def test_a_worker_killed_three_times_while_records_are_pending_loses_nothing(
    tmp_path: Path,
    own_redis: EmbeddedValkey,
    empty_database_url: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever it left pending, or stored and did not note, is a row once."""
    log = tmp_path / "access.log"
    # Enough for a worker that is started three times again.
    expected = write_log(log, lines=3 * LINES, users=USERS)
    url = own_redis.url
    with Replay(log, *urls(url, empty_database_url)) as replay:
        wait_for_traffic(url, records=UNDER_WAY)
        pending = [kill_worker_while_pending(replay, url, nth=nth) for nth in range(3)]
        report = replay.result()
    with capsys.disabled():
        sys.stdout.write(f"\npending at each SIGKILL of the worker: {pending}\n")
    assert all(pending)
    assert report["worker_restarts"] == 3
    assert numbers(report, list(expected)) == expected


def test_redis_stopped_for_seconds_charges_no_user_twice(
    tmp_path: Path, own_redis: EmbeddedValkey, empty_database_url: str
) -> None:
    """Requests meet a 503, are sent again as new ones, and nothing of the first attempt stays."""
    log = tmp_path / "access.log"
    expected = write_log(log, lines=LINES, users=USERS)
    with Replay(log, *urls(own_redis.url, empty_database_url)) as replay:
        wait_for_traffic(own_redis.url, records=UNDER_WAY)
        own_redis.pause()
        # The fault itself lasts this long; nothing is waited for.
        time.sleep(REDIS_STOPPED_S)
        own_redis.resume()
        report = replay.result()
    assert report["retried"] > 0
    assert numbers(report, list(expected)) == expected


def test_an_embedded_postgres_that_is_killed_is_started_again(tmp_path: Path) -> None:
    """The replay restarts it on the same data; what was pending and what was committed stays."""
    log = tmp_path / "access.log"
    expected = write_log(log, lines=LINES, users=USERS)
    with Replay(log) as replay:
        wait_for_traffic(replay.redis_url, records=UNDER_WAY)
        first = replay.pid("postgres")
        os.kill(first, signal.SIGKILL)
        second = replay.pid("postgres", nth=1)
        report = replay.result()
    assert second != first
    assert "postgres died and was started again" in replay.said
    assert numbers(report, list(expected)) == expected


def test_a_postgres_of_the_user_may_be_killed_and_come_back(
    tmp_path: Path, own_servers: EmbeddedServers
) -> None:
    """While it is away records wait in Redis, and users that are new wait for an answer."""
    log = tmp_path / "access.log"
    expected = write_log(log, lines=LINES, users=USERS)
    with Replay(log, *urls(own_servers.redis_url, own_servers.postgres_url)) as replay:
        wait_for_traffic(own_servers.redis_url, records=UNDER_WAY)
        own_servers.postgres.kill()
        own_servers.postgres.start()
        report = replay.result()
    assert numbers(report, list(expected)) == expected
    with psycopg.connect(own_servers.postgres_url) as connection:
        rows = connection.execute("select count(*) from public.credit_transactions").fetchone()
    assert rows == (report["rows"],)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_replay_that_is_ended_leaves_no_process_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Servers, APIs and worker end with it, whether it can still stop them or not."""
    file = tmp_path / "conversations.csv"
    write_conversations(file, rows=ROWS)
    with Replay(file, "--kill-owners", "50") as replay:
        wait_for_traffic(replay.redis_url, records=UNDER_WAY)
        pids = [
            replay.pid(name) for name in ("redis", "postgres", "worker", "api", "short-lived api")
        ]
        status = replay.end(number)
        wait_for(lambda: not any(map(runs, pids)), "the end of all processes")
    assert status == (128 + number if number is signal.SIGTERM else -number)
