"""What commands print of many rows, and of all that is known of a user."""

import csv
import json
import os
from datetime import timedelta
from io import StringIO

import psycopg
import pytest

from commands import CommandLine, check
from durable import as_role
from faregate.adapters.postgres.roles import roles_sql
from operated import Ledger

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


def test_rows_are_exported_as_lines_and_as_csv(operated: Ledger, command_line: CommandLine) -> None:
    """All columns, in the order of time; of one user, or from a time on and before another."""
    operated.charge()
    operated.ask(
        lambda gate: gate.grant(operated.user, 5, description='a "b", c', metadata={"a": 1})
    )
    operated.drain()
    other = operated.tables.user().user_id
    said = command_line.run("export", "--format", "jsonl")
    rows = [json.loads(line) for line in said.out.splitlines()]
    for row in rows:
        check("export", row)
    assert [row["amount"] for row in rows] == [3, -1, 5, 3]
    assert (rows[2]["metadata"], rows[3]["user_id"]) == ({"a": 1}, str(other))
    same = csv.DictReader(StringIO(command_line.run("export", "--format", "csv").out))
    for ours, theirs in zip(rows, same, strict=True):
        assert list(ours) == list(theirs)
        assert ours["description"] == theirs["description"]
        assert ours["metadata"] == json.loads(theirs["metadata"] or "null")
        assert ours["timestamp"] == theirs["timestamp"]
    only = command_line.run("export", "--format", "jsonl", "--user", operated.user).out
    assert len(only.splitlines()) == 3
    newest = operated.tables.rows(operated.user)[-1]["timestamp"] + timedelta(days=1)
    day = f"{newest:%Y-%m-%d}"
    assert command_line.run("export", "--format", "jsonl", "--since", day).out == ""
    before = command_line.run("export", "--format", "jsonl", "--until", day).out
    assert len(before.splitlines()) == 4


def test_an_export_ends_in_order_when_its_reader_has_seen_enough(
    operated: Ledger, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `head`: no traceback, and no exit 1, which means that the ledger is not exact."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as broken:
        monkeypatch.setattr("sys.stdout", broken)
        assert command_line.run("export", "--format", "csv").code == 0


def test_all_that_is_known_of_a_user_is_shown_and_exported(
    operated: Ledger, command_line: CommandLine
) -> None:
    """Of every kind that there is, and of nobody else."""
    operated.charge()
    operated.drain()
    hold = operated.hold(1)
    command_line.tell("keys", "create", "--user", operated.user, "--name", "ci")
    other = operated.tables.user().user_id
    operated.ask(lambda gate: gate.charge(other))
    told = command_line.tell("users", "show", operated.user)
    assert (told["live"]["credits"], told["durable"]["credits"]) == (1, 2)
    assert [one["id"] for one in told["open_holds"]] == [hold]
    assert [key["name"] for key in told["api_keys"]] == ["ci"]
    assert [row["amount"] for row in told["newest_transactions"]] == [-1, 3]
    operated.tables.insert_dead_letter(operated.user)
    said = command_line.run("users", "export", operated.user)
    lines = [json.loads(line) for line in said.out.splitlines()]
    for line in lines:
        check("users export", line)
    kinds = ["user", "api_key", "open_hold", "pending", "dead_letter", "transaction", "transaction"]
    assert [line["entry"] for line in lines] == kinds
    assert {line["user_id"] for line in lines} == {str(operated.user)}
    assert lines[3]["id"] == hold


def test_a_role_that_may_not_see_api_keys_gets_unknown(
    operated: Ledger, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The auditor sees the rest."""
    with psycopg.connect(operated.settings.postgres_url, autocommit=True) as connection:
        connection.execute(roles_sql().encode())
    auditor = as_role(operated.settings.postgres_url, "faregate_auditor")
    monkeypatch.setenv("FAREGATE_POSTGRES_URL", auditor)
    assert command_line.tell("users", "show", operated.user)["api_keys"] is None
