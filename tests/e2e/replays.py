"""Runs `faregate replay` as its users do, as a program, and reaches into what it has started."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis import Redis

from faregate.adapters.redis import keys
from faregate.adapters.redis.stream import RedisStream
from faregate.adapters.redis.values import ShardState
from faregate.cli.conversations import HEADER
from waiting import WAIT_S_MAX, wait_for

SHARD_COUNT = 16
STARTING_CREDITS = 3

#: Shared data, which the repository does not hold.
REAL_CONVERSATIONS = Path(__file__).resolve().parents[3] / "shared/data/llm_conversations.csv"
REAL_LOG = Path(__file__).resolve().parents[3] / "shared/data/web_access.log"
#: What the real log comes to with 3 credits, worked out from the file alone.
REAL_NUMBERS = {
    "requests": 10_000,
    "users": 1_753,
    "allowed": 3_576,
    "refunded": 1,
    "refused": 6_424,
    "rows": 5_330,
    "pending": 0,
    "drift_users": 0,
    "dead_letters": 0,
}


def write_log(path: Path, *, lines: int, users: int) -> dict[str, int]:
    """Write an access log, and work out what must come of it, by plain arithmetic."""
    balances: dict[str, int] = {}
    allowed = refunded = 0
    with path.open("w", encoding="utf-8") as file:
        for number in range(lines):
            # A third comes from five heavy users; every 7th answer is a failure of the app.
            address = f"client-{number % (users if number % 3 else 5)}.test"
            status = 503 if number % 7 == 3 else (200, 304, 404, 204)[number % 4]
            file.write(
                f'{address} - - [17/May/2015:10:05:03 +0000] "GET /{number} HTTP/1.1" {status} 9\n'
            )
            balance = balances.setdefault(address, STARTING_CREDITS)
            if balance:
                allowed += 1
                refunded += status == 503
                balances[address] = balance - (status != 503)
    return {
        "requests": lines,
        "users": len(balances),
        "allowed": allowed,
        "refunded": refunded,
        "refused": lines - allowed,
        "rows": len(balances) + allowed + refunded,
        "pending": 0,
        "drift_users": 0,
        "dead_letters": 0,
    }


def write_conversations(path: Path, *, rows: int) -> dict[int, int]:
    """Write conversations, and return what each costs by its estimate, no two of which are alike.

    Every 11th costs more than its estimate, and every 13th exactly that.
    """
    costs = {}
    with path.open("w", encoding="utf-8") as file:
        file.write(f"{HEADER}\n")
        for number in range(rows):
            context = 100 + number
            generated = 3 * context if number % 11 == 5 else context * (number % 13 == 7)
            file.write(f"2023-11-16 18:15:46.6805900,{context},{generated}\n")
            costs[2 * context] = context + generated
    return costs


def environment() -> dict[str, str]:
    """What the programs of a test run in: the packages under test, and no settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FAREGATE_")}
    return {**kept, "PYTHONPATH": os.pathsep.join(sys.path)}


def faregate(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `faregate` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "faregate.cli", *arguments],
        env={**environment(), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S_MAX,
    )


def urls(redis_url: str, postgres_url: str) -> tuple[str, ...]:
    """The options that name the servers of the user."""
    return ("--redis-url", redis_url, "--postgres-url", postgres_url)


class Replay:
    """A replay that runs. Leaving the block ends it, whatever has happened."""

    def __init__(self, log: Path, *options: str) -> None:
        # Should it be killed, its temporary files go with the test.
        self._temporary = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faregate.cli", "replay", log, "--json", *options],
            env={**environment(), "TMPDIR": self._temporary.name},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.said.append(line.rstrip())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # In order first, so that it stops what it has started.
        self._process.terminate()
        try:
            self._process.communicate(timeout=WAIT_S_MAX)
        finally:
            self._process.kill()
            self._reader.join()
            self._temporary.cleanup()

    def end(self, number: signal.Signals) -> int:
        """Send it a signal, wait for its end, and return its exit status."""
        self._process.send_signal(number)
        return self._process.wait(WAIT_S_MAX)

    def _found(self, pattern: str) -> list[str]:
        return [match[1] for line in self.said if (match := re.match(pattern, line))]

    def pid(self, name: str, *, nth: int = 0) -> int:
        """The process id of a part of the stack; `nth` counts how often it was started again."""
        pattern = rf"{name} pid (\d+)(?: url|$)"
        wait_for(lambda: self._ended or len(self._found(pattern)) > nth, f"{name} {nth}")
        assert len(self._found(pattern)) > nth, self.said
        return int(self._found(pattern)[nth])

    @property
    def redis_url(self) -> str:
        """Where its embedded Redis answers."""
        self.pid("redis")
        return self._found(r"redis pid \d+ url (\S+)")[0]

    @property
    def _ended(self) -> bool:
        return self._process.poll() is not None

    def result(self) -> dict[str, Any]:
        """Wait for its end, in success, and return what it has reported."""
        assert self._process.stdout is not None
        output = self._process.stdout.read()
        status = self._process.wait(WAIT_S_MAX)
        self._reader.join()
        assert status == 0, "\n".join([*self.said, output])
        report: dict[str, Any] = json.loads(output)
        return report


def pending_count(redis_url: str) -> int:
    """Ask Redis how many records are not known to be rows."""
    with closing(RedisStream.from_url(redis_url, SHARD_COUNT)) as stream:
        return stream.pending_count()


def records_count(redis_url: str) -> int:
    """Ask Redis how many records were ever written, drained ones included."""
    with Redis.from_url(redis_url) as client:
        states = client.mget([shard.state for shard in keys.shards(SHARD_COUNT)])
    return sum(ShardState.unpack(state).ordinal for state in states if state)


def wait_for_traffic(redis_url: str, *, records: int) -> None:
    """Wait until a replay is under way."""
    wait_for(lambda: records_count(redis_url) >= records, f"{records} records")


def kill_worker_while_pending(replay: Replay, redis_url: str, *, nth: int) -> int:
    """SIGKILL the `nth` worker when records are pending; return how many they were.

    It is paused first, so that it cannot drain them between the look and the kill.
    """
    worker = replay.pid("worker", nth=nth)
    os.kill(worker, signal.SIGSTOP)
    wait_for(lambda: pending_count(redis_url) > 0, "pending records")
    pending = pending_count(redis_url)
    os.kill(worker, signal.SIGKILL)
    return pending


def numbers(report: dict[str, Any], names: Sequence[str]) -> dict[str, int]:
    """The numbers that must be the same whatever happened.

    A charge that was answered 503 after all, and given back, leaves two rows more: the deduct and
    its void. Neither counts as allowed or refunded.
    """
    found = {name: report[name] for name in names}
    return {**found, "rows": report["rows"] - 2 * report["voided"]}


def told_of(report: Mapping[str, Any]) -> str:
    """Say what a replay has reported, in one line."""
    return ", ".join(f"{name} {number}" for name, number in report.items())
