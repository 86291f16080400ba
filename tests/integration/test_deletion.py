"""A user who is deleted: nothing is left of it, in any table, key or file, and nothing returns."""

import os
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from billing import add
from clocks import Seconds
from durable import Database, Sink, as_role
from faregate import CreditPolicy, Gate, PolicySet, RateLimit, Settings, Verdict, build_gate
from faregate.adapters.journal.reader import IMPORTED_LIFETIME_S, open_journals
from faregate.adapters.journal.writer import FileJournal
from faregate.adapters.postgres.api_keys import PostgresApiKeyAdmin
from faregate.adapters.postgres.archive import PostgresArchive
from faregate.adapters.redis.alignments import RedisAccounts
from faregate.adapters.redis.stream import RedisStream
from faregate.domain.alignment import Alignment, LiveDrift
from faregate.domain.api_key import NewApiKey
from faregate.domain.journal import Collection
from faregate.domain.transaction import CreditTransactionId
from faregate.ops.erasure import DELETIONS_INTERVAL_S, GRACE_S, Erasure
from faregate.ops.journal import import_journals
from faregate_worker.drain import DrainLimits, drain
from journals import entry
from traces import traces_in_files, traces_in_redis, traces_in_tables
from waiting import WAIT_S_MAX

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

SHARD = 7
PERSONAL_TABLES = {
    *("auth.users", "public.profiles", "public.credit_transactions"),
    *("faregate.api_keys", "faregate.dead_letters", "faregate.orders"),
}
LIMITS = DrainLimits(batch_size_max=1_000, seconds_max=WAIT_S_MAX)
POLICIES = PolicySet(
    tiers={
        "default": CreditPolicy(
            limits=(RateLimit(name="by key", count=9, period_ms=600_000, is_by_key=True),)
        ),
        "observed": CreditPolicy(name="observed", is_shadow=True),
    }
)
KEEP_LETTER = """
insert into faregate.dead_letters
(shard, stream_id, kind, reason, payload, payload_digest, transaction_id, user_id, amount)
values (0, %s, %s, %s, %s::bytea, sha256(%s::bytea), gen_random_uuid(), %s, -1)
"""


@dataclass(slots=True)
class Ledger:
    """Both servers, a gate, and what the worker works with."""

    settings: Settings
    tables: Database
    client: Any
    gate: Gate
    #: It deletes each record as soon as it is a row.
    stream: RedisStream
    archive: PostgresArchive
    clock: Seconds
    erasure: Erasure

    async def use(self, user_id: UUID) -> None:
        """Leave something of a user in every place that there is."""
        gate, given = self.gate, CreditTransactionId.mint(int(time.time() * 1_000))
        await gate.grant(user_id, 100, idempotency_key="payment")
        keyed = await gate.charge(user_id, idempotency_key="order", limit_key="member")
        assert await gate.complete(keyed, b"a response")
        partly = await gate.charge(user_id, cost=5, transaction_id=given)
        await gate.refund(partly, amount=2)
        await gate.settle(await gate.hold(user_id, 3), 2)
        await gate.charge(user_id, tier="observed")
        assert (await gate.hold(user_id, 4, idempotency_key="job")).allowed
        self.align(user_id)
        key = NewApiKey.mint(user_id, "of a test", now=datetime.now(UTC))
        with closing(PostgresApiKeyAdmin(self.settings.postgres_url)) as admin:
            admin.create(key)
        add(self.tables, user_id, 1)
        payload = b"bytes " + user_id.bytes
        for kind, whose in (("refused", user_id), ("unreadable", None)):
            place, reason = f"{user_id.int}-{kind == 'refused':d}", f"of {user_id}"
            self.tables.run(KEEP_LETTER, place, kind, reason, payload, payload, whose)

    def align(self, user_id: UUID) -> None:
        """Correct the balance of a user, by nothing."""
        url, shard_count = self.settings.redis_url, self.settings.shard_count
        with closing(RedisAccounts.from_url(url, shard_count)) as accounts:
            account = accounts.read([user_id])[user_id]
            drift = LiveDrift(account=account, amount=0, allowance_amount=0, sequence_min=0)
            assert accounts.align(Alignment.of(drift)).is_done

    def drain(self) -> None:
        for shard in range(self.stream.shard_count):
            drain(self.stream, self.archive, shard, limits=LIMITS)

    def erase(self) -> int:
        """Work until somebody is erased; return for how many seconds."""
        began = self.clock()
        while self.erasure.check_deletions() == 0:
            self.clock.advance(DELETIONS_INTERVAL_S)
            assert self.clock() - began < WAIT_S_MAX
        return round(self.clock() - began)

    def look_in_vain(self) -> None:
        """Work for as long as the keys of users need, and erase nobody."""
        for _ in range(2 * round(GRACE_S)):
            assert self.erasure.check_deletions() == 0
            self.clock.advance(DELETIONS_INTERVAL_S)

    def traces(self, user_id: UUID) -> tuple[set[str], set[str], set[str]]:
        """Where an id is left."""
        folder = Path(self.settings.journal_dir)
        return (
            traces_in_tables(self.tables, user_id),
            traces_in_redis(self.client, user_id),
            traces_in_files(folder, user_id),
        )


