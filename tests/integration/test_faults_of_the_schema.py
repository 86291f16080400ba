"""Whose fault a refusal is: that of a record, which becomes a dead letter, or of the database."""

from contextlib import closing

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from durable import Database, ListedBatch, Sink, archive, as_role, stored
from faregate.adapters.postgres import archive as module
from faregate.adapters.postgres.access import check_worker
from faregate.adapters.postgres.accounts import PostgresAccounts
from faregate.adapters.postgres.audit import PostgresAudit
from faregate.adapters.postgres.migrations import Migrator
from faregate.cli.servers import EmbeddedServers
from faregate.domain.errors import (
    ArchiveUnavailableError,
    ConfigurationError,
    HiddenRowsError,
    ShardBlockedError,
    UnfitDatabaseError,
)
from servers import administer

pytestmark = [pytest.mark.postgres, pytest.mark.long]

SHARD = 7
ADD_CHECK = "alter table public.credit_transactions add constraint added check ({}) not valid"
#: What was done to the database, and what is said of it.
FAULTS = {
    "revoked": (
        "revoke insert on public.credit_transactions from faregate_worker",
        "permission denied.*lacks a right",
    ),
    "read-only": (
        "alter database {} set default_transaction_read_only = on",
        "read-only transaction.*a standby, or default_transaction_read_only",
    ),
    "no batches": ("drop table faregate.batches", "does not exist.*run `faregate migrate`"),
}


