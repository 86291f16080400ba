"""A repair that ends by SIGKILL, wherever that is, is run again, and all is right."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from redis import Redis

from commands import CommandLine
from durable import Sink
from faregate.domain.transaction import CreditTransactionId
from operated import Ledger
from sabotage import APPLY, Sabotaged
from waiting import WAIT_S_MAX

pytestmark = [pytest.mark.redis, pytest.mark.postgres, pytest.mark.long]

#: What the user has after a grant and two charges.
CREDITS = 11


@pytest.fixture
def ledger(operated: Ledger, command_line: CommandLine) -> Sabotaged:
    return Sabotaged.after(operated, command_line, granted=10)


def raise_balance(ledger: Sabotaged, client: Redis, store: Sink) -> UUID:
    del store
    ledger.alter(client, 100)
    return ledger.user


def delete_row(ledger: Sabotaged, client: Redis, store: Sink) -> UUID:
    """Of which the stream has no record any more."""
    del store
    ledger.forget_records(client)
    where = "where user_id = %s and sequence = 3"
    ledger.forge(f"delete from public.credit_transactions {where}", ledger.user)  # noqa: S608
    return ledger.user


def give_back_twice(ledger: Sabotaged, client: Redis, store: Sink) -> UUID:
    """To a user that has as many credits as the other one without that."""
    del client
    user = ledger.operated.tables.user()
    deduct = user.record(-1)
    assert deduct.transaction
    refund_of = CreditTransactionId(deduct.transaction.id.value)
    refunds = [user.record(1, "refund", refund_of=refund_of) for _ in range(2)]
    store.store(7, [deduct, *refunds, user.record(CREDITS + 2 - user.credits, "add")])
    ledger.operated.ask(lambda gate: gate.charge(user.user_id))
    assert ledger.kinds() == ["refund"]
    return user.user_id


def gut_function(ledger: Sabotaged, client: Redis, store: Sink) -> UUID:
    del client, store
    ledger.run(
        "create or replace function faregate.refuse_transaction_change() returns trigger"
        " language plpgsql as $$ begin return null; end $$"
    )
    return ledger.user


def wipe_redis(ledger: Sabotaged, client: Redis, store: Sink) -> UUID:
    del store
    client.flushall()
    return ledger.user


Break = Callable[[Sabotaged, Redis, Sink], UUID]
CASES: list[tuple[Break, str, str]] = [
    (raise_balance, "the event", "before"),
    (raise_balance, "the event", "after"),
    (raise_balance, "the script", "after"),
    (raise_balance, "the note", "after"),
    (delete_row, "the event", "after"),
    (delete_row, "the rows", "after"),
    (delete_row, "the commit", "after"),
    (give_back_twice, "the event", "after"),
    (give_back_twice, "the adjustment", "after"),
    (give_back_twice, "the commit", "after"),
    (gut_function, "the schema", "after"),
    (wipe_redis, "the rebuild", "after"),
]


def ids(case: Any) -> str:
    return str(getattr(case, "__name__", case))


@pytest.mark.parametrize(("harm", "part", "when"), CASES, ids=ids)
def test_a_repair_that_was_killed_is_run_again(
    ledger: Sabotaged,
    command_line: CommandLine,
    client: Redis,
    store: Sink,
    harm: Break,
    part: str,
    when: str,
) -> None:
    """Nothing is done twice, and nothing is left."""
    user_id = harm(ledger, client, store)
    # A new epoch begins only for a finding that is named.
    named = [one["id"] for one in ledger.findings()] if part == "the rebuild" else []
    command = [sys.executable, "-m", "dying_repair_process", part, when, "repair", *named, *APPLY]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    died = subprocess.run(command, env=environment, timeout=WAIT_S_MAX, check=False)
    assert died.returncode == -signal.SIGKILL
    assert command_line.tell("repair", *APPLY)["left"] == ledger.findings() == []
    assert command_line.tell("balance", user_id)["credits"] == CREDITS
    for _ in range(2):
        ledger.operated.ask(lambda gate: gate.charge(user_id))
    ledger.operated.drain()
    # Of a script whose note is missing the rows show a break, which is accepted.
    assert command_line.tell("repair", *APPLY)["left"] == ledger.findings() == []
    assert ledger.operated.tables.profile(user_id)[0] == CREDITS - 2
