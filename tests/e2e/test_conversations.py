"""`faregate replay` of conversations: costs that are known only afterwards, and owners that die."""

import csv
import json
import random
import re
import time
from pathlib import Path

import psycopg
import pytest

from e2e.replays import (
    REAL_CONVERSATIONS,
    Replay,
    faregate,
    told_of,
    urls,
    wait_for_traffic,
    write_conversations,
)
from faregate.cli.servers import EmbeddedValkey
from soak import Record, soaked

pytestmark = pytest.mark.long

ROWS = 300
KILLED_PERCENT = 10
UNDER_WAY = 300
#: In the middle of the estimates of fifty conversations.
FEW_CREDITS = 250
#: Longer than a hold or a settlement may take to be decided, shorter than a hold lasts.
REDIS_STOPPED_S = 3.5

#: What the real file comes to, worked out from it alone.
REAL_ROWS = 19_366
REAL_SPENT = 26_450_535
REAL_BEYOND_ESTIMATE = 898
SEED = 20231116

#: What must be the same whatever happened.
CLEAN = {"refused": 0, "unusable_lines": 0, "holds_open": 0, "pending": 0, "drift_users": 0}

KILL = re.compile(r"short-lived api pid \d+ killed: (\d+) of its (\d+) holds are open")


def kills_of(said: list[str]) -> list[tuple[int, int]]:
    """How many holds each killed owner left open, and how many it owned."""
    return [(int(kill[1]), int(kill[2])) for line in said if (kill := KILL.fullmatch(line))]


def amounts_of(database_url: str, description: str) -> list[int]:
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "select amount from public.credit_transactions where description = %s", [description]
        ).fetchall()
    return [int(amount) for (amount,) in rows]


def test_holds_of_killed_owners_go_back_and_others_pay_their_cost(
    tmp_path: Path, ledger_redis: str, empty_database_url: str
) -> None:
    """Who was killed is told by the estimates that Postgres says went back."""
    file = tmp_path / "conversations.csv"
    costs = write_conversations(file, rows=ROWS)
    servers = urls(ledger_redis, empty_database_url)
    with Replay(file, "--kill-owners", str(KILLED_PERCENT), *servers) as replay:
        report = replay.result()
    given_back = amounts_of(empty_database_url, "the hold expired")
    alive = costs.keys() - set(given_back)
    killed = len(costs) - len(alive)
    assert killed == len(given_back) == ROWS * KILLED_PERCENT // 100
    expected = {
        **CLEAN,
        "requests": ROWS,
        "allowed": ROWS - killed,
        "owners_killed": killed,
        "holds_given_back": killed,
        "spent": sum(costs[estimate] for estimate in alive),
        "beyond_estimate": sum(costs[estimate] > estimate for estimate in alive),
    }
    assert {name: report[name] for name in expected} == expected
    # They died with their holds open, which is the fault that is meant.
    assert sum(owned for _, owned in kills_of(replay.said)) == killed
    assert all(still_open == owned for still_open, owned in kills_of(replay.said))
    assert re.match(rf"seed \d+: {killed} of {ROWS} owners ", replay.said[0])


def test_redis_stopped_for_seconds_charges_each_user_exactly_once(
    tmp_path: Path, own_redis: EmbeddedValkey, empty_database_url: str
) -> None:
    """What was not held is held anew, and what was not settled in time is settled once."""
    file = tmp_path / "conversations.csv"
    costs = write_conversations(file, rows=2 * ROWS)
    with Replay(file, *urls(own_redis.url, empty_database_url)) as replay:
        wait_for_traffic(own_redis.url, records=UNDER_WAY)
        own_redis.pause()
        # The fault itself lasts this long; nothing is waited for.
        time.sleep(REDIS_STOPPED_S)
        own_redis.resume()
        report = replay.result()
    assert report["retried"] > 0
    assert {name: report[name] for name in CLEAN} == CLEAN
    assert (report["allowed"], report["spent"]) == (len(costs), sum(costs.values()))


def test_a_user_with_too_few_credits_is_refused_or_pays_all_of_them(tmp_path: Path) -> None:
    """Each user has one conversation: too high an estimate is not held, and a cost is capped."""
    file = tmp_path / "conversations.csv"
    costs = write_conversations(file, rows=50)
    held = [estimate for estimate in costs if estimate <= FEW_CREDITS]
    done = faregate("replay", file, "--json", "--credits", str(FEW_CREDITS))
    report = json.loads(done.stdout)
    expected = {
        **CLEAN,
        "allowed": len(held),
        "refused": len(costs) - len(held),
        "spent": sum(min(costs[estimate], FEW_CREDITS) for estimate in held),
        "beyond_estimate": sum(costs[estimate] > estimate < FEW_CREDITS for estimate in held),
    }
    assert done.returncode == 0, done.stderr
    assert {name: report[name] for name in expected} == expected
    assert 0 < expected["beyond_estimate"] < len(held) < len(costs)


def test_owners_are_killed_only_beside_others(tmp_path: Path) -> None:
    """One request at a time cannot be both."""
    file = tmp_path / "conversations.csv"
    write_conversations(file, rows=ROWS)
    done = faregate("replay", file, "--concurrency", "1", "--kill-owners", "1")
    assert done.returncode == 2
    assert "concurrency" in done.stderr
    assert "Traceback" not in done.stderr


@soaked
@pytest.mark.skipif(
    not REAL_CONVERSATIONS.exists(), reason="the shared conversations are not on this machine"
)
@pytest.mark.parametrize("percent", [0, 2])
def test_real_conversations_cost_exactly_their_tokens(
    percent: int, record_property: Record
) -> None:
    """What was held is settled to the credit; what killed owners held is given back."""
    with REAL_CONVERSATIONS.open(encoding="utf-8", newline="") as lines:
        rows = [(int(row[1]), int(row[2])) for row in list(csv.reader(lines))[1:]]
    chooser = random.Random(SEED)  # noqa: S311 -- the rows that the replay chooses
    killed = set(chooser.sample(range(len(rows)), len(rows) * percent // 100))
    alive = [row for number, row in enumerate(rows) if number not in killed]
    expected = {
        **CLEAN,
        "requests": REAL_ROWS,
        "users": 200,
        "allowed": len(alive),
        "owners_killed": len(killed),
        "holds_given_back": len(killed),
        "spent": sum(map(sum, alive)),
        "beyond_estimate": sum(generated > context for context, generated in alive),
    }
    if not percent:
        assert (expected["spent"], expected["beyond_estimate"]) == (
            REAL_SPENT,
            REAL_BEYOND_ESTIMATE,
        )
    with Replay(REAL_CONVERSATIONS, "--kill-owners", str(percent), "--seed", str(SEED)) as replay:
        report = replay.result()
    record_property("soak", f"replay of {REAL_CONVERSATIONS.name}: {told_of(report)}")
    assert {name: report[name] for name in expected} == expected
    assert sum(still_open for still_open, _ in kills_of(replay.said)) == len(killed)
