"""How far a shard is stored is said once, in Postgres, by the commit that stores it."""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from redis import Redis

from charging import CREDITS, LIMITS, Charger, batches, counts, drained
from durable import Database, ListedBatch, Sink, archive, as_role, entry, stored
from faregate.adapters.postgres.audit import PostgresAudit
from faregate.adapters.postgres.cursors import LEAVES_LENGTH_MAX
from faregate.adapters.redis.stream import RedisStream
from faregate.domain.finding import DriftKind, Finding
from faregate_worker.drain import Drained, drain
from points import POINTS
from redis_ledger import KEYS, SHARD, entries, state
from waiting import WAIT_S_MAX

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

ROW_COUNT_MAX = LEAVES_LENGTH_MAX // 16
PROGRAM = Path(__file__).parents[1] / "drain_process.py"


async def test_each_batch_is_numbered_and_says_where_it_ends(
    charger: Charger, tables: Database, store: Sink, stream: RedisStream, client: Redis
) -> None:
    """Epoch, positions, ordinals, the batch it was read after, and the bytes of its last entry."""
    await charger.charge()
    assert drained(stream, store) == Drained(read=10, inserted=10)
    await charger.charge()
    drained(stream, store)
    # Small ones share a row.
    (row,) = batches(tables)
    assert (row["number"], row["batch_count"], row["read_after"]) == (1, 2, None)
    assert (row["first_ordinal"], row["last_ordinal"], row["ordinal_max"]) == (1, 20, 20)
    assert (row["record_count"], len(row["leaves"]), row["epoch"]) == (20, 320, 1)
    positions = [position for position, _ in entries(client)]
    assert (row["first_position"], row["last_position"]) == (positions[0], positions[-1])
    assert (state(client).stored, stream.pending_count()) == (20, 0)


async def test_a_batch_that_was_stored_is_dropped_when_it_comes_again(
    charger: Charger, store: Sink, stream: RedisStream, tables: Database
) -> None:
    """As after a commit whose answer was lost: the cursor has moved, so nothing is written."""
    await charger.charge()
    batch = stream.read(SHARD, None, 100)
    assert batch is not None
    assert store.archive.store(batch).inserted == 10
    again = store.archive.store(batch)
    assert (again.is_stale, again.count, again.cursor) == (True, 0, batch.end)
    assert counts(tables, charger.users) == {1}


async def test_two_drains_at_once_store_each_record_once(
    charger: Charger, database_url: str, ledger_redis: str, tables: Database, store: Sink
) -> None:
    """Each drops what the other was faster with."""
    for _ in range(CREDITS):
        await charger.charge()

    def work(_: int) -> Drained:
        limits = replace(LIMITS, batch_size_max=1)
        with archive(database_url) as rows, closing(RedisStream.from_url(ledger_redis, 1)) as own:
            return drain(own, rows.archive, SHARD, limits=limits)

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(work, range(4)))
    assert sum(one.inserted for one in done) == 30
    assert {one.repeated + one.dead_letters for one in done} == {0}
    assert counts(tables, charger.users) == {CREDITS}
    (row,) = batches(tables)
    assert row["number"] + row["batch_count"] - 1 == store.archive.cursors()[SHARD].number


@pytest.mark.long
@pytest.mark.parametrize("point", POINTS)
async def test_a_drain_that_is_killed_loses_nothing_and_doubles_nothing(
    charger: Charger,
    database_url: str,
    ledger_redis: str,
    tables: Database,
    stream: RedisStream,
    store: Sink,
    point: str,
) -> None:
    """At each point, by SIGKILL; the next drain goes on."""
    await charger.charge()
    command = [sys.executable, str(PROGRAM), ledger_redis, database_url, str(SHARD), point]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = await asyncio.create_subprocess_exec(*command, env=environment)
    assert await asyncio.wait_for(process.wait(), WAIT_S_MAX) == -signal.SIGKILL
    is_stored = point in {"after commit", "before trim"}
    assert counts(tables, charger.users) == {int(is_stored)}
    assert drained(stream, store).inserted == (0 if is_stored else 10)
    assert (counts(tables, charger.users), stream.pending_count()) == ({1}, 0)


async def test_a_dead_letter_that_is_read_again_does_not_become_a_row(
    charger: Charger, tables: Database, store: Sink, stream: RedisStream, client: Any
) -> None:
    """Nor is it kept twice, though Postgres would take it now."""
    await charger.charge()
    tables.run("alter table public.credit_transactions add constraint odd check (sequence < 3)")
    await charger.charge()
    assert drained(stream, store).dead_letters == 10
    tables.run("alter table public.credit_transactions drop constraint odd")
    client.xdel(KEYS.stream, store.archive.cursors()[SHARD].position)
    again = drained(stream, store)
    assert (again.inserted, again.repeated + again.dead_letters) == (0, again.read)
    assert (counts(tables, charger.users), len(tables.dead_letters())) == ({1}, 10)


