"""Acknowledgements: findings that somebody has accepted, and how long that holds."""

import pytest
from redis import Redis

from commands import CommandLine
from durable import Database
from operated import WHO, Ledger
from sabotage import APPLY, Sabotaged

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


@pytest.fixture
def ledger(operated: Ledger, command_line: CommandLine) -> Sabotaged:
    """A user with two charges, who has one credit left."""
    return Sabotaged.after(operated, command_line)


def test_an_acknowledged_finding_is_listed_and_no_alarm_until_it_changes(
    ledger: Sabotaged, command_line: CommandLine
) -> None:
    """With who and why; a change of the number is another finding."""
    ledger.run("update public.profiles set credits = 99 where id = %s", ledger.user)
    (finding,) = ledger.findings()
    told = command_line.tell("acknowledge", finding["id"], *WHO)
    assert [step["action"] for step in told["steps"]] == ["acknowledge"]
    assert ledger.findings() == []
    (accepted,) = command_line.tell("reconcile")["acknowledged"]
    assert (accepted["id"], accepted["actor"], accepted["reason"]) == (
        finding["id"],
        "ann",
        "ticket 7",
    )
    said = command_line.run("reconcile").out
    assert "Acknowledged by ann: ticket 7" in said
    assert said.splitlines()[-1] == "exact"
    assert command_line.tell("repair", *APPLY)["steps"] == []
    ledger.run("update public.profiles set credits = 98 where id = %s", ledger.user)
    (other,) = ledger.findings()
    assert other["id"] != finding["id"]


def test_a_batch_that_was_accepted_is_an_alarm_again_once_it_is_changed_again(
    ledger: Sabotaged, command_line: CommandLine
) -> None:
    """Or whoever adds a leaf to it could add a row unseen."""
    ledger.run("update faregate.batches set leaves = leaves || sha256('a')")
    command_line.tell("acknowledge", *(one["id"] for one in ledger.findings()), *WHO)
    assert ledger.findings() == []
    ledger.run("update faregate.batches set leaves = leaves || sha256('b')")
    assert set(ledger.kinds()) == {"forged"}


def test_an_acknowledged_finding_is_an_alarm_again_after_a_repair_or_a_rebuild(
    ledger: Sabotaged, command_line: CommandLine, client: Redis
) -> None:
    """A new fault of the same size is another fault."""

    def alter() -> list[str]:
        ledger.run("update public.profiles set credits = credits + 1 where id = %s", ledger.user)
        ledger.alter(client, 1)
        return ledger.kinds()

    def accept() -> None:
        command_line.tell("acknowledge", *(one["id"] for one in ledger.findings()), *WHO)
        assert ledger.findings() == []

    assert alter() == ["live", "projection"]
    accept()
    assert alter() == ["live", "projection"]
    ledger.repaired()
    assert alter() == ["live", "projection"]
    ledger.repaired()
    ledger.alter(client, 1)
    accept()
    client.flushdb()
    command_line.tell("rebuild", "--all-users")
    ledger.alter(client, 1)
    assert ledger.kinds() == ["live"]


def test_only_existing_findings_can_be_acknowledged(
    ledger: Sabotaged, command_line: CommandLine
) -> None:
    """Exit 2, and none of what was named with it is."""
    ledger.run("update public.profiles set credits = 99 where id = %s", ledger.user)
    (finding,) = ledger.findings()
    said = command_line.run("acknowledge", finding["id"], "live-00000000", *WHO)
    assert (said.code, "no finding live-00000000" in said.err) == (2, True)
    assert len(ledger.findings()) == 1


def test_events_and_acknowledgements_go_with_their_user(
    ledger: Sabotaged, command_line: CommandLine, tables: Database
) -> None:
    """Nothing of a deleted user is left in either."""
    ledger.run("update public.profiles set credits = 99 where id = %s", ledger.user)
    (finding,) = ledger.findings()
    command_line.tell("acknowledge", finding["id"], *WHO)
    tables.run("delete from auth.users where id = %s", ledger.user)
    assert tables.run("select * from faregate.acknowledgements") == ledger.events() == []