@pytest.fixture
async def ledger(
    ledger_redis: str, database_url: str, tables: Database, client: Any, tmp_path: Path
) -> AsyncIterator[Ledger]:
    """A ledger in the roles of its processes, which creates users at their first request."""
    api = as_role(database_url, "faregate_api")
    settings = Settings(
        redis_url=ledger_redis,
        postgres_url=database_url,
        provision_users=True,
        journal_dir=str(tmp_path),
    )
    gate = build_gate(settings.model_copy(update={"postgres_url": api}), POLICIES)
    clock = Seconds()
    with (
        closing(RedisStream.from_url(ledger_redis, settings.shard_count, stored_ms=0)) as stream,
        closing(PostgresArchive(as_role(database_url, "faregate_worker"))) as archive,
    ):
        await gate.start()
        erasure = Erasure(stream.user_keys, archive, clock)
        yield Ledger(settings, tables, client, gate, stream, archive, clock, erasure)
        await gate.aclose()


def let_it_grow_old(folder: Path) -> None:
    (path,) = folder.glob("*.imported")
    os.utime(path, (time.time() - IMPORTED_LIFETIME_S - 60,) * 2)


def delete(tables: Database, user_id: UUID) -> None:
    tables.run("delete from auth.users where id = %s", user_id)


async def test_nothing_is_left_of_a_deleted_user(ledger: Ledger) -> None:
    """Tables, keys, values and the journal, walked from the catalogues; others lose nothing."""
    gone, here = (user.user_id for user in ledger.tables.users(2))
    folder = Path(ledger.settings.journal_dir)
    journal = FileJournal(folder, bytes_max=1 << 20)
    for user_id in (gone, here):
        await ledger.use(user_id)
        attempt_id = CreditTransactionId.mint(int(time.time() * 1_000))
        journal.write(replace(entry(), attempt_id=attempt_id, user_id=user_id))
    journal.close()
    ledger.drain()
    for user_id in (gone, here):
        assert (await ledger.gate.charge(user_id)).allowed
    everywhere = (PERSONAL_TABLES, {*"uvwkdie", ":tx", ":holds"}, {".journal"})
    assert ledger.traces(gone) == ledger.traces(here) == everywhere

    delete(ledger.tables, gone)
    assert traces_in_tables(ledger.tables, gone) == {"faregate.deletions"}
    # What was pending is counted without a person.
    ledger.look_in_vain()
    # The keys are gone, and the id stays until its records have been read.
    assert traces_in_redis(ledger.client, gone) == {":tx"}
    ledger.drain()
    assert ledger.erasure.check_deletions() == 1
    with open_journals([folder]) as files:
        result = await import_journals(ledger.gate, files)
    assert result.outcomes == {Collection.UNKNOWN_USER: 1, Collection.COLLECTED: 1}
    let_it_grow_old(folder)
    with open_journals([folder]) as files:
        assert files == []
    ledger.drain()

    assert ledger.traces(gone) == (set(), set(), set())
    # A kept response names nobody, and is of somebody: the other user's is left.
    assert (
        len([name for name in ledger.client.scan_iter() if name.partition(b"}")[2][:1] == b"r"])
        == 1
    )
    assert ledger.traces(here) == (PERSONAL_TABLES, {*"uvwkdie", ":holds"}, set())
    kinds = sorted(letter["kind"] for letter in ledger.tables.dead_letters())
    assert kinds == ["deleted_user", *["refused"] * 2, *["unreadable"] * 2]


