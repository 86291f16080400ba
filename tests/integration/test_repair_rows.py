"""Repair of rows that are missing, were changed, or were made by hand."""

from typing import Any

import pytest
from redis import Redis

from commands import CommandLine
from operated import Ledger
from sabotage import APPLY, Sabotaged

pytestmark = [pytest.mark.redis, pytest.mark.postgres, pytest.mark.long]

ROWS = "public.credit_transactions"


@pytest.fixture
def ledger(operated: Ledger, command_line: CommandLine) -> Sabotaged:
    """A user with ten more credits and four charges: 3, 13, 12, 11, 10, 9."""
    return Sabotaged.after(operated, command_line, granted=10, charges=4)


@pytest.fixture
def forgetful(ledger: Sabotaged, client: Redis) -> Sabotaged:
    """The same, long after: the stream holds none of the records any more."""
    ledger.forget_records(client)
    return ledger


def row(ledger: Sabotaged, sequence: int) -> dict[str, Any]:
    """One row of the user."""
    query = "select * from public.credit_transactions where user_id = %s and sequence = %s"
    (found,) = ledger.run(query, ledger.user, sequence)
    return found


def delete(ledger: Sabotaged, first: int, last: int) -> None:
    """Delete rows past their guard."""
    where = "user_id = %s and sequence between %s and %s"
    ledger.forge(f"delete from {ROWS} where {where}", ledger.user, first, last)  # noqa: S608


def change(ledger: Sabotaged, sequence: int, values: str) -> None:
    """Change a row past its guard."""
    where = "user_id = %s and sequence = %s"
    ledger.forge(f"update {ROWS} set {values} where {where}", ledger.user, sequence)  # noqa: S608


def test_a_row_that_the_stream_still_has_is_stored_as_it_was(ledger: Sabotaged) -> None:
    """With its id, its time and all else, so that its leaf proves it."""
    before = row(ledger, 4)
    delete(ledger, 4, 4)
    assert ledger.kinds() == ["gap", "live", "projection"]
    first, *others = ledger.shown()
    assert (first["action"], first["amount"]) == ("store", -1)
    assert {step["action"] for step in others} == {"wait"}
    assert ledger.repaired() == ["store"]
    after = row(ledger, 4)
    assert {**after, "created_at": None} == {**before, "created_at": None}
    assert ledger.accepted() == []


def test_one_row_closes_a_gap_of_which_nothing_is_left(forgetful: Sabotaged) -> None:
    """By what the balances before and after it show; the other number is accepted."""
    ledger = forgetful
    delete(ledger, 3, 4)
    step = next(step for step in ledger.shown() if step["action"] == "close")
    assert (step["amount"], "13 before and 11 after" in step["says"]) == (-2, True)
    assert ledger.repaired() == ["close"]
    made = row(ledger, 4)
    assert (made["amount"], made["balance_after"], made["type"]) == (-2, 11, "admin_adjustment")
    assert made["description"] == "ticket 7"
    assert made["metadata"]["actor"] == "ann"
    assert (made["metadata"]["missing_first"], made["metadata"]["missing_last"]) == (3, 4)
    assert made["id"] == ledger.events()[-1]["event_id"]
    assert ledger.operated.tables.profile(ledger.user) == (9, 6)
    assert ledger.accepted() == ["gap"]


@pytest.mark.parametrize("number", [2, 6], ids=["first", "last"])
def test_a_gap_at_either_end_is_closed(forgetful: Sabotaged, number: int) -> None:
    """Behind the last row the live balance, or the profile, says what is missing."""
    ledger = forgetful
    before = row(ledger, number)
    delete(ledger, number, number)
    assert ledger.repaired() == ["close"]
    made = row(ledger, number)
    assert (made["amount"], made["balance_after"]) == (before["amount"], before["balance_after"])
    assert ledger.operated.tables.profile(ledger.user) == (9, 6)


def test_a_pending_record_that_was_lost_is_closed_by_a_row(
    ledger: Sabotaged, client: Redis
) -> None:
    """Its amount is known by the record that follows it."""
    ledger.operated.charge()
    ledger.lose_newest(client)
    ledger.operated.charge()
    ledger.operated.drain()
    assert ledger.kinds() == ["gap", "live"]
    assert ledger.repaired() == ["close"]
    assert (row(ledger, 7)["amount"], row(ledger, 8)["amount"]) == (-1, -1)


def test_in_favour_of_the_user_no_unproven_charge_is_paid(forgetful: Sabotaged) -> None:
    """The gap is accepted instead of a row that takes credits."""
    ledger = forgetful
    delete(ledger, 3, 4)
    steps = {step["action"]: step for step in ledger.shown("--favour", "user")}
    assert "took 2 credits without a record" in steps["acknowledge"]["says"]
    assert ledger.repaired("--favour", "user") == ["acknowledge", "recompute", "correct"]
    assert ledger.operated.tables.profile(ledger.user) == (11, 6)


def test_a_profile_that_is_ahead_of_all_rows_goes_back(ledger: Sabotaged) -> None:
    """No row is made of numbers that nothing has ever had."""
    ledger.run("update public.profiles set credits_sequence = 50 where id = %s", ledger.user)
    assert "gap" in ledger.kinds()
    assert ledger.repaired() == ["rewind"]
    assert ledger.operated.tables.profile(ledger.user) == (9, 6)


