"""Discarding a dead letter, by the very statements that docs/operate.md shows."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from durable import Database, Sink, as_role, copies, entry, transactions
from faregate.adapters.postgres.audit import PostgresAudit
from faregate.adapters.redis import layouts
from faregate.adapters.redis.records import read_entry
from faregate.ports import StreamEntry

pytestmark = pytest.mark.postgres

SHARD = 7
PAGE = Path(__file__).resolve().parents[2] / "docs/operate.md"
*_, DISCARD, REPLACE = re.findall(r"^```sql\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)


@pytest.fixture
def audit(database_url: str) -> Iterator[PostgresAudit]:
    """What an operator asks."""
    opened = PostgresAudit(as_role(database_url, "faregate_worker"))
    yield opened
    opened.close()


def with_payload(made: StreamEntry) -> StreamEntry:
    """The same record with bytes in which its balance stands where the scripts write it."""
    (change,) = transactions([made])
    ids = (change.id.bytes, change.user_id.bytes)
    numbers = (change.amount, change.balance_after, change.sequence)
    header = layouts.ENTRY.pack(layouts.VERSION, change.epoch, bytes(6), 1, bytes(7))
    payload = header + layouts.RECORD.pack(layouts.RECORD.size, 1, 0, *ids, *numbers)
    (read,) = transactions(read_entry("1-0", payload))
    assert read.balance_after == change.balance_after
    return entry(change, payload)


def run(tables: Database, statement: str) -> list[dict[str, Any]]:
    """Run a statement of the page for the only dead letter there is."""
    (letter,) = tables.dead_letters()
    return tables.run(re.sub(r"\bid = 42\b", f"id = {letter['id']}", statement))


@pytest.mark.parametrize("credits_left", [1, -2], ids=["paid", "in debt"])
def test_a_row_in_the_place_of_a_discarded_record_leaves_nothing_to_find(
    tables: Database, store: Sink, audit: PostgresAudit, credits_left: int
) -> None:
    """Live credits, rows and the chain of balances agree, before and after the next charges."""
    user = tables.user()
    first = user.record(credits_left - user.credits + 1)
    refused = with_payload(user.record(-1, description="\0"))
    store.store(SHARD, [first, refused])
    (updated,) = run(tables, REPLACE)
    assert updated == {"id": user.user_id, "credits": credits_left}
    for number in (0, 2):
        later = user.deducts(number)
        store.store(SHARD, later)
        live = {user.user_id: user.live}
        assert audit.compare([user.user_id], live, copies([refused, *later])) == []
        assert audit.verify() == []
    assert audit.dead_letter_count() == 0
    assert run(tables, REPLACE) == []


def test_an_adjustment_does_not_take_the_drift_of_a_discarded_record_away(
    tables: Database, store: Sink, audit: PostgresAudit
) -> None:
    """It changes the live balance and the rows alike, so their difference stays."""
    user = tables.user()
    store.store(SHARD, [with_payload(user.record(-1, description="\0"))])
    assert [row["amount"] for row in run(tables, DISCARD)] == [-1]
    store.store(SHARD, [user.record(1, "admin_adjustment")])
    (finding,) = audit.compare([user.user_id], {user.user_id: user.live}, [])
    assert (finding.expected, finding.found) == (4, 3)


def test_a_discarded_record_of_a_deleted_user_leaves_nothing_to_find(
    tables: Database, store: Sink, audit: PostgresAudit
) -> None:
    """There is no balance left that it could make wrong."""
    user = tables.user()
    late = with_payload(user.record(-1))
    tables.run("delete from auth.users where id = %s", user.user_id)
    store.store(SHARD, [late])
    assert audit.dead_letter_count() == 1
    assert run(tables, REPLACE) == []
    assert [row["kind"] for row in run(tables, DISCARD)] == ["deleted_user"]
    assert audit.dead_letter_count() == 0
    assert audit.compare([user.user_id], {user.user_id: user.live}, copies([late])) == []
    assert audit.verify() == []
