"""Batches get along with those who delete users, and with connections that break."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest

from durable import Database, History, ListedBatch, Sink, archive, as_role, stored, transactions
from faregate.adapters.postgres import archive as module
from faregate.adapters.postgres.archive import PostgresArchive
from faregate.domain.errors import ArchiveUnavailableError, ShardBlockedError
from faregate.ports import Stored
from waiting import wait_for

pytestmark = pytest.mark.postgres

SHARD = 7
NEVER = 60


def test_a_deleted_users_records_become_dead_letters(tables: Database, store: Sink) -> None:
    """What was charged to somebody who is gone is counted, and holds up nobody else."""
    gone, here = tables.users(2)
    refunded = gone.record(-1)
    records = [refunded, gone.record(1, "refund", refund_of=transactions([refunded])[0].id)]
    tables.run("delete from auth.users where id = %s", gone.user_id)

    outcome = store.store(SHARD, [*records, here.record(-1)])
    assert outcome == stored(inserted=1, dead_letters=2, gone=[gone.user_id])

    first, second = tables.dead_letters()
    assert (first["kind"], first["shard"]) == ("deleted_user", SHARD)
    assert (first["stream_id"], second["stream_id"]) == tuple(r.stream_id for r in records)
    assert {first[name] for name in ("user_id", "amount", "transaction_id")} == {None}
    assert tables.profile(here.user_id) == (2, 2)


def test_the_records_of_a_user_that_was_never_there_are_kept(tables: Database, store: Sink) -> None:
    """As in a Postgres that was restored from an older backup: nothing may be lost."""
    nobody = uuid4()
    outcome = store.store(SHARD, History(nobody).deducts(1))
    assert outcome == stored(dead_letters=1, gone=[nobody])
    (letter,) = tables.dead_letters()
    assert (letter["kind"], letter["user_id"], letter["amount"]) == ("deleted_user", nobody, -1)


def test_users_deleted_while_batches_are_stored_cost_no_batch_and_no_deadlock(
    database_url: str, tables: Database
) -> None:
    """Whoever deletes many users at once, in any order, is never the one that has to give way."""
    users = tables.users(120)
    doomed = [user.user_id for user in users[::2]]
    rounds = [[user.record(-1) for user in users] for _ in range(30)]
    started = threading.Event()

    def delete() -> int:
        auth = as_role(database_url, "supabase_auth_admin")
        deleted = 0
        started.wait(NEVER)
        with psycopg.connect(auth) as connection:
            # Against the order in which the drain locks them, several in one transaction.
            for n in range(len(doomed), 0, -4):
                for user_id in reversed(doomed[n - 4 : n]):
                    query = "delete from auth.users where id = %s"
                    deleted += connection.execute(query, [user_id]).rowcount
                connection.commit()
        return deleted

    def drain() -> list[Stored]:
        outcomes = []
        with archive(database_url) as opened:
            for batch in rounds:
                outcomes.append(opened.store(SHARD, batch))
                started.set()
        return outcomes

    with ThreadPoolExecutor(2) as pool:
        deleting, draining = pool.submit(delete), pool.submit(drain)
        assert deleting.result(NEVER) == len(doomed)
        outcomes = draining.result(NEVER)
    assert {o.inserted + o.repeated + o.dead_letters for o in outcomes} == {len(users)}
    assert [tables.profile(user.user_id) for user in users[1::2]] == [(-27, 31)] * 60
    assert tables.is_exact()
    assert sum(o.dead_letters for o in outcomes) == len(tables.dead_letters()) > 0


def test_a_user_deleted_in_the_middle_of_a_batch_makes_it_run_again(
    database_url: str, tables: Database, store: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check of the foreign key finds out; the second attempt knows."""
    monkeypatch.setattr(module, "LOCK_MS_MAX", NEVER * 1_000)
    gone, here = tables.users(2)
    batch = [gone.record(-1), here.record(-1)]
    with ThreadPoolExecutor(1) as pool, psycopg.connect(database_url) as deleter:
        deleter.execute("delete from auth.users where id = %s", [gone.user_id])
        draining = pool.submit(store.store, SHARD, batch)
        # The user still exists for everybody else, so the batch has come as far as its check.
        tables.wait_for_lock("faregate drain")
        deleter.commit()
        assert draining.result(NEVER) == stored(inserted=1, dead_letters=1, gone=[gone.user_id])
    assert [letter["kind"] for letter in tables.dead_letters()] == ["deleted_user"]


