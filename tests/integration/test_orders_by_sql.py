"""What billing code may order by SQL, and what an order is before anybody has made it."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import IsolationLevel, errors

from billing import ADD, ADMIN, add, waiting
from durable import Database, Sink, database
from faregate.domain.errors import InvalidArgumentError
from faregate.domain.idempotency import id_of_idempotency_key
from faregate.domain.texts import encode_metadata
from integration.pg_helpers import acting_as

pytestmark = pytest.mark.postgres

INT_MIN = -(2**31)


def nested(levels: int) -> dict[str, Any]:
    """An object of so many levels, the outermost included."""
    made: dict[str, Any] = {}
    for _ in range(levels - 1):
        made = {"a": made}
    return made


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("amount", {"amount": None}),
    ("amount", {"amount": 0}),
    ("amount", {"amount": -1}),
    ("amount", {"amount": INT_MIN, "type": "admin_adjustment", "metadata": ADMIN}),
    ("amount", {"amount": 0, "type": "admin_adjustment", "metadata": ADMIN}),
    ("type", {"type": None}),
    ("type", {"type": "deduct"}),
    ("type", {"type": "refund"}),
    ("description", {"description": None}),
    ("description", {"description": " "}),
    ("description", {"description": "é" * 501}),
    ("idempotency_key", {"key": ""}),
    ("idempotency_key", {"key": "é" * 128}),
    ("metadata", {"metadata": []}),
    ("metadata", {"metadata": "text"}),
    ("metadata", {"metadata": {"a": "x" * 8_192}}),
    ("metadata", {"metadata": nested(33)}),
    ("metadata", {"type": "admin_adjustment"}),
    ("metadata", {"type": "admin_adjustment", "metadata": {"actor": " "}}),
]


def test_an_order_has_all_that_becomes_of_it(tables: Database) -> None:
    """Its id is that of the key, as a gate computes it; without a key it is new each time."""
    user_id = tables.user().user_id
    made = add(tables, user_id, 5, "payment-7", metadata={"event": "evt_1"})
    assert made == id_of_idempotency_key(user_id, "payment-7").value
    (order,) = waiting(tables)
    expected = {
        "id": made,
        "user_id": user_id,
        "amount": 5,
        "type": "add",
        "description": "a payment",
        "metadata": {"event": "evt_1"},
        "refusal": None,
    }
    assert {name: order[name] for name in expected} == expected
    assert len({add(tables, user_id, 5), add(tables, user_id, 5), made}) == 3
    (short,) = tables.run("select faregate.add_credits(%s, 1) as id", user_id)
    assert short["id"] in {order["id"] for order in waiting(tables)}


def test_an_argument_that_a_gate_would_refuse_is_refused(tables: Database) -> None:
    """The error has a code, names the argument, and its hint is the rule."""
    user_id = tables.user().user_id
    for name, wrong in WRONG:
        given = {"amount": 5, "key": None} | wrong
        with pytest.raises(errors.InvalidParameterValue) as refused:
            add(tables, user_id, **given)
        assert refused.value.diag.message_primary == f"add_credits: {name} is not valid", wrong
        assert refused.value.diag.message_hint
    assert waiting(tables) == []


def test_gates_of_all_kinds_are_accepted(tables: Database) -> None:
    """At each bound; metadata as deep as the encoder of records lets it be, and no deeper."""
    user_id = tables.user().user_id
    add(tables, user_id, 2**31 - 1, "k" * 255, description="é" * 500, metadata=nested(32))
    add(tables, user_id, INT_MIN + 1, type="admin_adjustment", metadata=ADMIN)
    assert encode_metadata(nested(32))
    with pytest.raises(InvalidArgumentError):
        encode_metadata(nested(33))
    assert len(waiting(tables)) == 2


def test_an_order_for_an_unknown_user_is_refused(tables: Database) -> None:
    """By the code of a foreign key."""
    for nobody in (uuid4(), None):
        with pytest.raises(errors.ForeignKeyViolation, match="there is no user"):
            add(tables, nobody, 5)


def test_a_key_orders_once(tables: Database, store: Sink) -> None:
    """The same id comes back, be it an order or a row; other content is refused."""
    user = tables.user()
    made = add(tables, user.user_id, 5, "payment-7")
    before = waiting(tables)
    assert add(tables, user.user_id, 5, "payment-7", description="again") == made
    assert waiting(tables) == before
    for amount, kind, meta in ((6, "add", None), (5, "admin_adjustment", ADMIN)):
        with pytest.raises(errors.UniqueViolation, match="payment-7"):
            add(tables, user.user_id, amount, "payment-7", type=kind, metadata=meta)
    assert add(tables, tables.user().user_id, 6, "payment-7") != made

    tables.run("delete from faregate.orders")
    store.store(0, [user.record(5, "add", id=id_of_idempotency_key(user.user_id, "payment-7"))])
    assert add(tables, user.user_id, 5, "payment-7") == made
    with pytest.raises(errors.UniqueViolation, match="payment-7"):
        add(tables, user.user_id, 6, "payment-7")
    assert waiting(tables) == []


def test_a_transaction_that_is_rolled_back_orders_nothing(tables: Database) -> None:
    """The order is part of the transaction of its caller."""
    user_id = tables.user().user_id
    tables.run("begin")
    add(tables, user_id, 5, "payment-7")
    assert len(waiting(tables)) == 1
    tables.run("rollback")
    assert waiting(tables) == []


@pytest.mark.parametrize(
    "level",
    [IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ],
    ids=lambda one: one.name,
)
def test_sessions_that_order_by_one_key_at_once_order_once(
    tables: Database, database_url: str, level: IsolationLevel
) -> None:
    """Twenty at once, each in a transaction; those that a level of isolation fails try again."""
    user_id = tables.user().user_id

    def order(_: int) -> UUID:
        with psycopg.connect(database_url) as connection:
            connection.isolation_level = level
            asked = [user_id, 5, "add", "a payment", "payment-7", None]
            while True:
                try:
                    found = connection.execute(ADD, asked).fetchone()
                except errors.SerializationFailure:
                    connection.rollback()
                else:
                    assert found
                    made: UUID = found[0]
                    return made

    with ThreadPoolExecutor(20) as pool:
        ids = set(pool.map(order, range(20)))
    assert ids == {id_of_idempotency_key(user_id, "payment-7").value}
    assert len(waiting(tables)) == 1


def test_the_second_caller_waits_for_the_first(tables: Database, database_url: str) -> None:
    """And orders if the first is rolled back."""
    user_id = tables.user().user_id
    with database(database_url) as other, ThreadPoolExecutor(1) as pool:
        other.run("set application_name = 'second'")
        tables.run("begin")
        add(tables, user_id, 5, "payment-7")
        second = pool.submit(add, other, user_id, 6, "payment-7")
        with database(database_url) as looking:
            looking.wait_for_lock("second")
        tables.run("rollback")
        assert second.result() == id_of_idempotency_key(user_id, "payment-7").value
    assert [order["amount"] for order in waiting(tables)] == [6]


def test_the_balance_tells_rows_and_orders_apart(tables: Database, store: Sink) -> None:
    """An order that is a row, or was refused, does not wait."""
    user = tables.user()

    def balance() -> tuple[int, int]:
        (row,) = tables.run("select * from faregate.balance(%s)", user.user_id)
        return row["credits"], row["waiting"]

    assert balance() == (3, 0)
    add(tables, user.user_id, 5, "payment-7")
    add(tables, user.user_id, -1, type="admin_adjustment", metadata=ADMIN)
    assert balance() == (3, 4)
    store.store(0, [user.record(5, "add", id=id_of_idempotency_key(user.user_id, "payment-7"))])
    assert balance() == (8, -1)
    tables.run("update faregate.orders set refusal = 'invalid'")
    assert balance() == (8, 0)
    assert tables.run("select * from faregate.balance(%s)", uuid4()) == []


def test_billing_code_orders_and_users_do_not(tables: Database, database_url: str) -> None:
    """The service role and the API order; a user neither orders nor looks, for nobody."""
    user_id = tables.user().user_id
    calls = (
        "select faregate.add_credits(%s, 5, idempotency_key => 'payment-7')",
        "select * from faregate.balance(%s)",
        "select * from faregate.orders where user_id = %s",
    )
    done = []
    with psycopg.connect(database_url, autocommit=True) as connection:
        for role in ("service_role", "faregate_api", "authenticated", "anon"):
            for call in calls:
                with suppress(errors.InsufficientPrivilege), acting_as(connection, role, user_id):
                    done.append((role, len(connection.execute(call, [user_id]).fetchall())))
    assert done == [("service_role", 1)] * 3 + [("faregate_api", 1)] * 2


def test_orders_go_with_their_user(tables: Database) -> None:
    """By cascade, whatever became of them."""
    gone, here = (user.user_id for user in tables.users(2))
    for user_id in (gone, here):
        add(tables, user_id, 5)
    tables.run("update faregate.orders set refusal = 'invalid' where user_id = %s", gone)
    tables.run("delete from auth.users where id = %s", gone)
    assert [order["user_id"] for order in waiting(tables)] == [here]
