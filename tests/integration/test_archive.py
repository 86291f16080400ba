"""Records become rows exactly once, however often and by however many they are delivered."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import pytest

from durable import Database, Sink, archive, entry, stored, transactions
from faregate.domain.transaction import CreditTransactionId, TransactionType

pytestmark = pytest.mark.postgres

SHARD = 7
NEVER = 60


def test_a_record_becomes_a_row_with_all_it_says(tables: Database, store: Sink) -> None:
    """Every field of a transaction is a column of its row."""
    user = tables.user()
    deduct = user.record(-2, metadata={"path": "/é", "nested": [1, None]})
    (charged,) = transactions([deduct])
    refund = user.record(1, "refund", refund_of=charged.id, description="tab\tnewline\n\\N")

    assert store.store(SHARD, [deduct, refund]) == stored(inserted=2)

    first, second = tables.rows(user.user_id)
    assert {name: first[name] for name in ("amount", "type", "metadata", "refund_of")} == {
        "amount": -2,
        "type": "deduct",
        "metadata": {"path": "/é", "nested": [1, None]},
        "refund_of": None,
    }
    assert (first["id"], first["timestamp"]) == (charged.id.value, charged.timestamp)
    assert (first["sequence"], first["balance_after"], first["epoch"]) == (2, 1, 1)
    assert (second["refund_of"], second["metadata"]) == (charged.id.value, None)
    assert second["description"] == "tab\tnewline\n\\N"


def test_a_profile_grows_by_exactly_the_new_rows(tables: Database, store: Sink) -> None:
    """The durable balance and its sequence are those of the last record stored."""
    one, two, idle = tables.users(3)
    store.store(SHARD, [*one.deducts(2), two.record(10, "add"), *one.deducts(1)])
    assert tables.profile(one.user_id) == (0, 4)
    assert tables.profile(two.user_id) == (13, 2)
    assert tables.profile(idle.user_id) == (3, 1)


def test_nothing_is_stored_of_nothing(store: Sink) -> None:
    """An empty batch is stored already."""
    assert store.store(SHARD, []) == stored()


def test_a_batch_that_is_delivered_again_changes_nothing(tables: Database, store: Sink) -> None:
    """A second delivery is recognised by the ids of its transactions."""
    user = tables.user()
    batch = user.deducts(3)
    assert store.store(SHARD, batch) == stored(inserted=3)
    assert store.store(SHARD, batch) == stored(repeated=3)
    assert len(tables.rows(user.user_id)) == 3
    assert tables.profile(user.user_id) == (0, 4)


def test_batches_that_overlap_store_their_union(tables: Database, store: Sink) -> None:
    """Only what is new in the second batch is added to the balance."""
    user = tables.user()
    batch = user.deducts(6)
    assert store.store(SHARD, batch[:4]) == stored(inserted=4)
    assert store.store(SHARD, batch[2:]) == stored(inserted=2, repeated=2)
    assert tables.profile(user.user_id) == (-3, 7)


def test_a_record_that_occurs_twice_in_a_batch_counts_once(tables: Database, store: Sink) -> None:
    """Two places in the stream with the same transaction are one transaction."""
    user = tables.user()
    (charge,) = transactions(user.deducts(1))
    assert store.store(SHARD, [entry(charge), entry(charge)]) == stored(inserted=1, repeated=1)
    assert tables.profile(user.user_id) == (2, 2)


def test_later_records_may_be_stored_before_earlier_ones(tables: Database, store: Sink) -> None:
    """The balance is a sum and the sequence a maximum, so the order of batches is free."""
    user = tables.user()
    batch = user.deducts(4)
    store.store(SHARD, batch[2:])
    assert tables.profile(user.user_id) == (1, 5)
    store.store(SHARD, batch[:2])
    assert tables.profile(user.user_id) == (-1, 5)


@pytest.mark.parametrize("shards", [(SHARD, SHARD), (SHARD, SHARD + 1)])
def test_two_drains_at_once_store_every_record_once(
    database_url: str, tables: Database, shards: tuple[int, int]
) -> None:
    """Drains that read the same records, in whatever order, do each other no harm."""
    users = tables.users(20)
    records = [e for user in users for e in user.deducts(10)]

    def drain(shard: int) -> int:
        mixed = records[:: 1 if shard == SHARD else -1]
        with archive(database_url) as opened:
            batches = (mixed[n : n + 25] for n in range(0, len(mixed), 25))
            return sum(opened.store(shard, batch).inserted for batch in batches)

    with ThreadPoolExecutor(2) as pool:
        inserted = list(pool.map(drain, shards))
    assert sum(inserted) == len(records)
    assert [tables.profile(user.user_id) for user in users] == [(-7, 11)] * 20
    assert tables.dead_letters() == []


@pytest.mark.parametrize(
    "change",
    [
        {"amount": -2},
        {"sequence": 9},
        {"epoch": 2},
        {"type": TransactionType.ADMIN_ADJUSTMENT},
    ],
    ids=lambda change: next(iter(change)),
)
@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "later"])
def test_a_known_id_with_other_content_is_a_conflict(
    tables: Database, store: Sink, *, change: dict[str, object], together: bool
) -> None:
    """It is kept as a dead letter and counted nowhere; the row stays, and so do its neighbours."""
    user, other = tables.users(2)
    known = user.record(-1)
    (charge,) = transactions([known])
    forged = entry(replace(charge, **change), b"forged")  # type: ignore[arg-type]
    neighbour = other.record(-1)
    batches = [[known, forged, neighbour]] if together else [[known], [forged, neighbour]]

    outcomes = [store.store(SHARD, batch) for batch in batches]

    assert sum(outcome.dead_letters for outcome in outcomes) == 1
    assert sum(outcome.inserted for outcome in outcomes) == 2
    (letter,) = tables.dead_letters()
    assert (letter["kind"], bytes(letter["payload"])) == ("conflict", b"forged")
    assert letter["transaction_id"] == charge.id.value
    (row,) = tables.rows(user.user_id)
    assert (row["amount"], row["sequence"], row["epoch"]) == (-1, 2, 1)
    assert tables.profile(user.user_id) == (2, 2)
    assert tables.profile(other.user_id) == (2, 2)


def test_the_id_of_another_users_transaction_is_a_conflict(tables: Database, store: Sink) -> None:
    """An id belongs to one user for ever."""
    one, two = tables.users(2)
    mine = one.record(-1)
    stolen = two.record(-1, id=transactions([mine])[0].id)
    assert store.store(SHARD, [mine, stolen]) == stored(inserted=1, dead_letters=1)
    assert tables.profile(two.user_id) == (3, 1)


def test_ids_of_any_version_are_stored(tables: Database, store: Sink) -> None:
    """Derived and random ids are as good as new ones."""
    user = tables.user()
    ids = [CreditTransactionId(uuid4()), CreditTransactionId.derive("void", uuid4())]
    store.store(SHARD, [user.record(-1, id=transaction_id) for transaction_id in ids])
    assert [row["id"] for row in tables.rows(user.user_id)] == [i.value for i in ids]
