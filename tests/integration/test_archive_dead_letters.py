"""What cannot be a row is kept with its reason, and the rest of the batch is stored."""

from typing import Any

import pytest

from durable import Database, Sink, stored, transactions, unreadable
from faregate.adapters.postgres.dead_letters import REASON_LENGTH_MAX
from faregate.domain.transaction import CREDITS_MAX

pytestmark = pytest.mark.postgres

SHARD = 7
NEVER = 60


def test_an_unreadable_entry_stays_unchanged(tables: Database, store: Sink) -> None:
    """Its bytes are all there is, and why they could not be read."""
    user = tables.user()
    broken = unreadable(b"\x00\xff not a record", "version 0 is unknown\0")
    assert store.store(SHARD, [broken, *user.deducts(1)]) == stored(inserted=1, dead_letters=1)
    (letter,) = tables.dead_letters()
    assert (letter["kind"], letter["reason"]) == ("unreadable", "version 0 is unknown?")
    assert bytes(letter["payload"]) == b"\x00\xff not a record"
    assert letter["user_id"] is None


def nested(depth: int) -> dict[str, object]:
    """Objects, one in another."""
    value: dict[str, object] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


POISON: dict[str, dict[str, Any]] = {
    "NUL in the description": {"description": "a\0b"},
    "lone surrogate in the description": {"description": "a\ud800b"},
    "NUL in the metadata": {"metadata": {"a": "b\0"}},
    "lone surrogate in the metadata": {"metadata": {"a": "\udfff"}},
    "metadata that is no JSON": {"metadata": {"a": float("nan")}},
    "metadata of no JSON type": {"metadata": {"a": {1, 2}}},
    "metadata that nests beyond the stack": {"metadata": nested(100_000)},
    "sequence too large": {"sequence": 2**63},
    "epoch too large": {"epoch": 2**64 - 1},
    "epoch below zero": {"epoch": -1},
}


@pytest.mark.parametrize("change", POISON.values(), ids=POISON.keys())
def test_a_record_that_postgres_refuses_is_a_dead_letter_and_the_rest_is_stored(
    tables: Database, store: Sink, change: dict[str, Any]
) -> None:
    """The offender alone is a dead letter, with the reason; the batch goes on without it."""
    user, other = tables.users(2)
    poison = user.record(-1, **change)
    batch = [*other.deducts(4), poison, *other.deducts(3)]

    assert store.store(SHARD, batch) == stored(inserted=7, dead_letters=1)

    (letter,) = tables.dead_letters()
    assert (letter["kind"], letter["stream_id"]) == ("refused", poison.stream_id)
    assert 0 < len(letter["reason"]) <= REASON_LENGTH_MAX
    assert letter["transaction_id"] == transactions([poison])[0].id.value
    assert tables.profile(other.user_id) == (-4, 8)
    assert tables.is_exact()


def test_a_balance_that_leaves_its_column_is_refused_alone(tables: Database, store: Sink) -> None:
    """A durable balance has a range, and what would leave it is for an operator."""
    user, other = tables.users(2)
    fits, overflows = user.record(1, "add"), user.record(CREDITS_MAX, "add", balance_after=0)
    batch = [fits, overflows, other.record(-1)]
    assert store.store(SHARD, batch) == stored(inserted=2, dead_letters=1)
    assert [letter["stream_id"] for letter in tables.dead_letters()] == [overflows.stream_id]
    assert tables.profile(user.user_id) == (4, 2)
    assert tables.profile(other.user_id) == (2, 2)


def test_many_refused_records_are_all_found(tables: Database, store: Sink) -> None:
    """Halving finds each, wherever they stand."""
    user = tables.user()
    batch = [user.record(-1, description="\0" if n % 17 == 0 else "GET /") for n in range(200)]
    assert store.store(SHARD, batch) == stored(inserted=188, dead_letters=12)
    assert [letter["stream_id"] for letter in tables.dead_letters()] == [
        e.stream_id for e in batch[::17]
    ]
    assert tables.is_exact()


def test_refused_records_and_conflicts_in_one_batch_are_distinguished(
    tables: Database, store: Sink
) -> None:
    """A part of a batch sees nothing of the parts before it."""
    user, other = tables.users(2)
    known = user.record(-1)
    conflicts = [user.record(-1, id=transactions([known])[0].id) for _ in range(2)]
    refused = user.record(-1, description="\0")
    batch = [known, conflicts[0], *other.deducts(2), refused, *other.deducts(2), conflicts[1]]
    assert store.store(SHARD, batch) == stored(inserted=5, dead_letters=3)
    kept = {letter["stream_id"]: letter["kind"] for letter in tables.dead_letters()}
    assert kept == {
        conflicts[0].stream_id: "conflict",
        conflicts[1].stream_id: "conflict",
        refused.stream_id: "refused",
    }


def test_a_dead_letter_is_stored_once(tables: Database, store: Sink) -> None:
    """Its place in the stream identifies it, however often it is delivered."""
    user = tables.user()
    batch = [user.record(-1, description="\0"), unreadable(b"?", "no record"), *user.deducts(1)]
    assert store.store(SHARD, batch) == stored(inserted=1, dead_letters=2)
    assert store.store(SHARD, batch) == stored(repeated=1, dead_letters=2)
    assert len(tables.dead_letters()) == 2


def test_a_dead_letter_does_not_become_a_row_as_well(tables: Database, store: Sink) -> None:
    """Delivered again when it would be accepted, it would otherwise count twice."""
    user = tables.user()
    overflows = user.record(CREDITS_MAX - 2, "add", balance_after=0)
    assert store.store(SHARD, [overflows]) == stored(dead_letters=1)
    store.store(SHARD, [user.record(-3)])
    assert store.store(SHARD, [overflows]) == stored(dead_letters=1)
    assert len(tables.rows(user.user_id)) == 1
