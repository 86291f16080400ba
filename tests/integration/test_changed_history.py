"""Redis or Postgres goes on from an older copy, or an epoch ends."""

from contextlib import closing
from dataclasses import replace
from threading import Thread
from typing import Any

import pytest
from redis import Redis

from charging import Charger, batches, counts, drained, name_of
from clocks import RedisClock, ToldClocks, clock_of_the_test
from durable import Database, Sink, archive, as_role, database
from faregate.adapters.postgres import cursors
from faregate.adapters.postgres.admin import PostgresAdmin
from faregate.adapters.postgres.audit import PostgresAudit
from faregate.adapters.redis.stream import RedisStream
from faregate.cli.servers import EmbeddedServers
from faregate.domain.errors import ConfigurationError
from faregate.domain.finding import DriftKind
from faregate.ops.reconcile import reconcile
from faregate_worker.drain import Drained
from forked import copy_of, fail_over
from redis_ledger import IDENTITY, KEYS, SHARD, entries, make_ledger, state
from servers import database_like

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

HOUR_MS = 3_600_000


async def test_an_older_postgres_stores_again_the_records_still_in_the_stream(
    charger: Charger,
    database_url: str,
    servers: EmbeddedServers,
    tables: Database,
    store: Sink,
    stream: RedisStream,
) -> None:
    """As after a restore from a backup: its own cursor says where to go on."""
    await charger.charge()
    drained(stream, store)
    tables.disconnect()
    store.archive.close()
    with database_like(servers, name_of(database_url)) as older_url:
        await charger.charge()
        drained(stream, store)
        assert stream.pending_count() == 0
        with database(older_url) as older, archive(older_url) as rows:
            assert counts(older, charger.users) == {1}
            assert drained(stream, rows) == Drained(read=10, inserted=10)
            assert (counts(older, charger.users), stream.pending_count()) == ({2}, 0)
            older.run("update faregate.ledger set shard_count = 1")
        with closing(PostgresAudit(older_url)) as audit:
            assert reconcile(stream, stream, audit, page_size_max=3).findings == []


async def test_records_that_an_older_postgres_cannot_restore_are_named(
    charger: Charger,
    database_url: str,
    servers: EmbeddedServers,
    tables: Database,
    store: Sink,
    stream: RedisStream,
    client: Redis,
) -> None:
    """By user and number: those that were trimmed before it was restored."""
    await charger.charge()
    drained(stream, store)
    tables.disconnect()
    store.archive.close()
    with database_like(servers, name_of(database_url)) as older_url:
        await charger.charge()
        drained(stream, store)
        forgetful = RedisStream(client, 1, stored_ms=0)
        forgetful.note_stored(SHARD, store.archive.cursors()[SHARD])
        await charger.charge()
        with archive(older_url) as rows, closing(PostgresAudit(older_url)) as audit:
            drained(stream, rows)
            found = [f for f in audit.verify() if f.kind is DriftKind.GAP]
    assert {finding.user_id for finding in found} == set(charger.users)
    assert all("transaction 3" in finding.detail for finding in found)


async def test_an_older_redis_is_read_anew_and_its_fork_is_named(
    charger: Charger, tables: Database, store: Sink, stream: RedisStream, client: Redis
) -> None:
    """As after a failover that lost what was stored: rows stay, and what comes next is stored."""
    await charger.charge()
    copy = copy_of(client)
    await charger.charge()
    drained(stream, store)
    fail_over(client, copy)
    assert drained(stream, store) == Drained(read=10, repeated=10)
    await charger.charge()
    assert drained(stream, store) == Drained(read=10, inserted=10)
    assert (counts(tables, charger.users), stream.pending_count()) == ({3}, 0)
    rows = [(row["read_after"], row["batch_count"]) for row in batches(tables)]
    assert rows == [(None, 1), (None, 1), (None, 2)]
    with closing(PostgresAudit(as_role(store.url, "faregate_worker"))) as audit:
        forks = {f.user_id for f in audit.verify() if f.kind is DriftKind.FORK}
    assert forks == set(charger.users)


