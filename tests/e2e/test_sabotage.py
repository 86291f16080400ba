"""Each sabotage is named exactly, and repaired, while 64 connections charge and a worker drains."""

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from redis import Redis
from rq.suspension import suspend

from busy_ledger import Busy, busy_ledger
from commands import CommandLine
from faregate.cli.servers import Binaries, EmbeddedServers
from faregate.ops import doctor
from faregate_worker import check
from operated import WHO
from sabotages import SABOTAGES, Sabotage
from soak import scaled
from waiting import wait_for

pytestmark = [pytest.mark.redis, pytest.mark.postgres, pytest.mark.long]

REPAIR = ("repair", "--apply", *WHO)


@pytest.fixture(scope="module")
def busy(binaries: Binaries, servers: EmbeddedServers, template_database: str) -> Iterator[Busy]:
    """One for all, since each test leaves it exact."""
    with busy_ledger(binaries, servers, template_database) as made:
        yield made


@pytest.fixture
def command(busy: Busy, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line, for that ledger."""
    for name, text in busy.system.environment.items():
        if name.startswith("FAREGATE_"):
            monkeypatch.setenv(name, text)
    return command_line


def findings(command: CommandLine) -> list[dict[str, Any]]:
    """All that reconcile and verify find; the exit code says whether that is anything."""
    found = {}
    for name in ("reconcile", "verify"):
        said = command.run(name, "--json")
        told = json.loads(said.out)
        assert said.code == (1 if told["findings"] else 0)
        found.update({one["id"]: one for one in told["findings"]})
    return list(found.values())


def check_named(busy: Busy, made: Sabotage, user_id: UUID, found: list[dict[str, Any]]) -> None:
    """Exactly what was done is found, and of nobody else."""
    kinds, subjects = defaultdict[str, set[str]](set), defaultdict[str, list[str]](list)
    for one in found:
        if one["user_id"]:
            kinds[one["user_id"]].add(one["kind"])
        else:
            subjects[one["kind"]].append(one["subject"])
    assert set(subjects) == set(made.of_all)
    for kind, beginnings in made.of_all.items():
        listed = sorted(subjects[kind])
        assert len(listed) == len(beginnings), listed
        for subject, beginning in zip(listed, sorted(beginnings), strict=True):
            assert subject.startswith(beginning)
    assert kinds == ({str(user_id): made.kinds} if made.kinds else {})


def check_clean(command: CommandLine) -> None:
    """Nothing is found by any command, and a second repair has nothing to do."""
    for name in ("reconcile", "verify"):
        said = command.run(name)
        assert said.code == 0, said
    # A worker whose queue was flushed tells of itself at its next sign of life.
    wait_for(lambda: not command.run("doctor").code, "the doctor finds nothing")
    assert command.run("status").code == 0
    assert command.tell(*REPAIR)["steps"] == []


@pytest.mark.parametrize("name", SABOTAGES)
def test_each_sabotage_is_named_and_repaired_under_load(
    busy: Busy, command: CommandLine, name: str
) -> None:
    """Nobody stops; in the end each charge was paid once, and a second repair does nothing."""
    made = SABOTAGES[name]
    user_id = busy.users[list(SABOTAGES).index(name) % len(busy.users)]
    made.do(busy, user_id)
    found = findings(command)
    check_named(busy, made, user_id, found)
    # A new epoch begins only for a finding that is named.
    named = [one["id"] for one in found if one["kind"] == "epoch"]
    told = command.tell(*REPAIR, *named)
    assert told["left"] == []
    assert bool(told["steps"]) == bool(made.kinds or made.of_all)
    busy.callers.wait_for_more()
    check_clean(command)
    busy.check_payments()


def symptoms(command: CommandLine) -> dict[str, str]:
    """The remedies that the doctor names, by what they concern, but for forks of earlier tests."""
    said = command.run("doctor", "--json")
    told = {one["part"]: one["remedy"] for one in json.loads(said.out) if one["part"] != "forks"}
    assert said.code == (1 if told else 0)
    # Each looks anew, and what is wrong may have begun in between.
    wait_for(lambda: command.run("status").code == command.run("doctor").code, "both agree")
    return told


def check_recovered(busy: Busy, command: CommandLine) -> None:
    """Records become rows again."""
    busy.wait_for_rows(busy.users)
    check_clean(command)
    assert check.problems(busy.settings_of_worker) == []
    busy.check_payments()


def test_an_untouched_ledger_never_has_findings(busy: Busy, command: CommandLine) -> None:
    """While all go on."""
    for _ in range(scaled(100, 5)):
        assert findings(command) == []
        busy.callers.wait_for_more(1)


def test_a_worker_that_was_stopped_is_named_and_another_one_repairs_it(
    busy: Busy, command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds nothing that another one would need."""
    busy.stop_worker()
    with Redis.from_url(busy.system.queue_url) as queue, monkeypatch.context() as patch:
        # As after half a minute.
        queue.delete(check.heartbeat_name())
        patch.setattr(doctor, "PENDING_S_MAX", 0.5)
        wait_for(lambda: symptoms(command), "it is named")
        assert symptoms(command) == {"records": "faregate worker --check"}
        (problem,) = check.problems(busy.settings_of_worker)
        assert "run `faregate worker`" in problem
        assert findings(command) == []
    busy.kill_worker()
    busy.start_worker()
    check_recovered(busy, command)


def test_a_suspended_queue_is_reported_with_its_remedy(busy: Busy, command: CommandLine) -> None:
    """The command is what a shell runs."""
    with Redis.from_url(busy.system.queue_url) as queue:
        suspend(queue)
    told = symptoms(command)
    assert set(told) == {"queue"}
    (problem,) = check.problems(busy.settings_of_worker)
    assert f"`{told['queue']}`" in problem
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(told["queue"], shell=True, check=True, env=os.environ | {"PATH": path})  # noqa: S602
    check_recovered(busy, command)


def test_a_lock_holder_is_named_with_the_command_that_ends_it(
    busy: Busy, command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction that somebody has left open."""
    with (
        monkeypatch.context() as patch,
        closing(psycopg.connect(busy.system.database_url)) as somebody,
    ):
        somebody.execute("select from public.profiles for update")
        for module in (doctor, check):
            patch.setattr(module, "PENDING_S_MAX", 2.0)
        wait_for(lambda: symptoms(command), "it is named")
        assert symptoms(command) == {"records": "faregate worker --check"}
        problem = check.problems(busy.settings_of_worker)[-1]
        statement = re.findall("`(.+)`", problem)[0]
        assert statement == f"select pg_terminate_backend({somebody.info.backend_pid})"
        busy.sql(statement)
    check_recovered(busy, command)
