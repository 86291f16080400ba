"""What servers say of themselves, as `faregate status`, `doctor` and a worker see it."""

import re
from pathlib import Path

import psycopg
import pytest
from redis import Redis
from rq.suspension import suspend

from commands import CommandLine
from durable import Database
from faregate import Settings
from faregate.cli.servers import EmbeddedValkey
from faregate_worker.runtime import open_queue
from waiting import WAIT_S_MAX, wait_for
from worker_process import USERS, System

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

#: Enough for any server that is empty.
MEMORY_MAX = 2**40


@pytest.fixture
def ledger(
    own_redis: EmbeddedValkey, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> System:
    """A ledger on a Redis of its own, with full durability."""
    monkeypatch.setenv("FAREGATE_REDIS_URL", own_redis.url)
    monkeypatch.setenv("FAREGATE_POSTGRES_URL", database_url)
    with Redis.from_url(own_redis.url) as redis:
        redis.config_set("maxmemory", MEMORY_MAX)
    made = System(redis_url=own_redis.url, database_url=database_url, log=tmp_path / "worker.log")
    monkeypatch.setenv("FAREGATE_QUEUE_URL", made.queue_url)
    return made


def symptoms(command_line: CommandLine, code: int) -> dict[str, str]:
    """What is wrong by its part, but for the worker, which few of these tests run."""
    told = command_line.tell("doctor", code=code)
    return {one["part"]: one["detail"] for one in told if "no worker" not in one["detail"]}


def test_the_settings_of_redis_are_seen(
    ledger: System, own_redis: EmbeddedValkey, command_line: CommandLine
) -> None:
    """Each by its name."""
    assert symptoms(command_line, 1) == {}
    with Redis.from_url(own_redis.url) as redis:
        for name, value, word in (
            ("maxmemory-policy", "allkeys-lru", "allkeys-lru"),
            ("appendfsync", "no", "does not sync"),
            ("maxmemory", "0", "no memory limit"),
            ("appendonly", "no", "no append-only file"),
        ):
            before = redis.config_get(name)[name]
            redis.config_set(name, value)
            assert word in symptoms(command_line, 1)["redis"], name
            redis.config_set(name, before)
        told = command_line.tell("status", code=1)
        assert told["redis"]["memory_max"] == MEMORY_MAX
        assert told["redis"]["append_fsync"] == "everysec"
        assert abs(told["redis"]["clock_ahead_ms"] - told["postgres"]["clock_ahead_ms"]) < 1_000
        queue = open_queue(ledger.queue_url, socket_timeout_s=WAIT_S_MAX)
        suspend(queue.connection)
        queue.connection.close()
    assert "suspended" in symptoms(command_line, 1)["queue"]


@pytest.mark.usefixtures("ledger")
def test_a_postgres_that_is_not_of_this_version_or_of_another_owner_is_seen(
    command_line: CommandLine,
    database_url: str,
    empty_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both are put right by `faregate migrate`."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("create role another_owner")
        connection.execute("grant create on schema public to another_owner")
        connection.execute("alter table public.credit_transactions owner to another_owner")
        found = symptoms(command_line, 1)
        connection.execute("reassign owned by another_owner to current_user")
        connection.execute("drop owned by another_owner")
        connection.execute("drop role another_owner")
    assert "owner of the tables" in found["postgres"]
    monkeypatch.setenv("FAREGATE_POSTGRES_URL", empty_database_url)
    assert "migrations are missing" in symptoms(command_line, 3)["postgres"]
    told = command_line.tell("status", code=3)
    assert told["postgres"]["migrations_pending"]
    assert (told["ledger"], told["records"], told["dead_letters"]) == (None, None, None)


def test_backlog_workers_and_dead_letters_are_on_one_screen(
    ledger: System, command_line: CommandLine, tables: Database
) -> None:
    """As they are, with one line for each part and the number of symptoms."""
    ledger.charge(USERS[:1])
    tables.insert_dead_letter()
    told = command_line.tell("status", code=1)
    assert told["records"]["pending"] > 0
    assert told["dead_letters"] == {"refused": 1}
    assert told["orders"] == {"waiting": 0, "oldest_s": 0.0, "refused": 0}
    assert (told["queue"]["workers"], told["ledger"]["problems"]) == (0, [])
    with ledger.worker():
        wait_for(lambda: command_line.run("doctor").code == 0, "all is well")
        told = command_line.tell("status")
        assert (told["queue"]["workers"], told["is_well"]) == (1, True)
        wait_for(ledger.drained, "everything is drained")
        assert command_line.tell("status")["records"] == {"pending": 0, "oldest_s": 0.0}
        shown = command_line.run("status").out.splitlines()
        assert told["reconciliation"] == {}
        command_line.run("reconcile")
        last = command_line.tell("status")["reconciliation"]
    assert (last["users"], last["drift_users"], last["findings"]) == (1, 0, {})
    assert len(shown) < 24
    assert "faults: 1;" in shown[-2]


def test_a_server_that_is_away_is_named_and_hides_nothing(
    ledger: System, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 3, once for each server."""
    for name in ("FAREGATE_REDIS_URL", "FAREGATE_POSTGRES_URL"):
        with monkeypatch.context() as patch:
            away = "unix:///nowhere" if "REDIS" in name else "host=/nowhere"
            patch.setenv(name, away)
            told = command_line.tell("doctor", code=3)
            assert name in told[0]["remedy"]
            assert re.search(r"^ ledger +unknown ", command_line.run("status").out, re.M)
            assert command_line.tell("status", code=3)["queue"] == {
                "workers": 0,
                "suspended": False,
            }
    with monkeypatch.context() as patch:
        patch.setenv("FAREGATE_REDIS_URL", "http://nonsense")
        assert command_line.run("doctor").code == 2


def test_another_ledger_is_seen(ledger: System, command_line: CommandLine) -> None:
    """Whichever of both servers was exchanged."""
    ledger.charge(USERS[:1])
    with Redis.from_url(ledger.redis_url) as redis:
        redis.flushall()
    assert "wiped" in symptoms(command_line, 1)["ledger"]


def test_a_worker_warns_at_its_start_and_works(ledger: System) -> None:
    """Of the servers alone: that records wait is what it is there for."""
    with Redis.from_url(ledger.redis_url) as redis:
        redis.config_set("maxmemory-policy", "allkeys-lru")
    ledger.charge()
    with ledger.worker():
        wait_for(ledger.drained, "everything is drained")
    assert "WARNING" in ledger.log.read_text("utf-8")
    assert "maxmemory-policy noeviction" in ledger.log.read_text("utf-8")


def test_settings_are_printed_with_their_source_and_without_passwords(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the environment apart from those that nobody has set."""
    monkeypatch.setenv("FAREGATE_REDIS_URL", "redis://ann:hunter2@127.0.0.1:1/0?password=hunter2")
    told = {one["name"]: one for one in command_line.tell("config")}
    assert told["FAREGATE_REDIS_URL"]["value"] == "redis://***@127.0.0.1:1/0?***"
    assert told["FAREGATE_REDIS_URL"]["source"] == "environment"
    assert told["FAREGATE_PENDING_MAX"] == {
        "name": "FAREGATE_PENDING_MAX",
        "value": Settings().pending_max,
        "source": "default",
    }
    assert set(told) == {f"FAREGATE_{name.upper()}" for name in Settings.model_fields}
    assert "hunter2" not in command_line.run("config").out
