"""`faregate dead-letters`: records that became none become rows after all, or count no more."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from commands import CommandLine
from durable import Database
from operated import WHO, Ledger

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

#: A constraint that refuses a record, and accepts a row that says who made it.
REFUSE = """
alter table public.credit_transactions add constraint of_a_test
check (description <> 'refused' or coalesce(metadata ? 'actor', false)) not valid
"""
ACCEPT = "alter table public.credit_transactions drop constraint of_a_test"


@contextmanager
def without_deletions(tables: Database) -> Iterator[None]:
    """Note no deletion meanwhile."""
    tables.run("alter table auth.users disable trigger faregate_note_deletion")
    yield
    tables.run("alter table auth.users enable trigger faregate_note_deletion")


def refuse_one(operated: Ledger) -> dict[str, Any]:
    """Let Postgres refuse a grant of five beside a charge; return its letter."""
    operated.tables.run(REFUSE)
    operated.ask(lambda gate: gate.grant(operated.user, 5, description="refused"))
    operated.charge()
    operated.drain()
    (letter,) = operated.tables.dead_letters()
    return letter


def assert_exact(command_line: CommandLine) -> None:
    """Neither sums nor chains nor leaves say otherwise."""
    assert command_line.tell("reconcile")["findings"] == []
    assert command_line.tell("verify")["findings"] == []


def test_a_retried_record_is_the_row_that_it_would_have_been(
    operated: Ledger, command_line: CommandLine
) -> None:
    """With its id, place, time and leaf; it stays while it is refused, and is a row once."""
    letter = refuse_one(operated)
    words = ("dead-letters", "retry", letter["id"], *WHO)
    (told,) = command_line.tell(*words, code=1)["letters"]
    assert (told["outcome"], "of_a_test" in told["reason"]) == ("stays", True)
    (listed,) = command_line.tell("dead-letters", "list")
    assert (listed["outcome"], listed["actor"], listed["amount"]) == (None, "ann", 5)

    operated.tables.run(ACCEPT)
    (told,) = command_line.tell(*words)["letters"]
    assert (told["outcome"], told["repeated"]) == ("retried", False)
    assert command_line.tell(*words)["letters"] == [told | {"repeated": True}]
    row, _ = operated.tables.rows(operated.user)
    shown = command_line.tell("dead-letters", "show", letter["id"])
    assert {
        name: str(row[name]) for name in ("id", "sequence", "balance_after", "description")
    } == {
        name: str(shown["record"][name])
        for name in ("id", "sequence", "balance_after", "description")
    }
    assert row["timestamp"].isoformat() == shown["record"]["timestamp"]
    assert told["row_id"] == shown["row_id"] == str(row["id"])
    assert command_line.tell("dead-letters", "list") == []
    assert_exact(command_line)
    operated.charge()
    operated.drain()
    assert_exact(command_line)


def test_a_resolved_record_is_a_row_with_actor_and_reason(
    operated: Ledger, command_line: CommandLine
) -> None:
    """It has the id, place and time of the record; the number of another record is not taken."""
    letter = refuse_one(operated)
    words = ("dead-letters", "resolve", letter["id"], *WHO)
    (told,) = command_line.tell(*words)["letters"]
    assert (told["outcome"], told["row_id"]) == ("resolved", str(letter["transaction_id"]))
    row, _ = operated.tables.rows(operated.user)
    assert row["metadata"] == {"actor": "ann", "reason": "ticket 7", "dead_letter": letter["id"]}
    assert (row["amount"], row["sequence"], row["description"]) == (5, 2, "refused")
    assert operated.tables.profile(operated.user) == (7, 3)
    assert command_line.tell(*words)["letters"] == [told | {"repeated": True}]
    assert "exact" in command_line.run(*words).out
    assert_exact(command_line)


def test_a_discarded_record_leaves_the_announced_drift(
    operated: Ledger, command_line: CommandLine
) -> None:
    """Without --yes nothing is changed; afterwards the live balance is above the rows."""
    letter = refuse_one(operated)
    words = ("dead-letters", "discard", letter["id"], *WHO)
    said = command_line.run(*words)
    assert (said.code, "+5" in said.err, "--yes" in said.err) == (2, True, True)
    assert command_line.tell("reconcile")["dead_letters"] == 1
    told = command_line.tell(*words, "--yes", code=1)
    assert [one["outcome"] for one in told["letters"]] == ["discarded"]
    assert [(one["kind"], one["found"] - one["expected"]) for one in told["findings"]] == [
        ("live", 5)
    ]
    assert command_line.tell(*words, "--yes", code=1)["letters"][0]["repeated"]
    (again,) = command_line.tell("dead-letters", "retry", letter["id"], *WHO, code=1)["letters"]
    assert (again["outcome"], again["repeated"]) == ("discarded", True)
    (listed,) = command_line.tell("dead-letters", "list", "--all")
    assert (listed["actor"], listed["actor_reason"]) == ("ann", "ticket 7")
    assert listed["discarded_at"]


def test_all_letters_of_deleted_users_are_discarded_at_once(
    operated: Ledger, command_line: CommandLine
) -> None:
    """There is no balance left that they could make wrong, and nothing to make a row of."""
    for _ in range(2):
        operated.charge()
    operated.tables.run("delete from auth.users where id = %s", operated.user)
    operated.drain()
    every = ("--kind", "deleted_user", "--all", *WHO)
    told = command_line.tell("dead-letters", "resolve", *every, code=1)
    assert {letter["outcome"] for letter in told["letters"]} == {"stays"}
    told = command_line.tell("dead-letters", "discard", *every, "--yes")
    assert [letter["outcome"] for letter in told["letters"]] == ["discarded"] * 2
    assert command_line.tell("dead-letters", "discard", *every, "--yes")["letters"] == []
    assert_exact(command_line)


def test_a_record_whose_user_exists_now_is_retried(
    operated: Ledger, command_line: CommandLine
) -> None:
    """As where Postgres was restored from a backup that did not know the user yet."""
    operated.charge()
    with without_deletions(operated.tables):
        operated.tables.run("delete from auth.users where id = %s", operated.user)
    operated.drain()
    (letter,) = command_line.tell("dead-letters", "list", "--user", operated.user)
    assert letter["kind"] == "deleted_user"
    words = ("dead-letters", "retry", letter["id"], *WHO)
    (told,) = command_line.tell(*words, code=1)["letters"]
    assert told["outcome"] == "stays"
    operated.tables.run("insert into auth.users (id) values (%s)", operated.user)
    # The drain has taken the user out of Redis; the next request brings it back with the record.
    operated.charge()
    (told,) = command_line.tell(*words)["letters"]
    assert told["outcome"] == "retried"
    assert_exact(command_line)


def test_an_unreadable_record_shows_its_bytes_and_becomes_no_row(
    operated: Ledger, command_line: CommandLine
) -> None:
    operated.tables.run(
        "insert into faregate.dead_letters"
        " (shard, stream_id, kind, reason, payload, payload_digest)"
        " values (0, '1-1/1', 'unreadable', 'a test', '\\x00ff', sha256('\\x00ff'))"
    )
    (letter,) = operated.tables.dead_letters()
    shown = command_line.tell("dead-letters", "show", letter["id"])
    assert (shown["record"], shown["payload"]) == (None, "00ff")
    assert "00ff" in command_line.run("dead-letters", "show", letter["id"]).out
    for action in ("retry", "resolve"):
        (told,) = command_line.tell("dead-letters", action, letter["id"], *WHO, code=1)["letters"]
        assert (told["outcome"], "version" in told["reason"]) == ("stays", True)
    command_line.tell("dead-letters", "discard", letter["id"], *WHO, "--yes")


@pytest.mark.parametrize("action", ["retry", "resolve", "discard"])
@pytest.mark.parametrize(
    "words",
    [("1", *WHO), WHO, ("--kind", "fork", *WHO), ("--all", *WHO), ("1", "--actor", " ", *WHO[2:])],
    ids=["unknown", "none", "kind alone", "all alone", "blank actor"],
)
@pytest.mark.usefixtures("operated")
def test_a_command_without_letters_is_wrong_use(
    command_line: CommandLine, action: str, words: tuple[str, ...]
) -> None:
    said = command_line.run("dead-letters", action, *words)
    assert (said.code, said.out) == (2, "")


@pytest.mark.parametrize("verb", ["show", "retry"])
def test_a_number_that_no_letter_can_have_is_wrong_use(
    operated: Ledger, command_line: CommandLine, verb: str
) -> None:
    """No server is asked, which would seem not to answer."""
    del operated
    who = WHO if verb == "retry" else ()
    assert command_line.run("dead-letters", verb, 2**63, *who).code == 2
