"""Repair: profiles, acknowledgements, and how the command behaves whatever the finding is."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis import Redis

from commands import CommandLine
from durable import as_role
from faregate.adapters.postgres.audit import PostgresAudit
from faregate.adapters.postgres.repairs import PostgresRepairs
from faregate.bootstrap import open_audit
from faregate.domain.finding import Finding
from operated import WHO, Ledger
from sabotage import APPLY, Sabotaged

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


@pytest.fixture
def ledger(operated: Ledger, command_line: CommandLine) -> Sabotaged:
    """A user with two charges, who has one credit left."""
    return Sabotaged.after(operated, command_line)


def test_a_ledger_that_is_exact_has_nothing_to_repair(
    ledger: Sabotaged, command_line: CommandLine
) -> None:
    """Exit 0, and no event."""
    assert ledger.findings() == []
    assert command_line.run("repair").out == "nothing to repair\n"
    assert command_line.run("repair", *APPLY).out == "steps taken: 0, findings left: 0\n"
    assert ledger.events() == []


def test_a_profile_gets_the_sum_of_its_rows(ledger: Sabotaged, command_line: CommandLine) -> None:
    """And its user keeps its own, be it higher or lower than what somebody wrote there."""
    ledger.run("update public.profiles set credits = 99 where id = %s", ledger.user)
    (finding,) = ledger.findings()
    assert finding["repair"] == f"faregate repair {finding['id']}"
    (step,) = ledger.shown()
    assert (step["action"], step["amount"]) == ("recompute", -98)
    assert f"lowers the credits in the profile of {ledger.user} from 99 to 1" in step["says"]
    assert "nothing was changed" in command_line.run("repair", finding["id"]).out
    assert ledger.repaired(finding["id"]) == ["recompute"]
    assert ledger.operated.tables.profile(ledger.user) == (1, 3)
    (event,) = ledger.events()
    assert (event["finding_id"], event["kind"]) == (finding["id"], "projection")
    assert (event["balance_before"], event["balance_after"]) == (99, 1)


def test_a_profile_that_is_behind_or_missing_is_made_right(ledger: Sabotaged) -> None:
    """By its rows, which nobody has touched."""
    ledger.run("update public.profiles set credits_sequence = 1 where id = %s", ledger.user)
    assert "projection" in ledger.kinds()
    assert ledger.repaired() == ["recompute"]
    ledger.forge("delete from public.profiles where id = %s", ledger.user)
    assert ledger.kinds() == ["projection"]
    assert ledger.repaired() == ["recompute"]
    assert ledger.operated.tables.profile(ledger.user) == (1, 3)


def test_only_named_findings_are_repaired(ledger: Sabotaged, command_line: CommandLine) -> None:
    """The other finding stays, and one that is gone is said to be."""
    other = ledger.operated.tables.user().user_id
    ledger.run("update public.profiles set credits = 99")
    named = next(one for one in ledger.findings() if one["user_id"] == str(ledger.user))
    told = command_line.tell("repair", named["id"], *APPLY)
    assert [step["finding_id"] for step in told["steps"]] == [named["id"]]
    (left,) = ledger.findings()
    assert left["user_id"] == str(other)
    again = command_line.tell("repair", named["id"], *APPLY)
    assert (again["steps"], again["resolved"]) == ([], [named["id"]])
    assert "no longer exists" in command_line.run("repair", named["id"]).out


def test_every_change_needs_actor_and_reason(ledger: Sabotaged, command_line: CommandLine) -> None:
    """Exit 2, and nothing was done."""
    ledger.run("update public.profiles set credits = 99 where id = %s", ledger.user)
    for words in ([], WHO[:2], WHO[2:], ["--actor", " ", "--reason", "why"]):
        assert command_line.run("repair", "--apply", *words).code == 2
    assert command_line.run("repair", "--favour", "nobody").code == 2
    assert ledger.events() == []


def test_only_the_owner_repairs(
    ledger: Sabotaged, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker may write balances, and is told which role may do this."""
    ledger.run("update public.profiles set credits = 99 where id = %s", ledger.user)
    url = as_role(ledger.operated.settings.postgres_url, "faregate_worker")
    monkeypatch.setenv("FAREGATE_POSTGRES_URL", url)
    assert len(ledger.shown()) == 1
    said = command_line.run("repair", *APPLY)
    assert (said.code, "the one that ran the migrations" in said.err) == (2, True)


def test_one_repair_at_a_time(
    ledger: Sabotaged, command_line: CommandLine, database_url: str
) -> None:
    """The second one does nothing, and says why."""
    ledger.run("update public.profiles set credits = 99 where id = %s", ledger.user)
    with closing(PostgresRepairs(database_url)) as first, first.locked():
        said = command_line.run("repair", *APPLY)
        assert (said.code, "another repair is at work" in said.err) == (2, True)
    assert ledger.repaired() == ["recompute"]


