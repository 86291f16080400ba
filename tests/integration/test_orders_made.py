"""Orders of credits as the worker makes them: once, in batches, or refused for all to see."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis import Redis

from billing import ADMIN, Billing, add, let_it_be_due, waiting
from durable import Database
from faregate import Settings
from faregate.bootstrap import open_admin, open_installer, open_stream
from faregate.domain.errors import ConfigurationError, TransactionConflictError
from faregate.ops.rebuild import rebuild
from faregate_worker import ordering
from forked import copy_of, fail_over, worker

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

MOST = 2**31 - 1


@pytest.fixture
def billing(ledger_redis: str, database_url: str, tables: Database) -> Iterator[Billing]:
    """A ledger with a gate that has started once."""
    made = Billing(Settings(redis_url=ledger_redis, postgres_url=database_url), tables)
    made.ask(lambda gate: gate.balance(uuid4()))
    yield made
    assert made.findings() == []


def refusals(tables: Database) -> list[str | None]:
    return [order["refusal"] for order in waiting(tables)]


def test_an_order_becomes_credits_and_then_a_row(billing: Billing, tables: Database) -> None:
    """Of a user whom Redis has never seen; the row is as it was ordered."""
    user_id = tables.user().user_id
    made = add(tables, user_id, 5, "payment-7", metadata={"event": "evt_1", "n": [1.5, None]})
    assert billing.credits(user_id) is None
    billing.step()
    assert billing.credits(user_id) == 8
    assert billing.ask(lambda gate: gate.charge(user_id, cost=8)).allowed
    billing.drain()
    row = tables.rows(user_id)[0]
    assert (row["id"], row["amount"], row["type"]) == (made, 5, "add")
    assert row["description"] == "a payment"
    assert row["metadata"] == {"event": "evt_1", "n": [1.5, None]}
    let_it_be_due(tables)
    billing.step()
    assert waiting(tables) == []
    assert add(tables, user_id, 5, "payment-7") == made
    assert waiting(tables) == []


def test_an_order_that_is_sent_over_and_over_is_made_once(
    billing: Billing, tables: Database
) -> None:
    """Before its row, while it waits, and by two workers that have taken it at once."""
    user_id = tables.user().user_id
    add(tables, user_id, 5)
    for _ in range(3):
        billing.step()
        let_it_be_due(tables)
    assert billing.credits(user_id) == 8
    billing.drain()
    billing.step()
    assert len(tables.rows(user_id)) == 1
    assert waiting(tables) == []


def test_workers_that_race_make_each_order_once(billing: Billing, tables: Database) -> None:
    """A run of 1,200 for 40 users, by four workers, while drains make rows of them."""
    users = [user.user_id for user in tables.users(40)]
    ids = [add(tables, users[number % 40], 2) for number in range(1_200)]

    def work(_: int) -> None:
        with billing.ordering() as making, closing(billing.orders()) as orders:
            while orders.counts().waiting:
                making.step()
                let_it_be_due(tables)

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work, number) for number in range(4)]
        while not all(one.done() for one in working):
            billing.drain()
        for one in working:
            one.result()
    rows = [row["id"] for user_id in users for row in tables.rows(user_id)]
    assert sorted(rows) == sorted(ids)
    assert {billing.credits(user_id) for user_id in users} == {63}


def test_a_refusal_is_stored_and_a_later_order_with_its_key_is_made(
    billing: Billing, tables: Database
) -> None:
    """Below zero and out of the range; nothing is recorded of them."""
    user_id = tables.user().user_id
    add(tables, user_id, -4, "below", type="admin_adjustment", metadata=ADMIN)
    add(tables, user_id, MOST, "above")
    # A number that Python has not.
    metadata = '{"a": 1' + 400 * "0" + ".5}"
    tables.run("select faregate.add_credits(%s, 1, metadata => %s::jsonb)", user_id, metadata)
    billing.step()
    billing.step()
    assert sorted(map(str, refusals(tables))) == ["invalid", "out_of_credits", "out_of_range"]
    with closing(billing.orders()) as orders:
        counts = orders.counts()
    assert (counts.waiting, counts.refused) == (0, 3)
    assert billing.credits(user_id) == 3

    add(tables, user_id, 1, "before")
    billing.step()
    add(tables, user_id, -4, "below", type="admin_adjustment", metadata=ADMIN)
    billing.step()
    assert billing.credits(user_id) == 0
    billing.drain()
    assert [row["amount"] for row in tables.rows(user_id)] == [1, -4]


def test_a_refusal_of_a_worker_that_was_slow_changes_nothing(
    billing: Billing, tables: Database
) -> None:
    """Another one has taken the order since, and may have made it."""
    add(tables, tables.user().user_id, 5)
    with closing(billing.orders()) as orders:
        (slow,) = orders.take(10)
        assert orders.take(10) == []
        let_it_be_due(tables)
        (late,) = orders.take(10)
        orders.refuse([(slow, "invalid")])
        assert refusals(tables) == [None]
        orders.refuse([(late, "invalid")])
        assert refusals(tables) == ["invalid"]


def test_a_gate_and_an_order_with_one_key_make_one_grant(
    billing: Billing, tables: Database
) -> None:
    """Whichever comes first; with another amount the second is refused."""
    user_id = tables.user().user_id

    def grant(amount: int, key: str) -> Any:
        return billing.ask(lambda gate: gate.grant(user_id, amount, idempotency_key=key))

    add(tables, user_id, 5, "sql first")
    billing.step()
    assert grant(5, "sql first").repeated
    with pytest.raises(TransactionConflictError):
        grant(6, "sql first")
    assert not grant(5, "gate first").repeated
    add(tables, user_id, 5, "gate first")
    assert not grant(5, "conflict").repeated
    add(tables, user_id, 6, "conflict")
    billing.step()
    assert billing.credits(user_id) == 18
    assert sorted(map(str, refusals(tables))) == ["None", "None", "conflict"]
    billing.drain()
    assert len(tables.rows(user_id)) == 3


def test_an_order_outlives_a_redis_that_is_lost_before_its_row(
    billing: Billing, tables: Database, client: Any
) -> None:
    """It is made again after a rebuild, and an order whose row was there is not."""
    user_id = tables.user().user_id
    add(tables, user_id, 5)
    billing.step()
    billing.drain()
    add(tables, user_id, 7)
    let_it_be_due(tables)
    billing.step()
    assert billing.credits(user_id) == 15
    client.flushall()
    let_it_be_due(tables)
    # Redis is of no ledger now, and takes nothing.
    billing.step()
    with (
        open_stream(billing.settings) as stream,
        open_installer(billing.settings) as installer,
        open_admin(billing.settings) as admin,
    ):
        shard_count = billing.settings.shard_count
        assert rebuild(stream, installer, admin, admin.identity(), shard_count).epoch == 2
    billing.ask(lambda gate: gate.balance(uuid4()))
    let_it_be_due(tables)
    billing.step()
    assert billing.credits(user_id) == 15
    billing.drain()
    assert [row["amount"] for row in tables.rows(user_id)] == [5, 7]


def test_an_order_that_became_a_dead_letter_is_not_sent_again(
    billing: Billing, tables: Database, client: Any
) -> None:
    """Though Redis has forgotten its id."""
    user_id = tables.user().user_id
    made = add(tables, user_id, 5)
    tables.insert_dead_letter(user_id)
    tables.run("update faregate.dead_letters set transaction_id = %s", made)
    billing.step()
    assert refusals(tables) == ["dead_letter"]
    assert billing.credits(user_id) is None
    tables.run("delete from faregate.dead_letters")


def test_nothing_is_sent_while_ids_might_be_forgotten(
    billing: Billing, tables: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that has been pending for too long may be that of an order."""
    user_id = tables.user().user_id
    billing.ask(lambda gate: gate.charge(user_id))
    monkeypatch.setattr(ordering, "BEHIND_S_MAX", 0.0)
    add(tables, user_id, 5)
    billing.step()
    assert billing.credits(user_id) == 2
    billing.drain()
    billing.step()
    assert billing.credits(user_id) == 7
    billing.drain()