FORGED = {
    "description": "description = 'forged'",
    "time": "timestamp = timestamp - interval '1 day'",
    "metadata": """metadata = '{"forged": true}'""",
    "amount": "amount = -5",
    "balance": "balance_after = 5",
    "number": "sequence = 3",
    "type": "type = 'admin_adjustment'",
    "id": "id = gen_random_uuid()",
}


@pytest.mark.parametrize("values", FORGED.values(), ids=FORGED.keys())
def test_a_changed_row_is_restored_from_the_stream(ledger: Sabotaged, values: str) -> None:
    """As it was, under its guard, which stands again."""
    before = ledger.operated.tables.rows(ledger.user)
    change(ledger, 4, values)
    assert "forged" in ledger.kinds()
    first = next(step for step in ledger.shown() if step["action"] != "wait")
    assert (first["action"], str(ledger.user) in first["says"]) == ("restore", True)
    assert ledger.repaired() == ["restore"]
    assert ledger.operated.tables.rows(ledger.user) == before


@pytest.mark.parametrize("name", ["amount", "balance", "number", "type"])
def test_a_changed_number_is_restored_by_the_balances_beside_it(
    forgetful: Sabotaged, name: str
) -> None:
    """What they tell is proven by the leaf of the row."""
    ledger = forgetful
    before = ledger.operated.tables.rows(ledger.user)
    change(ledger, 4, FORGED[name])
    assert ledger.repaired() == ["restore"]
    assert ledger.operated.tables.rows(ledger.user) == before


def test_an_unproven_repair_is_left_to_an_operator(
    forgetful: Sabotaged, command_line: CommandLine
) -> None:
    """Who restores it from a backup, or accepts it: until it is changed once more."""
    ledger = forgetful
    change(ledger, 4, FORGED["description"])
    (finding,) = ledger.findings()
    (step,) = ledger.shown()
    assert (step["action"], "from a backup" in step["says"]) == ("none", True)
    assert f"faregate acknowledge {finding['id']}" in step["says"]
    assert ledger.repaired(code=1) == []
    command_line.tell("acknowledge", finding["id"], "--actor", "ann", "--reason", "ticket 7")
    assert (ledger.findings(), ledger.accepted()) == ([], ["forged"])
    change(ledger, 4, "description = 'forged again'")
    assert ledger.kinds() == ["forged"]


def test_numbers_that_follow_from_a_row_that_nothing_proves_stay_as_they_are(
    forgetful: Sabotaged, command_line: CommandLine, client: Redis
) -> None:
    """No balance is lowered by what somebody wrote into a row, unless that is accepted."""
    ledger = forgetful
    change(ledger, 4, "amount = -6, description = 'forged'")
    assert ledger.kinds() == ["chain", "forged", "live", "projection"]
    assert {step["action"] for step in ledger.shown()} == {"none", "wait"}
    assert ledger.repaired(code=1) == []
    assert ledger.operated.tables.profile(ledger.user) == (9, 6)
    forged = next(one["id"] for one in ledger.findings() if one["kind"] == "forged")
    command_line.tell("acknowledge", forged, "--actor", "ann", "--reason", "ticket 7")
    assert ledger.repaired() == ["recompute", "correct", "acknowledge"]
    assert ledger.operated.tables.profile(ledger.user) == (4, 6)


def test_a_row_that_was_moved_to_another_user_is_restored(ledger: Sabotaged) -> None:
    """Both users have what is theirs."""
    other = ledger.operated.tables.user().user_id
    before = ledger.operated.tables.rows(ledger.user)
    change(ledger, 4, f"user_id = '{other}'")
    assert ledger.repaired() == ["restore"]
    assert ledger.operated.tables.rows(ledger.user) == before
    assert ledger.operated.tables.profile(other) == (3, 1)


def test_a_row_made_by_hand_is_found_and_adopted(ledger: Sabotaged) -> None:
    """The profile counts it, too; and once it is known it may not be changed."""
    made = "(user_id, amount, type, description) values (%s, 50, 'add', 'by hand')"
    ledger.run(f"insert into {ROWS} {made}", ledger.user)
    assert ledger.kinds() == ["forged", "live", "projection"]
    first = next(step for step in ledger.shown() if step["action"] != "wait")
    assert (first["action"], first["amount"]) == ("register", 50)
    assert ledger.repaired() == ["register", "correct"]
    assert ledger.operated.tables.profile(ledger.user) == (59, 6)
    ledger.forge(f"update {ROWS} set amount = 60 where description = 'by hand'")  # noqa: S608
    assert "forged" in ledger.kinds()


def test_rows_are_immutable_after_a_repair_as_before(
    ledger: Sabotaged, command_line: CommandLine
) -> None:
    """The guard is off for nobody but the repair, and only while it restores."""
    change(ledger, 4, FORGED["amount"])
    command_line.tell("repair", *APPLY)
    with pytest.raises(Exception, match="immutable"):
        ledger.run(f"update {ROWS} set amount = 0 where user_id = %s", ledger.user)  # noqa: S608


@pytest.mark.parametrize("number", [5, 9_000_000_000_000_000_000])
def test_a_number_that_was_changed_is_found_however_far_it_is(
    forgetful: Sabotaged, number: int
) -> None:
    """The gap before it is as long, and is not counted out."""
    before = row(forgetful, 6)
    delete(forgetful, 5, 5)
    change(forgetful, 6, f"sequence = {number}")
    forgetful.repaired()
    assert row(forgetful, 6) == before