def test_a_repair_that_has_lost_its_lock_doubles_nothing(
    ledger: Sabotaged, command_line: CommandLine, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one closes the gap between its look and its step."""
    ledger.forge("delete from public.credit_transactions where sequence = 2")
    ledger.forget_records(client)
    begin = PostgresRepairs.begin

    def overtaken(*given: Any) -> None:
        monkeypatch.setattr(PostgresRepairs, "begin", begin)
        begin(*given)
        ledger.run(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
            " where application_name = 'faregate repair lock'"
        )
        assert command_line.run("repair", *APPLY).code == 0

    monkeypatch.setattr(PostgresRepairs, "begin", overtaken)
    command_line.run("repair", *APPLY)
    assert [row["sequence"] for row in ledger.operated.tables.rows(ledger.user)] == [2, 3]
    assert ledger.findings() == []


def test_a_repair_that_was_killed_is_run_again(
    ledger: Sabotaged, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its event stays begun; the next one looks anew and does it once."""

    def killed(*_: object) -> None:
        raise RuntimeError("killed")

    ledger.run("update public.profiles set credits = 99 where id = %s", ledger.user)
    with monkeypatch.context() as patch:
        patch.setattr(PostgresRepairs, "act", killed)
        assert command_line.run("repair", *APPLY).code == 3
    (event,) = ledger.events()
    assert (event["ended_at"], ledger.kinds()) == (None, ["projection"])
    assert ledger.repaired() == ["recompute"]
    assert len(ledger.events()) == 2


def test_an_unknown_id_is_reported_as_resolved(
    ledger: Sabotaged, command_line: CommandLine
) -> None:
    assert command_line.tell("repair", f"live-{uuid4().hex[:8]}")["resolved"]


def test_dead_letters_are_left_to_their_own_command(
    ledger: Sabotaged, command_line: CommandLine
) -> None:
    """A repair names it, and changes none of them."""
    ledger.operated.tables.insert_dead_letter()
    said = command_line.run("repair")
    assert (said.code, "run `faregate dead-letters list`" in said.out) == (0, True)


def test_a_schema_that_was_changed_is_restored_as_a_whole(
    ledger: Sabotaged, command_line: CommandLine
) -> None:
    """By any of its findings; after that a row is as immutable as before."""
    ledger.run("drop trigger credit_transactions_immutable on public.credit_transactions")
    ledger.run("alter table public.credit_transactions disable row level security")
    assert set(ledger.kinds()) == {"guard"}
    last = ledger.findings()[-1]
    (step,) = ledger.shown(last["id"])
    assert (step["action"], last["subject"] in step["says"]) == ("restore_schema", True)
    assert ledger.repaired(last["id"]) == ["restore_schema"]
    with pytest.raises(Exception, match="immutable"):
        ledger.run("update public.credit_transactions set amount = 0")


def test_an_empty_redis_becomes_a_ledger(
    ledger: Sabotaged, command_line: CommandLine, client: Redis
) -> None:
    """Only if its finding is named, and before all else; users come back with their rows."""
    client.flushdb()
    assert ledger.repaired(code=1) == []
    (epoch,) = (one["id"] for one in ledger.findings() if one["kind"] == "epoch")
    steps = ledger.shown(epoch)
    assert [step["action"] for step in steps] == ["rebuild"]
    assert ledger.repaired(epoch) == ["rebuild"]
    ledger.operated.charge()
    assert command_line.tell("balance", ledger.user)["credits"] == 0


def test_a_redis_that_is_of_another_ledger_is_left_alone(
    ledger: Sabotaged, command_line: CommandLine
) -> None:
    """It may be in use; nothing else is repaired by it, either."""
    ledger.run("update faregate.ledger set ledger_id = gen_random_uuid()")
    assert ledger.repaired(code=1) == []
    assert "It is not empty" in ledger.shown()[0]["says"]
    said = command_line.run("acknowledge", ledger.findings()[0]["id"], *WHO)
    assert (said.code, "cannot be accepted" in said.err) == (2, True)


def test_only_the_first_and_the_last_round_check_all_users(
    ledger: Sabotaged, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are at those who were repaired, in a time that does not grow with all users."""
    looked: list[Sequence[UUID] | None] = []
    verify = PostgresAudit.verify

    def look(audit: PostgresAudit, users: Sequence[UUID] | None = None) -> Sequence[Finding]:
        looked.append(users)
        return verify(audit, users)

    ledger.run("update public.profiles set credits = 99 where id = %s", ledger.user)
    monkeypatch.setattr(PostgresAudit, "verify", look)
    assert command_line.tell("repair", *APPLY)["left"] == []
    assert looked == [None, [ledger.user], None]


def test_checks_of_one_user_and_of_all_users_have_the_same_findings(ledger: Sabotaged) -> None:
    """Of each check of rows, and nothing of others."""
    other = ledger.operated.tables.user().user_id
    ledger.operated.ask(lambda gate: gate.charge(other))
    ledger.operated.drain()
    changes = {
        ledger.user: "amount = -5, allowance_amount = 1, allowance_after = 7, period_start = now()",
        other: "sequence = 9, type = 'refund', amount = 3, refund_of = gen_random_uuid()",
    }
    for user_id, values in changes.items():
        where = "where user_id = %s and sequence = 2"
        ledger.forge(f"update public.credit_transactions set {values} {where}", user_id)  # noqa: S608
    ledger.forge("update public.credit_transactions set sequence = 2 where sequence = 3")
    with open_audit(ledger.operated.settings) as audit:
        assert {one.user_id for one in audit.verify()} == set(changes)
        for user_id in changes:
            of_all = [one for one in audit.verify() if one.user_id == user_id]
            assert audit.verify([user_id]) == of_all
            assert len({one.kind for one in of_all}) > 2
        assert audit.verify([]) == []