def test_the_redis_of_another_ledger_gets_nothing(
    billing: Billing, tables: Database, client: Any
) -> None:
    """The order waits, whatever is in Redis."""
    user_id: UUID = tables.user().user_id
    add(tables, user_id, 5)
    tables.run("update faregate.ledger set ledger_id = gen_random_uuid()")
    with pytest.raises(ConfigurationError):
        billing.step()
    assert billing.credits(user_id) is None
    client.flushall()
    let_it_be_due(tables)
    tables.run("update faregate.ledger set installed_at = null")
    # No gate has started since, so Redis has no ledger.
    billing.step()
    billing.ask(lambda gate: gate.balance(uuid4()))
    billing.step()
    assert billing.credits(user_id) == 8
    billing.drain()


def test_an_order_whose_record_a_fork_has_lost_is_made_once(
    billing: Billing, tables: Database, client: Redis
) -> None:
    """Again, if it was no row yet; as it was, if it was."""
    late, kept = (user.user_id for user in tables.users(2))
    assert billing.ask(lambda gate: gate.charge(late)).allowed
    assert billing.ask(lambda gate: gate.charge(kept)).allowed
    billing.drain()
    copy = copy_of(client)
    add(tables, kept, 5)
    billing.step()
    billing.drain()
    add(tables, late, 5)
    billing.step()
    fail_over(client, copy)
    assert [billing.credits(user) for user in (late, kept)] == [2, 2]
    let_it_be_due(tables)
    settings = billing.settings
    with worker(settings.redis_url, settings.postgres_url, settings.shard_count) as sink:
        sink.watch()
        billing.step()
        billing.drain()
        sink.watch()
    assert [billing.credits(user) for user in (late, kept)] == [7, 7]
    let_it_be_due(tables)
    billing.step()
    assert waiting(tables) == []
