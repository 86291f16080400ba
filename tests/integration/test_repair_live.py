"""Repair of live balances, of what they have lost, and of refunds beyond their deducts."""

from typing import Any

import pytest
from redis import Redis

from commands import CommandLine
from durable import Sink
from faregate.adapters.postgres.repairs import PostgresRepairs
from faregate.domain.transaction import CreditTransactionId
from operated import Ledger
from sabotage import APPLY, Sabotaged

pytestmark = [pytest.mark.redis, pytest.mark.postgres, pytest.mark.long]


@pytest.fixture
def ledger(operated: Ledger, command_line: CommandLine) -> Sabotaged:
    """A user with ten more credits and two charges, who has 11 left after transaction 4."""
    return Sabotaged.after(operated, command_line, granted=10)


def credits_of(ledger: Sabotaged, command_line: CommandLine) -> int:
    """The live credits."""
    told = command_line.tell("balance", ledger.user)
    assert told["is_live"]
    credits_: int = told["credits"]
    return credits_


def goes_on(ledger: Sabotaged) -> None:
    """Later charges and their rows show nothing new."""
    for _ in range(2):
        ledger.operated.charge()
    assert ledger.findings() == []
    ledger.operated.drain()
    assert ledger.findings() == []


@pytest.mark.parametrize("amount", [100, -5])
def test_an_altered_balance_is_corrected(
    ledger: Sabotaged, command_line: CommandLine, client: Redis, amount: int
) -> None:
    """To what rows and records add up to, and it says where a balance falls."""
    ledger.alter(client, amount)
    assert ledger.kinds() == ["live"]
    (step,) = ledger.shown()
    verb = "lowers" if amount > 0 else "raises"
    assert (step["action"], step["amount"]) == ("correct", -amount)
    assert f"{verb} the live balance of {ledger.user} from {11 + amount} to 11" in step["says"]
    assert ledger.repaired() == ["correct"]
    assert credits_of(ledger, command_line) == 11
    (event,) = ledger.events()
    assert (event["balance_before"], event["balance_after"]) == (11 + amount, 11)
    assert event["deadline_at"] > event["begun_at"]
    goes_on(ledger)


def test_charges_in_between_are_explained(
    ledger: Sabotaged, command_line: CommandLine, client: Redis
) -> None:
    """The break that the alteration has left in the rows is accepted, with the reason."""
    ledger.alter(client, 100)
    ledger.operated.charge()
    ledger.operated.drain()
    assert ledger.kinds() == ["chain", "live"]
    assert ledger.repaired() == ["correct", "acknowledge"]
    assert credits_of(ledger, command_line) == 10
    assert ledger.accepted() == ["chain"]
    goes_on(ledger)


@pytest.mark.parametrize("is_charged", [False, True])
def test_a_user_keeps_excess_credits_in_its_favour(
    ledger: Sabotaged, command_line: CommandLine, client: Redis, *, is_charged: bool
) -> None:
    """A record makes the ledger follow the balance."""
    ledger.alter(client, 100)
    if is_charged:
        ledger.operated.charge()
        ledger.operated.drain()
    (step, *_) = ledger.shown("--favour", "user")
    assert (step["action"], step["amount"]) == ("record", 100)
    done = ledger.repaired("--favour", "user")
    assert done == (["record", "acknowledge"] if is_charged else ["record"])
    assert credits_of(ledger, command_line) == 111 - is_charged
    newest = ledger.operated.newest()
    assert (newest["amount"], newest["description"]) == (100, "ticket 7")
    assert newest["metadata"]["actor"] == "ann"
    goes_on(ledger)


def test_the_newest_record_that_was_lost_becomes_a_row(
    ledger: Sabotaged, command_line: CommandLine, client: Redis
) -> None:
    """The balance has it, and no later record tells of it; nobody is charged or paid for that."""
    for _ in range(2):
        ledger.operated.charge()
    ledger.lose_newest(client)
    ledger.lose_newest(client)
    assert ledger.kinds() == ["live"]
    (step,) = ledger.shown()
    assert (step["action"], step["amount"]) == ("close", -2)
    assert ledger.repaired() == ["close"]
    assert credits_of(ledger, command_line) == 9
    assert ledger.operated.tables.profile(ledger.user) == (9, 6)
    goes_on(ledger)


