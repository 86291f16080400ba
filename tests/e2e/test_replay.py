"""`faregate replay`, from a file to the proof, on real servers, API and worker."""

import json
from pathlib import Path

import pytest

from e2e.replays import REAL_LOG, REAL_NUMBERS, Replay, faregate, numbers, told_of, urls, write_log
from soak import Record, soaked

pytestmark = pytest.mark.long


def test_a_replay_accounts_for_every_request_of_a_log(tmp_path: Path) -> None:
    """What is read back from the servers is what arithmetic over the file says."""
    log = tmp_path / "access.log"
    expected = write_log(log, lines=400, users=60)
    with log.open("a", encoding="utf-8") as file:
        file.write("no line of a log\n\n")
    done = faregate("replay", log, "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, numbers(report, list(expected))) == (0, expected), done.stderr
    assert report["unusable_lines"] == 2
    assert report["live_credits"] == expected["users"] * 3 - report["allowed"] + report["refunded"]
    for part in ("redis", "postgres", "worker", "api"):
        assert f"{part} pid " in done.stderr


def test_a_replay_runs_on_servers_of_the_user_and_only_on_fresh_ones(
    tmp_path: Path, ledger_redis: str, empty_database_url: str
) -> None:
    """By URL, the numbers are the same; the second run is refused, since it could prove nothing."""
    log = tmp_path / "access.log"
    expected = write_log(log, lines=200, users=40)
    servers = urls(ledger_redis, empty_database_url)
    with Replay(log, *servers) as replay:
        assert numbers(replay.result(), list(expected)) == expected
    again = faregate("replay", log, "--json", *servers)
    assert (again.returncode, again.stdout) == (2, "")
    assert "used before" in again.stderr


def test_the_chosen_statuses_are_refunded(tmp_path: Path) -> None:
    """With 404 among them, whoever only gets 404 never runs out of credits."""
    log = tmp_path / "access.log"
    line = '{} - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.0" {} 0\n'
    log.write_text(line.format("::1", 404) * 9 + line.format("client.test", 500) * 9, "utf-8")
    done = faregate("replay", log, "--json", "--refund-status", "404", "--credits", "2")
    report = json.loads(done.stdout)
    found = [report[name] for name in ("requests", "allowed", "refused", "refunded", "rows")]
    assert (done.returncode, found) == (0, [18, 11, 7, 9, 22]), done.stderr


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "does not exist"), (b"", "holds no line"), (b"\x00\xff\xfe\n" * 50, "holds no line")],
    ids=["missing", "empty", "binary"],
)
def test_a_file_that_cannot_be_replayed_is_a_clear_error(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    """The command says what is wrong with it, in one line, and starts nothing."""
    log = tmp_path / "access.log"
    if content is not None:
        log.write_bytes(content)
    done = faregate("replay", log, "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert "pid" not in done.stderr


@pytest.mark.parametrize(
    "options", [("--refund-status", "oops"), ("--redis-url", "redis://127.0.0.1:1")]
)
def test_options_that_cannot_work_are_refused(tmp_path: Path, options: tuple[str, ...]) -> None:
    """A status that is none, and one server of one's own without the other."""
    log = tmp_path / "access.log"
    write_log(log, lines=1, users=1)
    done = faregate("replay", log, *options)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@soaked
@pytest.mark.skipif(not REAL_LOG.exists(), reason="the shared access log is not on this machine")
def test_ten_thousand_real_requests_come_out_as_worked_out(record_property: Record) -> None:
    """The numbers of the real log, three credits a user."""
    with Replay(REAL_LOG, "--credits", "3") as replay:
        report = replay.result()
    record_property("soak", f"replay of {REAL_LOG.name}: {told_of(report)}")
    assert numbers(report, list(REAL_NUMBERS)) == REAL_NUMBERS