async def test_a_token_that_is_still_valid_does_not_bring_a_deleted_user_back(
    ledger: Ledger,
) -> None:
    """Before its keys are gone, afterwards, and where users are made at their first request."""
    user_id = ledger.tables.user().user_id
    assert (await ledger.gate.charge(user_id)).allowed
    delete(ledger.tables, user_id)
    # The worker has not looked yet.
    assert (await ledger.gate.charge(user_id)).allowed
    assert ledger.erasure.check_deletions() == 0
    assert (await ledger.gate.charge(user_id)).verdict is Verdict.UNKNOWN_USER
    ledger.drain()
    ledger.erase()
    assert (await ledger.gate.charge(user_id)).verdict is Verdict.UNKNOWN_USER
    assert (await ledger.gate.balance(user_id)) is None
    assert ledger.traces(user_id) == (set(), set(), set())

    ledger.tables.run("update faregate.deletions set deleted_at = now() - interval '31 days'")
    other = ledger.tables.user().user_id
    delete(ledger.tables, other)
    ledger.erase()
    assert len(ledger.tables.run("select 1 from faregate.deletions")) == 1
    assert (await ledger.gate.charge(user_id)).allowed


async def test_a_user_is_made_again_once_it_is_erased_and_not_before(ledger: Ledger) -> None:
    """The account in Redis would be that of before. Afterwards the balance is a new one."""
    user_id = ledger.tables.user().user_id
    assert (await ledger.gate.charge(user_id, cost=2)).credits == 1
    delete(ledger.tables, user_id)
    again = "insert into auth.users (id) values (%s)"
    for _ in range(2):
        with pytest.raises(psycopg.errors.ObjectInUse, match="is being erased"):
            ledger.tables.run(again, user_id)
        assert ledger.erasure.check_deletions() == 0
    ledger.drain()
    ledger.erase()
    ledger.tables.run(again, user_id)
    assert (await ledger.gate.charge(user_id)).credits == 2
    ledger.drain()
    assert ledger.tables.is_exact()


async def test_an_overwritten_key_does_not_block_erasures(ledger: Ledger) -> None:
    """Those that cannot be read are deleted by their names; the others as always."""
    first, second = (user.user_id for user in ledger.tables.users(2))
    for user_id in (first, second):
        await ledger.use(user_id)
    for name in ledger.client.scan_iter():
        if name.endswith(b":holds") or (
            name.partition(b"}")[2][:1] == b"k" and name.endswith(first.bytes)
        ):
            ledger.client.set(name, b"by hand")
    for user_id in (first, second):
        delete(ledger.tables, user_id)
    ledger.drain()
    ledger.erase()
    assert [traces_in_redis(ledger.client, user_id) for user_id in (first, second)] == [set()] * 2


def test_a_record_that_is_read_again_stays_one_dead_letter(tables: Database, store: Sink) -> None:
    """It is known by its digest, though its bytes are gone."""
    user = tables.user()
    refused, late = user.record(-1, description="\0"), user.record(-1)
    store.store(SHARD, [refused])
    delete(tables, user.user_id)
    for _ in range(2):
        assert store.store(SHARD, [refused, late]).dead_letters == 2
    letters = tables.dead_letters()
    assert [letter["kind"] for letter in letters] == ["refused", "deleted_user"]
    assert {(letter["payload"], letter["reason"]) for letter in letters} == {
        (b"", "the user was deleted")
    }


def test_a_dead_letter_that_is_stored_during_the_deletion_is_scrubbed_by_the_worker(
    tables: Database, database_url: str
) -> None:
    """Neither transaction saw the other; the erasure waits for the one that keeps it."""
    user_id = tables.user().user_id
    parameters = "1-0", "refused", f"of {user_id}", user_id.bytes, user_id.bytes, user_id
    with (
        psycopg.connect(database_url) as keeping,
        closing(PostgresArchive(as_role(database_url, "faregate_worker"))) as archive,
        ThreadPoolExecutor(1) as other,
    ):
        keeping.execute(KEEP_LETTER, parameters)
        delete(tables, user_id)
        noting = other.submit(archive.note_erased, [user_id])
        tables.wait_for_lock("faregate drain")
        keeping.commit()
        noting.result(WAIT_S_MAX)
    assert traces_in_tables(tables, user_id) == set()