def test_the_newest_record_that_was_lost_is_given_back_where_that_is_asked(
    ledger: Sabotaged, command_line: CommandLine, client: Redis
) -> None:
    """The number stays missing; its gap is accepted before later rows show it."""
    ledger.operated.charge()
    ledger.lose_newest(client)
    assert ledger.repaired("--favour", "user") == ["correct"]
    assert credits_of(ledger, command_line) == 11
    goes_on(ledger)
    assert ledger.accepted() == ["gap"]


def test_an_account_that_was_lost_is_made(
    ledger: Sabotaged, command_line: CommandLine, client: Redis
) -> None:
    """With all its rows, and the number of the last one."""
    ledger.lose_account(client)
    assert ledger.kinds() == ["behind"]
    assert ledger.repaired() == ["correct"]
    assert credits_of(ledger, command_line) == 11
    goes_on(ledger)


def test_a_correction_that_was_sent_by_a_repair_that_was_killed_is_made_once(
    ledger: Sabotaged, command_line: CommandLine, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next repair finds that it was made; the break that it left in the rows is accepted."""

    def killed(*_: object) -> None:
        raise RuntimeError("killed")

    ledger.alter(client, 100)
    ledger.operated.charge()
    with monkeypatch.context() as patch:
        patch.setattr(PostgresRepairs, "end", killed)
        assert command_line.run("repair", *APPLY).code == 3
    (event,) = ledger.events()
    assert (event["action"], event["ended_at"]) == ("correct", None)
    assert credits_of(ledger, command_line) == 10
    for _ in range(2):
        ledger.operated.charge()
    ledger.operated.drain()
    assert ledger.kinds() == ["chain", "chain"]
    assert ledger.repaired() == ["acknowledge", "acknowledge"]
    goes_on(ledger)


def copy_of(client: Any) -> dict[bytes, bytes]:
    """All keys of Redis, as a replica has them at one moment."""
    return {name: client.dump(name) for name in client.scan_iter()}


def fail_over(client: Any, copy: dict[bytes, bytes]) -> None:
    """Go on from an older copy."""
    client.flushdb()
    for name, packed in copy.items():
        client.restore(name, 0, packed)


def test_after_a_failover_both_histories_count(
    ledger: Sabotaged, command_line: CommandLine, client: Redis
) -> None:
    """Without emptying Redis: the balance loses what the lost charges had taken."""
    copy = copy_of(client)
    for _ in range(2):
        ledger.operated.charge()
    ledger.operated.drain()
    fail_over(client, copy)
    assert ledger.kinds() == ["behind"]
    for _ in range(3):
        ledger.operated.charge()
    ledger.operated.drain()
    assert ledger.kinds() == ["live"]
    assert ledger.repaired() == ["correct"]
    assert credits_of(ledger, command_line) == 6
    goes_on(ledger)


def test_a_failover_without_charges_since_lifts_the_balance_to_the_rows(
    ledger: Sabotaged, command_line: CommandLine, client: Redis
) -> None:
    """So no number is given twice."""
    copy = copy_of(client)
    ledger.operated.charge()
    ledger.operated.drain()
    fail_over(client, copy)
    assert ledger.kinds() == ["behind"]
    assert ledger.repaired() == ["correct"]
    assert credits_of(ledger, command_line) == 10
    goes_on(ledger)


@pytest.mark.parametrize("favour", ["ledger", "user"])
def test_refunds_beyond_a_deduct_are_reversed_or_accepted(
    ledger: Sabotaged, command_line: CommandLine, store: Sink, favour: str
) -> None:
    """By an adjustment, which says that it lowers the balance; either way it is no alarm again."""
    user = ledger.operated.tables.user()
    deduct = user.record(-1)
    assert deduct.transaction
    refund_of = CreditTransactionId(deduct.transaction.id.value)
    refunds = [user.record(1, "refund", refund_of=refund_of) for _ in range(2)]
    store.store(7, [deduct, *refunds])
    behind = next(one["id"] for one in ledger.findings() if one["kind"] == "behind")
    command_line.tell("repair", behind, *APPLY)
    assert ledger.kinds() == ["refund"]
    (step,) = ledger.shown("--favour", favour)
    assert ("lowers the balance" in step["says"]) == (favour == "ledger")
    assert ledger.repaired("--favour", favour) == [
        "adjust" if favour == "ledger" else "acknowledge"
    ]
    ledger.operated.drain()
    assert ledger.operated.tables.profile(user.user_id)[0] == (3 if favour == "ledger" else 4)
    assert (ledger.findings(), ledger.accepted()) == ([], ["refund"])
