"""Every transcript of docs/runbook.md is what happens on real servers."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from redis import Redis
from rq.suspension import suspend

from durable import Database
from faregate import CreditTransactionId, Settings
from faregate.adapters.journal.writer import FileJournal
from faregate.adapters.redis import keys
from faregate.adapters.redis.values import Account
from faregate.bootstrap import open_api_key_admin, open_audit, open_stream
from faregate.cli.servers import Binaries, EmbeddedValkey
from faregate.domain.api_key import NewApiKey
from faregate.ops.reconcile import reconcile
from faregate_worker.check import beat
from faregate_worker.runtime import open_queue
from journals import entry
from operated import Ledger, erasing
from transcripts import Transcript
from waiting import WAIT_S_MAX, wait_for

pytestmark = [pytest.mark.redis, pytest.mark.postgres, pytest.mark.long]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "runbook.md"
#: What the page calls the user, another one, a charge or hold, and an API key.
USER = "7b1a3a3e-2f61-4f5b-9b0e-6d1c0a1f2e30"
OTHER = "7b1a3a3e-2f61-4f5b-9b0e-6d1c0a1f2e31"
CHARGE, KEY = "0199f5d2-c6a0-7c1e-8f0a-3b5d7e9f1a2b", "0199f5d2c6a07c1e8f0a3b5d7e9f1a2b"
#: A transaction whose locks last so long that they are told of.
LOCK = "select pid from faregate.lock_holder()"
#: Longer than records may wait.
LONG_AGO_MS = 3_600_000

Play: TypeAlias = Callable[..., Transcript]


@pytest.fixture
def ledger(ledger_redis: str, database_url: str, tables: Database) -> Ledger:
    return Ledger(Settings(redis_url=ledger_redis, postgres_url=database_url), tables)


@pytest.fixture
def play(
    ledger: Ledger, binaries: Binaries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Play:
    """Begins the transcript of a section."""
    programs = [str(binaries.postgres), str(Path(sys.executable).parent), os.environ["PATH"]]
    monkeypatch.setenv("PATH", os.pathsep.join(programs))

    def begin(section: str, names: dict[str, str] | None = None) -> Transcript:
        known = {} if names is None else names
        known[USER] = str(ledger.user)
        transcript = Transcript(PAGE, section, tmp_path, known)
        transcript.let(
            FAREGATE_REDIS_URL=ledger.settings.redis_url,
            FAREGATE_POSTGRES_URL=ledger.settings.postgres_url,
        )
        return transcript

    return begin


@contextmanager
def living(ledger: Ledger) -> Iterator[Redis]:
    """A sign of life of a worker, and the Redis of its queue."""
    queue = open_queue(ledger.settings.rq_url, socket_timeout_s=WAIT_S_MAX)
    beat(queue)
    try:
        yield queue.connection
    finally:
        queue.connection.close()


def add_credits(ledger: Ledger, count: int) -> None:
    """Give the user credits as only a hand at Redis can."""
    name = keys.account(ledger.user, ledger.settings.shard_count)
    with Redis.from_url(ledger.settings.redis_url) as redis:
        account = Account.unpack(redis.get(name))
        redis.set(name, replace(account, credits=account.credits + count).pack())


def all_of(transcript: Transcript) -> None:
    """Play a section in which nothing happens between its blocks."""
    while transcript.is_left:
        transcript.play()
    transcript.end()


def test_redis_does_not_answer(play: Play) -> None:
    transcript = play("Redis does not answer")
    transcript.let(FAREGATE_REDIS_URL="redis://127.0.0.1:1/0")
    all_of(transcript)


def test_redis_was_wiped(ledger: Ledger, play: Play) -> None:
    ledger.charge()
    ledger.drain()
    with Redis.from_url(ledger.settings.redis_url) as redis:
        redis.flushall()
    all_of(play("Redis was wiped"))


def test_no_worker_runs(ledger: Ledger, play: Play) -> None:
    """The check says so until one gives a sign of life."""
    ledger.charge()
    transcript = play("No worker runs")
    transcript.play()
    with living(ledger):
        transcript.play()
    transcript.end()


def test_the_queue_is_suspended(ledger: Ledger, play: Play) -> None:
    with living(ledger) as redis:
        suspend(redis)
        all_of(play("The queue is suspended"))


def test_somebody_holds_a_lock(ledger: Ledger, play: Play) -> None:
    """The transaction that the check names is ended, and the record becomes a row."""
    ledger.charge()
    shard = keys.shards(ledger.settings.shard_count)[
        keys.shard_of(ledger.user, ledger.settings.shard_count)
    ]
    with living(ledger) as redis, psycopg.connect(ledger.settings.postgres_url) as blocker:
        # As if the record had come long ago.
        entries: Any = redis.xrange(shard.stream)
        ((place, fields),) = entries
        redis.delete(shard.stream)
        redis.xadd(shard.stream, fields, id=f"{int(place.split(b'-')[0]) - LONG_AGO_MS}-1")
        blocker.execute("select id from public.profiles for update")
        backend = blocker.info.backend_pid
        names = {
            "backend(4242)": f"backend({backend})",
            "backend 4242 ": f"backend {backend} ",
            "shard 7 ": f"shard {shard.number} ",
        }
        wait_for(lambda: ledger.tables.run(LOCK), "the lock is a second old")
        all_of(play("Somebody holds a lock", names))
        with pytest.raises(psycopg.OperationalError):
            blocker.execute("select 1")


def test_postgres_stores_nothing(ledger: Ledger, play: Play) -> None:
    ledger.charge()
    url = ledger.settings.postgres_url
    name = str(psycopg.conninfo.conninfo_to_dict(url)["dbname"])
    with psycopg.connect(url, autocommit=True) as connection:
        query = "alter database {} set default_transaction_read_only = on"
        connection.execute(sql.SQL(query).format(sql.Identifier(name)))
    with living(ledger):
        all_of(play("Postgres stores nothing", {"my_database": name}))
    ledger.drain()


def test_a_user_is_unknown(play: Play) -> None:
    all_of(play("A user is unknown", {OTHER: str(uuid4())}))


def test_numbers_differ(ledger: Ledger, play: Play) -> None:
    """A repair puts the first difference right, and the second is accepted."""
    ledger.charge()
    ledger.drain()
    add_credits(ledger, 1)
    names: dict[str, str] = {}
    transcript = play("Numbers differ", names)
    transcript.play()
    transcript.play()
    add_credits(ledger, 7)
    with open_stream(ledger.settings) as stream, open_audit(ledger.settings) as audit:
        (found,) = reconcile(stream, stream, audit).findings
    names["live-1a2b3c4d"] = found.id
    transcript.play()
    transcript.end()


def test_the_schema_was_changed(ledger: Ledger, play: Play) -> None:
    ledger.charge()
    ledger.drain()
    ledger.tables.run("alter table public.credit_transactions disable row level security")
    all_of(play("The schema was changed"))


def test_dead_letters(ledger: Ledger, play: Play) -> None:
    """One record was refused while others were stored."""
    ledger.tables.run(
        "alter table public.credit_transactions"
        " add constraint no_such_word check (description <> 'gift') not valid"
    )
    ledger.ask(lambda gate: gate.grant(ledger.user, 5, description="gift"))
    ledger.charge()
    ledger.drain()
    all_of(play("Dead letters"))


def test_memory_of_redis(play: Play, own_redis: EmbeddedValkey) -> None:
    with Redis.from_url(own_redis.url) as redis:
        redis.config_set("maxmemory-policy", "allkeys-lru")
        redis.config_set("maxmemory", redis.info("memory")["used_memory"] * 100 // 95)
    transcript = play("Memory of Redis")
    transcript.let(FAREGATE_REDIS_URL=own_redis.url)
    all_of(transcript)


def test_a_charge_for_nothing(ledger: Ledger, play: Play) -> None:
    charge = ledger.charge()
    ledger.drain()
    all_of(play("A charge for nothing", {CHARGE: charge}))


def test_a_wrong_balance(ledger: Ledger, play: Play) -> None:
    ledger.charge()
    ledger.drain()
    all_of(play("A wrong balance"))


def test_an_api_key_leaked(ledger: Ledger, play: Play) -> None:
    key = NewApiKey.mint(ledger.user, "build server", now=datetime.now(UTC))
    with open_api_key_admin(ledger.settings) as admin:
        admin.create(key)
    ledger.charge()
    ledger.drain()
    all_of(play("An API key leaked", {KEY: key.key.id.hex}))


def test_a_hold_does_not_end(ledger: Ledger, play: Play) -> None:
    all_of(play("A hold does not end", {CHARGE: ledger.hold(2)}))


def test_after_an_outage(ledger: Ledger, play: Play, tmp_path: Path) -> None:
    """The second import finds that all is charged."""
    journal = FileJournal(tmp_path / "journals", bytes_max=10_000)
    attempt_id = CreditTransactionId.derive("attempt", ledger.user)
    journal.write(replace(entry(1), user_id=ledger.user, attempt_id=attempt_id))
    journal.close()
    (file,) = (tmp_path / "journals").glob("*.journal")
    all_of(play("After an outage", {"api-1.journal": file.name}))


def test_a_user_wants_to_be_deleted(ledger: Ledger, play: Play) -> None:
    """A worker deletes the keys meanwhile."""
    ledger.charge()
    ledger.drain()
    with erasing(ledger):
        all_of(play("A user wants to be deleted"))


def test_after_an_upgrade(play: Play, empty_database_url: str) -> None:
    transcript = play("After an upgrade")
    transcript.let(FAREGATE_POSTGRES_URL=empty_database_url)
    all_of(transcript)