@pytest.mark.parametrize(("count", "users"), [(1, 1), (30, 3), (600, 3)])
@pytest.mark.parametrize(
    "fault",
    [
        ADD_CHECK.format("description <> 'request' and description <> 'GET /'"),
        "create trigger a_fault before insert on public.credit_transactions"
        " for each row execute function public.refuse()",
    ],
    ids=["check", "trigger"],
)
def test_a_schema_that_refuses_every_record_makes_no_dead_letters(
    tables: Database, store: Sink, fault: str, count: int, users: int
) -> None:
    """Be it one record or many; and all is stored once it is put right."""
    tables.run(
        "create function public.refuse() returns trigger language plpgsql as"
        " $$ begin raise exception 'closed'; end $$"
    )
    records = [record for user in tables.users(users) for record in user.deducts(count // users)]
    tables.run(fault)
    with pytest.raises(ShardBlockedError, match="the schema refuses every record of shard 7"):
        store.store(SHARD, records)
    assert (tables.dead_letters(), store.archive.cursors()) == ([], {})
    tables.run("drop trigger if exists a_fault on public.credit_transactions")
    tables.run("alter table public.credit_transactions drop constraint if exists added")
    assert store.store(SHARD, records) == stored(inserted=len(records))


def test_a_record_is_at_fault_where_a_usual_one_passes(tables: Database, store: Sink) -> None:
    """Alone in its batch, too; of the record that was tried nothing is left."""
    tables.run(ADD_CHECK.format("amount > -5"))
    user = tables.user()
    assert store.store(SHARD, [user.record(-9)]) == stored(dead_letters=1)
    assert (len(tables.rows(user.user_id)), tables.profile(user.user_id)) == (0, (3, 1))


def test_many_refused_records_are_stored_in_bounded_batches(
    tables: Database, store: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is found by halving, so a batch with some of them is cut."""
    monkeypatch.setattr(module, "DEAD_LETTERS_A_MINUTE_MAX", 2_000)
    user = tables.user()
    batch = [user.record(-1, description="\0" if n % 2 else "GET /") for n in range(1_000)]
    assert store.store(SHARD, batch) == stored(inserted=500, dead_letters=500)
    counts = tables.run("select record_count from faregate.batches order by number")
    assert [row["record_count"] for row in counts] == [256, 256, 256, 232]
    assert tables.is_exact()


def test_too_many_dead_letters_in_a_minute_stop_a_shard(
    tables: Database, store: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until a minute later; those of deleted users do not count, and other shards go on."""
    monkeypatch.setattr(module, "DEAD_LETTERS_A_MINUTE_MAX", 20)
    user, gone, other = tables.users(3)
    tables.run("delete from auth.users where id = %s", gone.user_id)
    assert store.store(SHARD, gone.deducts(50)) == stored(dead_letters=50, gone=[gone.user_id])
    refused = [user.record(-1, description="\0") for _ in range(20)]
    assert store.store(SHARD, refused).dead_letters == 20
    late = [user.record(-1, description="\0")]
    with pytest.raises(ShardBlockedError, match="21 of its records would be dead letters"):
        store.store(SHARD, late)
    assert store.store(SHARD + 1, other.deducts(1)) == stored(inserted=1)
    tables.run("update faregate.dead_letters set created_at = now() - interval '61 seconds'")
    assert store.store(SHARD, late) == stored(dead_letters=1)


@pytest.mark.parametrize(("fault", "said"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_of_the_database_leaves_records_pending_and_names_the_remedy(
    database_url: str, tables: Database, fault: str, said: str
) -> None:
    """Also where nothing is pending yet, by a rehearsal."""
    name = tables.run("select current_database() as name")[0]["name"]
    batch = ListedBatch(SHARD, tables.user().deducts(1))
    tables.run(fault.format(name))
    with archive(database_url) as rows:
        with pytest.raises(ArchiveUnavailableError, match=said) as found:
            rows.archive.store(batch)
        assert not isinstance(found.value, ShardBlockedError)
        with pytest.raises((ArchiveUnavailableError, ConfigurationError)):
            rows.archive.check_writes()
    assert tables.dead_letters() == []


def test_a_rehearsal_leaves_nothing(tables: Database, store: Sink) -> None:
    """It says nothing where all is well."""
    store.archive.check_writes()
    assert store.archive.cursors() == {}
    assert tables.dead_letters() == []


async def test_the_database_speaks_utf8(servers: EmbeddedServers) -> None:
    """Another encoding could not hold what requests say; it is refused by all, before all else."""
    name = "latin"
    administer(
        servers,
        "create database {} encoding 'LATIN1' lc_collate 'C' lc_ctype 'C' template template0",
        name,
    )
    url = servers.postgres.database_url(name)
    with pytest.raises(UnfitDatabaseError, match="encoding LATIN1; Faregate needs UTF8"):
        Migrator(url).apply()
    with pytest.raises(ConfigurationError, match="Faregate needs UTF8"):
        check_worker(url)
    accounts = PostgresAccounts(url)
    with pytest.raises(ConfigurationError, match="Faregate needs UTF8"):
        await accounts.identity()
    await accounts.aclose()
    administer(servers, "drop database {}", name)


@pytest.fixture
def unusual(database_url: str, tables: Database) -> str:
    """A database with unusual forms of dates, times and text."""
    name = tables.run("select current_database() as name")[0]["name"]
    for setting in (
        "datestyle = 'German'",
        "intervalstyle = 'sql_standard'",
        "timezone = 'Asia/Kathmandu'",
        "client_encoding = 'LATIN1'",
    ):
        tables.run(f"alter database {name} set {setting}")
    return database_url


def test_unusual_settings_of_a_database_change_nothing(unusual: str) -> None:
    """Rows, cursors, audits and migrations are the same."""
    with psycopg.connect(
        unusual, autocommit=True, options="-c datestyle=ISO", client_encoding="UTF8"
    ) as connection:
        tables = Database(connection)
        user = tables.user()
        with archive(unusual) as rows:
            deduct = user.record(-1, description="Grüße €")
            assert rows.store(SHARD, [deduct]) == stored(inserted=1)
        (row,) = tables.rows(user.user_id)
        assert deduct.transaction is not None
        assert row["timestamp"] == deduct.transaction.timestamp
    with closing(PostgresAudit(as_role(unusual, "faregate_worker"))) as audit:
        assert audit.verify() == []
    assert Migrator(unusual).apply() == []
    assert all(status.applied_at for status in Migrator(unusual).status())


def test_a_role_that_does_not_see_all_rows_gets_an_error(
    database_url: str, tables: Database
) -> None:
    """That all agrees, or that something is lost, would both be wrong."""
    tables.run("create role blind_auditor login")
    tables.run("grant pg_read_all_data to blind_auditor")
    try:
        with closing(PostgresAudit(make_conninfo(database_url, user="blind_auditor"))) as audit:
            for ask in (audit.identity, audit.verify):
                with pytest.raises(HiddenRowsError, match="lacks: select on rows"):
                    ask()
    finally:
        tables.run("drop owned by blind_auditor")
        tables.run("drop role blind_auditor")


def test_a_new_owner_is_settled_by_the_next_migration(
    own_servers: EmbeddedServers,
) -> None:
    """As after REASSIGN OWNED: until then it is told, and after it the owner stores and audits."""
    url = own_servers.postgres_url
    with psycopg.connect(url, autocommit=True) as admin:
        for role in ("first_owner", "next_owner"):
            admin.execute(f"create role {role} login createrole".encode())
        admin.execute("create database owned owner first_owner")
    first = make_conninfo(url, user="first_owner", dbname="owned")
    following = make_conninfo(url, user="next_owner", dbname="owned")
    Migrator(first).apply()
    with psycopg.connect(make_conninfo(url, dbname="owned"), autocommit=True) as admin:
        user = Database(admin).user()
        admin.execute("reassign owned by first_owner to next_owner")
    with closing(PostgresAudit(following)) as audit:
        with pytest.raises(HiddenRowsError, match="lacks: select on rows"):
            audit.verify()
        with (
            closing(module.PostgresArchive(following)) as rows,
            pytest.raises(ConfigurationError, match=r"lacks: select on rows.*insert on rows"),
        ):
            rows.check_writes()
        assert Migrator(following).apply() == []
        assert audit.verify() == []
    with closing(module.PostgresArchive(following)) as rows:
        assert Sink(rows, following).store(SHARD, user.deducts(1)) == stored(inserted=1)