def test_a_deletion_that_takes_its_time_delays_a_batch(
    database_url: str, tables: Database, store: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch lets go of all its locks before it tries again, and is stored in the end."""
    gone, here = tables.users(2)
    with psycopg.connect(database_url) as deleter:
        deleter.execute("delete from auth.users where id = %s", [gone.user_id])

        def pause(duration_s: float) -> None:
            # Nothing that the batch had locked is in the way of the deletion of everybody.
            deleter.execute("set local lock_timeout = 1")
            deleter.execute("delete from auth.users")
            deleter.commit()

        monkeypatch.setattr("time.sleep", pause)
        batch = [gone.record(-1), here.record(-1)]
        outcome = store.store(SHARD, batch)
        assert outcome == stored(dead_letters=2, gone=[gone.user_id, here.user_id])


def test_a_missing_profile_is_made_and_not_skipped(tables: Database, store: Sink) -> None:
    """Its credits are the sum of its user's rows, those of the batch included."""
    lost, here = tables.users(2)
    store.store(SHARD, lost.deducts(1))
    tables.run("delete from public.profiles where id = %s", lost.user_id)
    assert store.store(SHARD, [*lost.deducts(1), here.record(-1)]) == stored(inserted=2)
    assert tables.profile(lost.user_id) == (1, 3)
    assert tables.is_exact()


TERMINATE = (
    "create function end_backend() returns trigger language plpgsql security definer as $$"
    " begin perform pg_terminate_backend(pg_backend_pid()); return new; end $$"
)
MOMENTS = {
    "while inserting": "create trigger a_fault before insert on public.credit_transactions",
    "while projecting": "create trigger a_fault before update on public.profiles",
    "while committing": (
        "create constraint trigger a_fault after update on public.profiles"
        " deferrable initially deferred"
    ),
}


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS.keys())
def test_a_connection_that_breaks_leaves_nothing_half_written(
    tables: Database, store: Sink, moment: str
) -> None:
    """The batch is stored whole by the next call, over a new connection."""
    user = tables.user()
    batch = user.deducts(3)
    table = "public.profiles" if "profiles" in moment else "public.credit_transactions"
    tables.run(TERMINATE)
    tables.run(f"{moment} for each row execute function end_backend()")
    with pytest.raises(ArchiveUnavailableError, match="shard 7"):
        store.store(SHARD, batch)
    assert tables.rows(user.user_id) == []
    assert tables.profile(user.user_id) == (3, 1)
    tables.run(f"drop trigger a_fault on {table}")
    assert store.store(SHARD, batch) == stored(inserted=3)


def test_a_server_that_cannot_be_reached_is_unavailable() -> None:
    """The caller reads the batch again later."""
    opened = PostgresArchive("host=/nowhere dbname=none")
    with pytest.raises(ArchiveUnavailableError, match="cannot store"):
        opened.store(ListedBatch(SHARD, History(uuid4()).deducts(1)))


def test_a_batch_waits_for_a_lock_and_then_runs_again(
    database_url: str, tables: Database, store: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who works on a profile delays a batch and does not fail it."""
    user = tables.user()
    with psycopg.connect(database_url) as blocker:
        blocker.execute("select id from public.profiles for update")
        pauses: list[float] = []

        def pause(duration_s: float) -> None:
            pauses.append(duration_s)
            blocker.rollback()

        monkeypatch.setattr("time.sleep", pause)
        assert store.store(SHARD, user.deducts(1)) == stored(inserted=1)
    assert len(pauses) == 1


def test_a_lock_that_is_never_released_ends_the_attempts(
    database_url: str, tables: Database, store: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time for attempts is bounded; nothing of the batch is stored."""
    user = tables.user()
    monkeypatch.setattr(module, "CONTENTION_S_MAX", 0.2)
    monkeypatch.setattr(module, "LOCK_MS_MAX", 10)
    with psycopg.connect(database_url) as blocker:
        blocker.execute("select id from public.profiles for update")
        with pytest.raises(ArchiveUnavailableError, match="lock timeout"):
            store.store(SHARD, user.deducts(1))
    assert tables.rows(user.user_id) == []


def test_a_locked_user_delays_only_later_records_of_its_shard(
    database_url: str, tables: Database, store: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All before it is stored, and so are other shards; the rest is read again later."""
    monkeypatch.setattr(module, "CONTENTION_S_MAX", 2.0)
    monkeypatch.setattr(module, "LOCK_MS_MAX", 10)
    users, other = tables.users(32), tables.user()
    batch = [user.record(-1) for user in users]
    with psycopg.connect(database_url) as blocker:
        blocker.execute(
            "select id from public.profiles where id = %s for update", [users[20].user_id]
        )
        with pytest.raises(ArchiveUnavailableError, match="lock timeout"):
            store.store(SHARD, batch)
        assert [len(tables.rows(user.user_id)) for user in users] == [1] * 20 + [0] * 12
        assert store.store(SHARD + 1, other.deducts(1)) == stored(inserted=1)
    assert store.store(SHARD, batch[20:]) == stored(inserted=12)


@pytest.mark.parametrize(
    "statement",
    [
        "select id from public.profiles for update",
        "select id from auth.users for update",
        "lock table public.credit_transactions in share mode",
    ],
)
def test_the_lock_holder_is_named_with_a_remedy(
    database_url: str,
    tables: Database,
    store: Sink,
    monkeypatch: pytest.MonkeyPatch,
    statement: str,
) -> None:
    """By its backend, and since when; whoever ends that lets the records become rows."""
    user = tables.user()
    records = user.deducts(3)
    monkeypatch.setattr(module, "CONTENTION_S_MAX", 0.1)
    with psycopg.connect(database_url, application_name="a console") as blocker:
        blocker.execute(statement.encode())
        since = tables.run("select clock_timestamp() as now")[0]["now"]
        wait_for(store.archive.lock_holder, "the lock is a second old")
        with pytest.raises(ShardBlockedError, match=r"a console.*idle in transaction") as caught:
            store.store(SHARD, records)
        assert f"since {since:%Y-%m-%d}" in str(caught.value)
        (terminate,) = re.findall("`(select pg_terminate_backend.*)`", str(caught.value))
        assert str(blocker.info.backend_pid) in terminate
        tables.run(terminate)
        assert store.store(SHARD, records) == stored(inserted=3)
        blocker.close()
    assert store.archive.lock_holder() == ""


def test_a_right_that_is_missing_makes_no_dead_letters(tables: Database, store: Sink) -> None:
    """What is wrong with the database is not the records' fault."""
    user = tables.user()
    tables.run("revoke update (credits) on faregate.balances from faregate_worker")
    with pytest.raises(ArchiveUnavailableError, match="permission denied"):
        store.store(SHARD, user.deducts(2))
    assert tables.dead_letters() == []
    assert tables.rows(user.user_id) == []