def test_a_commit_waits_for_the_disk_whatever_the_database_says(
    tables: Database, store: Sink
) -> None:
    """Redis may delete a record once its row is committed, so the row must outlive a crash."""
    tables.run("create table public.seen (setting text, isolation text)")
    tables.run("grant insert on public.seen to public")
    tables.run(
        "create function public.see() returns trigger language plpgsql as $$ begin"
        " insert into public.seen values (current_setting('synchronous_commit'),"
        " current_setting('transaction_isolation')); return new; end $$"
    )
    tables.run(
        "create trigger see before insert on faregate.batches"
        " for each row execute function public.see()"
    )
    name = tables.run("select current_database() as name")[0]["name"]
    for setting in ("synchronous_commit = off", "default_transaction_isolation = serializable"):
        tables.run(f"alter database {name} set {setting}")
    store.store(SHARD, tables.user().deducts(1))
    assert tables.run("select * from public.seen") == [
        {"setting": "on", "isolation": "read committed"}
    ]


def test_rows_that_were_changed_or_made_by_hand_are_found(tables: Database, store: Sink) -> None:
    """Each row has a leaf in the batch that wrote it; a deleted user takes its rows away."""
    one, two, gone = tables.users(3)
    store.store(SHARD, [*one.deducts(2), *two.deducts(1), *gone.deducts(1)])
    with closing(PostgresAudit(as_role(store.url, "faregate_worker"))) as audit:
        digest = audit.digest()
        tables.run("delete from auth.users where id = %s", gone.user_id)
        assert audit.verify() == []
        tables.run("set session_replication_role = replica")
        tables.run(
            "update public.credit_transactions set description = 'other'"
            " where user_id = %s and sequence = 3",
            one.user_id,
        )
        (found,) = audit.verify()
        assert (found.kind, found.user_id) == (DriftKind.FORGED, one.user_id)
        assert "Transaction 3" in found.detail
        assert audit.digest() == digest
        store.store(SHARD, two.deducts(1))
        assert audit.digest() != digest
        tables.run("update faregate.batches set leaves = leaves || leaves where number = 1")
        assert Counter(found.kind for found in audit.verify())[DriftKind.FORGED] == 2


def altered(tables: Database, store: Sink, change: str) -> tuple[UUID, Sequence[Finding]]:
    """Change the last of three rows of a user by hand; return the user, and what is found."""
    user = tables.user()
    store.store(SHARD, user.deducts(2))
    tables.run("set session_replication_role = replica")
    tables.run(
        f"update public.credit_transactions set {change} where user_id = %s and sequence = 3",  # noqa: S608 - our own words
        user.user_id,
    )
    with closing(PostgresAudit(as_role(store.url, "faregate_worker"))) as audit:
        return user.user_id, audit.verify()


def test_a_row_that_claims_to_be_older_than_all_batches_is_found(
    tables: Database, store: Sink
) -> None:
    """Only the first row of a user may be one that no batch wrote: its starting credits."""
    user, (found,) = altered(tables, store, "description = 'other', epoch = 0")
    assert (found.kind, found.user_id) == (DriftKind.FORGED, user)


def test_a_last_row_that_claims_to_be_older_than_the_ledger_is_missed(
    tables: Database, store: Sink
) -> None:
    """No row follows it, so the profile tells that its number is missing."""
    change = "sequence = null, balance_after = null, epoch = null"
    user, findings = altered(tables, store, change)
    assert (DriftKind.GAP, user) in {(found.kind, found.user_id) for found in findings}


def test_small_batches_share_rows_and_all_that_was_forged_is_found(
    tables: Database, store: Sink
) -> None:
    """A row for each 64 records, and a chain that goes through all of them."""
    user = tables.user()
    for _ in range(2 * ROW_COUNT_MAX + 2):
        store.store(SHARD, user.deducts(1))
    assert [row["number"] for row in batches(tables)] == [1, 65, 129]
    assert [row["batch_count"] for row in batches(tables)] == [64, 64, 2]
    with closing(PostgresAudit(as_role(store.url, "faregate_worker"))) as audit:
        assert audit.verify() == []
        # Each is there and as it was written, but for one that is of another order.
        for number in (65, 129):
            tables.run(
                "update faregate.batches set leaves = substr(leaves, 17) || substr(leaves, 1, 16)"
                " where number = %s",
                number,
            )
        store.store(SHARD, user.deducts(1))
        assert [row["number"] for row in batches(tables)] == [1, 65, 129, 131]
        assert [found.kind for found in audit.verify()] == [DriftKind.FORGED] * 2
        tables.run("delete from faregate.batches where number = 65")
        assert len(audit.verify()) >= ROW_COUNT_MAX


def test_a_batch_of_known_ids_alone_moves_the_cursor(tables: Database, store: Sink) -> None:
    """Else it would be read for ever."""
    user = tables.user()
    records = user.deducts(3)
    store.store(SHARD, records)
    cursor = store.archive.cursors()[SHARD]
    again = ListedBatch(SHARD, records, cursor, is_from_start=True)
    assert store.archive.store(again).repeated == 3
    assert store.archive.cursors()[SHARD].number == cursor.number + 1
    assert store.store(SHARD, [entry(r.transaction) for r in user.deducts(1) if r.transaction]) == (
        stored(inserted=1)
    )


def test_shards_have_cursors_of_their_own(tables: Database, store: Sink) -> None:
    """None where nothing was stored."""
    users = tables.users(2)
    assert store.archive.cursors() == {}
    for shard, user in zip((3, 12), users, strict=True):
        store.store(shard, user.deducts(shard))
    cursors = store.archive.cursors()
    assert {shard: (one.number, one.ordinal) for shard, one in cursors.items()} == {
        3: (1, 3),
        12: (1, 12),
    }