async def test_a_replica_whose_clock_is_behind_is_drained(
    ledger_redis: str, tables: Database, store: Sink, stream: RedisStream, client: Redis
) -> None:
    """Its entries lie before the cursor; positions of different histories are not compared."""
    with clock_of_the_test():
        clock = ToldClocks.clock = RedisClock(client)
        ledger = make_ledger(ledger_redis)
        charger = Charger(ledger, tables, 4)
        await ledger.attach(IDENTITY)
        await charger.install()
        await charger.charge()
        copy = copy_of(client)
        clock.advance(HOUR_MS)
        await charger.charge()
        drained(stream, store)
        ahead = store.archive.cursors()[SHARD].position
        clock.advance(-HOUR_MS)
        fail_over(client, copy)
        await charger.charge()
        assert max(position for position, _ in entries(client)) < ahead
        done = drained(stream, store)
        await ledger.aclose()
    assert (done.inserted, done.repeated) == (4, 4)
    assert (counts(tables, charger.users), stream.pending_count()) == ({3}, 0)


async def test_an_entry_that_vanished_at_the_cursor_costs_nothing(
    charger: Charger, tables: Database, store: Sink, stream: RedisStream, client: Any
) -> None:
    """Somebody deleted it by hand: all is read again, and known by its ids."""
    await charger.charge()
    drained(stream, store)
    client.xdel(KEYS.stream, store.archive.cursors()[SHARD].position)
    await charger.charge()
    assert drained(stream, store).inserted == 10
    assert counts(tables, charger.users) == {2}


async def test_records_of_an_older_epoch_go_on_from_the_rows_or_are_a_fork(
    charger: Charger, tables: Database, store: Sink, stream: RedisStream, client: Any
) -> None:
    """A stream that outlived its shard: what was pending is stored where it follows."""
    await charger.charge()
    drained(stream, store)
    await charger.charge()
    tables.run("update faregate.ledger set epoch = 2")
    client.set(KEYS.state, replace(state(client), epoch=2, ordinal=0, stored=0).pack())
    behind = charger.users[0]
    tables.run("set session_replication_role = replica")
    tables.run("update public.profiles set credits_sequence = 7 where id = %s", behind)
    assert drained(stream, store) == Drained(read=20, inserted=9, repeated=10, dead_letters=1)
    (letter,) = tables.dead_letters()
    assert (letter["kind"], letter["user_id"], letter["sequence"]) == ("fork", behind, 3)
    assert batches(tables)[-1]["epoch"] == 2


async def test_nothing_is_stored_in_another_epoch_than_that_of_the_ledger(
    charger: Charger, tables: Database, store: Sink, stream: RedisStream
) -> None:
    """A rebuild that began while a drain had read its batch."""
    await charger.charge()
    tables.run("update faregate.ledger set epoch = 2")
    with pytest.raises(ConfigurationError, match="epoch 1, and the ledger of 2"):
        drained(stream, store)
    assert (counts(tables, charger.users), batches(tables)) == ({0}, [])


def test_an_epoch_does_not_begin_while_a_batch_is_being_stored(
    tables: Database, store: Sink, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads the rows in the new epoch must find all rows of the one before."""
    written = cursors.write_batch
    admin = PostgresAdmin(database_url)
    begin = Thread(target=admin.begin_epoch, args=(1, 16))

    def write(*arguments: Any) -> None:
        begin.start()
        tables.wait_for_lock("faregate admin")
        written(*arguments)

    monkeypatch.setattr("faregate.adapters.postgres.archive.write_batch", write)
    user = tables.user()
    store.store(0, [user.record(-1)])
    begin.join()
    assert admin.identity().epoch == 2
    admin.close()
    assert tables.rows(user.user_id)[-1]["epoch"] == 1
