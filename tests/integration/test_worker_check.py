"""`faregate worker --check` says whether records become rows, and if not, why."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from redis import Redis
from rq.suspension import suspend

from durable import as_role
from faregate import Settings
from faregate.adapters.postgres.migrations import Migrator
from faregate.cli.servers import EmbeddedServers
from faregate.domain.errors import ConfigurationError
from faregate_worker import check as module
from faregate_worker.check import BEAT_TTL_S, beat, end_beat, heartbeat_name, problems
from faregate_worker.runtime import open_queue
from waiting import WAIT_S_MAX, wait_for
from worker_process import USERS, System

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


@pytest.fixture
def system(ledger_redis: str, database_url: str, tmp_path: Path) -> System:
    return System(redis_url=ledger_redis, database_url=database_url, log=tmp_path / "worker.log")


@pytest.fixture
def settings(system: System) -> Iterator[Settings]:
    """Settings with which all is well: a sign of life, and the role of the worker."""
    queue = open_queue(system.queue_url, socket_timeout_s=WAIT_S_MAX)
    beat(queue)
    system.charge(USERS[:1])
    yield system.settings.model_copy(
        update={
            "queue_url": system.queue_url,
            "postgres_url": as_role(system.database_url, "faregate_worker"),
        }
    )
    queue.connection.close()


def test_all_is_well_while_records_are_young(settings: Settings) -> None:
    """Pending ones, too."""
    assert problems(settings) == []


def test_a_sign_of_life_expires_by_itself_and_can_be_withdrawn(
    settings: Settings, system: System
) -> None:
    """A worker that was killed, or has stopped, makes no host healthy."""
    queue = open_queue(system.queue_url, socket_timeout_s=WAIT_S_MAX)
    assert 0 < queue.connection.ttl(heartbeat_name()) <= BEAT_TTL_S
    end_beat(queue)
    (problem,) = problems(settings)
    assert "no worker of this host has sent a heartbeat" in problem
    queue.connection.close()


def test_old_pending_records_are_reported(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the reason is: the worker may live and store nothing."""
    monkeypatch.setattr(module, "PENDING_S_MAX", -1.0)
    (problem,) = problems(settings)
    assert "the oldest record of shard" in problem


def test_a_lock_that_blocks_records_is_reported(
    settings: Settings, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside how long they have waited."""
    monkeypatch.setattr(module, "PENDING_S_MAX", -1.0)
    with psycopg.connect(system.database_url) as blocker:
        blocker.execute("select id from public.profiles for update")
        wait_for(lambda: len(problems(settings)) > 1, "the lock is a second old")
        _, problem = problems(settings)
        assert f"pg_terminate_backend({blocker.info.backend_pid})" in problem


def test_a_suspended_queue_is_reported(settings: Settings, system: System) -> None:
    """With what lets it go on."""
    with Redis.from_url(system.queue_url) as redis:
        suspend(redis)
    (problem,) = problems(settings)
    assert "rq resume" in problem


def test_a_queue_or_a_postgres_that_does_not_answer_is_reported(settings: Settings) -> None:
    """The check answers, whatever it finds."""
    away = settings.model_copy(update={"queue_url": "unix:///nowhere/redis.sock"})
    assert "the queue does not answer" in problems(away)[0]
    away = settings.model_copy(update={"postgres_url": "host=/nowhere dbname=none"})
    assert "cannot" in problems(away)[0]


@pytest.mark.parametrize(
    "fault",
    [
        "revoke update (credits) on faregate.balances from faregate_worker",
        "alter database {} set default_transaction_read_only = on",
    ],
)
def test_missing_rights_in_postgres_are_reported_before_any_record_is_pending(
    settings: Settings, system: System, fault: str
) -> None:
    """By a rehearsal of the statements that store."""
    with psycopg.connect(system.database_url, autocommit=True) as connection:
        connection.execute(fault.format(connection.info.dbname).encode())
    (problem,) = problems(settings)
    assert "cannot store records" in problem


def test_another_ledger_or_none_is_an_error_of_configuration(
    settings: Settings, system: System, empty_database_url: str
) -> None:
    """Exit status 2, not 1: waiting does not help."""
    with pytest.raises(ConfigurationError, match="faregate migrate"):
        problems(settings.model_copy(update={"postgres_url": empty_database_url}))
    with psycopg.connect(system.database_url, autocommit=True) as connection:
        connection.execute("update faregate.ledger set epoch = 9")
    with pytest.raises(ConfigurationError, match="epoch"):
        problems(settings)


def test_a_new_owner_is_reported_until_the_next_migration(own_servers: EmbeddedServers) -> None:
    """As after REASSIGN OWNED: it may insert, but no row passes row level security."""
    url = own_servers.postgres_url
    with psycopg.connect(url, autocommit=True) as admin:
        for role in ("first_owner", "next_owner"):
            admin.execute(f"create role {role} login createrole".encode())
        admin.execute("create database owned owner first_owner")
    Migrator(make_conninfo(url, user="first_owner", dbname="owned")).apply()
    with psycopg.connect(make_conninfo(url, dbname="owned"), autocommit=True) as admin:
        admin.execute("reassign owned by first_owner to next_owner")
    following = make_conninfo(url, user="next_owner", dbname="owned")
    settings = Settings(redis_url=own_servers.redis_url, postgres_url=following)
    with pytest.raises(ConfigurationError, match=r"next_owner .* lacks: .*insert on rows"):
        problems(settings)
    Migrator(following).apply()
    (problem,) = problems(settings)
    assert "no worker of this host has sent a heartbeat" in problem


def test_a_queue_without_any_worker_is_reported(system: System) -> None:
    """Before the first API and the first worker, both servers are empty, and nothing is wrong."""
    settings = system.settings.model_copy(update={"queue_url": system.queue_url})
    (problem,) = problems(settings)
    assert "no worker of this host has sent a heartbeat" in problem
    queue = open_queue(system.queue_url, socket_timeout_s=WAIT_S_MAX)
    beat(queue)
    assert problems(settings) == []
    queue.connection.flushdb()
    queue.connection.close()
    (problem,) = problems(settings)
    assert "no worker of this host has sent a heartbeat" in problem


def test_exit_statuses_tell_waiting_from_misconfiguration(
    system: System, empty_database_url: str
) -> None:
    """1 where a worker is missing, and 2 where Postgres has not been migrated: a line each."""
    assert system.check() == 1
    assert "no worker of this host" in system.log.read_text(encoding="utf-8")
    assert replace(system, database_url=empty_database_url).check() == 2
    assert "run `faregate migrate`" in system.log.read_text(encoding="utf-8")


@pytest.mark.long
def test_a_worker_is_healthy_again_after_its_queue_was_flushed(system: System) -> None:
    """It gives its sign of life anew, and goes on storing."""
    with system.worker():
        wait_for(lambda: system.check() == 0, "the worker is healthy")
        with Redis.from_url(system.queue_url) as redis:
            redis.flushdb()
        system.charge()
        wait_for(system.drained, "everything is drained")
        wait_for(lambda: system.check() == 0, "the worker is healthy again")
