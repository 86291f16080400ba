"""What an attacker might do beside the usual: each is named, and no repair rewards it."""

import pytest
from redis import Redis

from commands import CommandLine
from durable import Sink
from operated import Ledger
from sabotage import APPLY, Sabotaged

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

ROWS = "public.credit_transactions"


@pytest.fixture
def ledger(operated: Ledger, command_line: CommandLine) -> Sabotaged:
    """A user with ten more credits and two charges: 3, 13, 12, 11."""
    return Sabotaged.after(operated, command_line, granted=10)


@pytest.mark.parametrize(
    "values",
    [
        "description = 'a gift'",
        "metadata = '{}'",
        "amount = 1000, balance_after = 1000",
        "amount = -3, balance_after = -3, type = 'admin_adjustment'",
    ],
)
def test_a_changed_starting_row_is_named_and_raises_nothing(ledger: Sabotaged, values: str) -> None:
    """No batch has its leaf; the row that follows, and the ledger, say what it was."""
    where = "where user_id = %s and sequence = 1"
    ledger.forge(f"update {ROWS} set {values} {where}", ledger.user)  # noqa: S608
    assert "forged" in ledger.kinds()
    assert ledger.repaired(code=1) == []
    assert ledger.operated.tables.profile(ledger.user) == (11, 4)


def test_balances_that_were_swapped_are_named_of_both_users(
    ledger: Sabotaged, client: Redis
) -> None:
    """Each gets its own back."""
    other = ledger.operated.tables.user().user_id
    ledger.operated.ask(lambda gate: gate.charge(other))
    ledger.operated.drain()
    for user_id, amount in ((ledger.user, -9), (other, 9)):
        before = ledger.user
        ledger.user = user_id
        ledger.alter(client, amount)
        ledger.user = before
    assert ledger.kinds() == ["live", "live"]
    assert ledger.repaired() == ["correct", "correct"]


def test_batches_that_were_deleted_are_named_with_the_rows_that_they_proved(
    ledger: Sabotaged,
) -> None:
    """Also when later ones follow; only a backup has them."""
    ledger.run("delete from faregate.batches")
    assert set(ledger.kinds()) == {"forged"}
    ledger.operated.charge()
    ledger.operated.drain()
    assert "forged" in ledger.kinds()
    assert all("backup" in step["says"] for step in ledger.shown())
    assert ledger.repaired(code=1) == []


def test_a_dead_letter_that_was_deleted_is_named(
    ledger: Sabotaged, store: Sink, command_line: CommandLine
) -> None:
    """Its number is missing, and the live balance has what no row has."""
    user = ledger.operated.tables.user()
    first = user.record(-1)
    assert first.transaction
    store.store(7, [first, user.record(-1, id=first.transaction.id), user.record(-1)])
    assert len(ledger.operated.tables.dead_letters()) == 1
    behind = next(one["id"] for one in ledger.findings() if one["kind"] == "behind")
    command_line.tell("repair", behind, *APPLY)
    assert ledger.kinds() == []
    ledger.run("delete from faregate.dead_letters")
    assert ledger.kinds() == ["gap", "live"]
    assert ledger.repaired() == ["close"]


def test_a_trigger_that_doubles_credits_is_named_by_its_effect(
    ledger: Sabotaged, command_line: CommandLine
) -> None:
    """A repair tries once, and says what is left; without the trigger it succeeds."""
    ledger.run(
        "create function public.twice() returns trigger language plpgsql as"
        " $$ begin new.credits = 2 * new.credits; return new; end $$"
    )
    ledger.run(
        "create trigger a_twice before update on public.profiles"
        " for each row execute function public.twice()"
    )
    ledger.operated.charge()
    ledger.operated.drain()
    assert ledger.kinds() == ["projection"]
    said = command_line.run("repair", *APPLY)
    assert said.code == 1
    assert said.out.count("lowers the credits") == 1
    assert "steps taken: 1, findings left: 1" in said.out
    ledger.run("drop trigger a_twice on public.profiles")
    assert ledger.repaired() == ["recompute"]
