"""Streams are read once, only what is seen twice is a finding, and runs go on from one another."""

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from redis import Redis

from charging import Charger, drained
from durable import Database, Sink, as_role
from faregate.adapters.postgres.audit import PostgresAudit
from faregate.adapters.postgres.reconciliations import PostgresReconciliations
from faregate.adapters.redis import keys
from faregate.adapters.redis.stream import RedisStream
from faregate.adapters.redis.values import Account
from faregate.cli.app import main
from faregate.domain.finding import DriftKind, Reconciliation
from faregate.domain.request import Credit
from faregate.domain.transaction import CreditTransactionId, TransactionType
from faregate.domain.user import User
from faregate.ops import pending
from faregate.ops.reconcile import CLOCKS_APART_MAX, reconcile
from faregate.ports import Batch, Cursor
from redis_ledger import IDENTITY, KEYS, entries, records_after, spend, value
from waiting import WAIT_S_MAX

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

PAGE = 3


class Counted(RedisStream):
    """Counts the records that are read, and lets something happen between two readings."""

    records_read = 0

    def read(self, shard: int, cursor: Cursor | None, count_max: int) -> Batch | None:  # type: ignore[override]
        batch = super().read(shard, cursor, count_max)
        self.records_read += batch.count if batch else 0
        return batch


@pytest.fixture
def stream(ledger_redis: str) -> Iterator[Counted]:
    with closing(Counted.from_url(ledger_redis, 1)) as made:
        yield made


@pytest.fixture
def audit(database_url: str, tables: Database) -> Iterator[PostgresAudit]:
    """A ledger of one shard."""
    tables.run("update faregate.ledger set shard_count = 1, ledger_id = %s", IDENTITY.ledger_id)
    with closing(PostgresAudit(as_role(database_url, "faregate_worker"))) as opened:
        yield opened


class Wrong:
    """Live balances of which one is read wrongly, so many times."""

    def __init__(self, stream: RedisStream, user_id: UUID, times: int) -> None:
        self.stream, self.user_id, self.times = stream, user_id, times

    def read_many(self, user_ids: Sequence[UUID]) -> Mapping[UUID, User]:
        live = dict(self.stream.read_many(user_ids))
        if self.user_id in live and self.times:
            self.times -= 1
            live[self.user_id] = replace(live[self.user_id], credits=77)
        return live

    def epochs(self) -> Sequence[int | None]:
        return self.stream.epochs()

    def closed_count(self) -> int:
        return self.stream.closed_count()

    def left_count(self) -> int:
        return self.stream.left_count()

    def identity_fields(self) -> Mapping[str, str]:
        return self.stream.identity_fields()


def alter(client: Redis, user_id: UUID, credits_: int) -> None:
    """Write to Redis past the scripts."""
    name = keys.account(user_id, 1)
    client.set(name, replace(Account.unpack(value(client, name)), credits=credits_).pack())


def found(result: Reconciliation) -> list[tuple[DriftKind, UUID | None]]:
    return [(finding.kind, finding.user_id) for finding in result.findings]


async def test_each_record_is_read_once_however_many_pages_of_users_there_are(
    charger: Charger, store: Sink, stream: Counted, audit: PostgresAudit
) -> None:
    """What is a row already is not read at all."""
    await charger.charge()
    drained(stream, store)
    for _ in range(2):
        await charger.charge()
    stream.records_read = 0
    result = reconcile(stream, stream, audit, page_size_max=PAGE)
    assert (result.findings, result.users_count, result.pending_count) == ([], 10, 20)
    assert stream.records_read == 20


async def test_records_that_come_and_become_rows_meanwhile_count_once(
    charger: Charger, store: Sink, stream: Counted, audit: PostgresAudit, client: Redis
) -> None:
    """All users are charged before and after live balances are read, and then all is stored."""
    loop, writer, pages = asyncio.get_running_loop(), RedisStream(client, 1), 0

    def charge() -> None:
        asyncio.run_coroutine_threadsafe(charger.charge(), loop).result(WAIT_S_MAX)

    class Busy(Wrong):
        def read_many(self, user_ids: Sequence[UUID]) -> Mapping[UUID, User]:
            nonlocal pages
            pages += 1
            charge()
            live = self.stream.read_many(user_ids)
            charge()
            if pages % 2:
                drained(writer, store)
            return live

    for user_id in charger.users:
        credit = Credit(
            user_id=user_id,
            transaction_id=CreditTransactionId.derive("test", user_id),
            type=TransactionType.ADD,
            amount=100,
            description="enough",
        )
        assert (await charger.ledger.credit(credit)).allowed
    busy = Busy(stream, charger.users[0], 0)
    result = await asyncio.to_thread(reconcile, stream, busy, audit, page_size_max=PAGE)
    assert (result.findings, pages) == ([], 4)
    assert stream.pending_count() == 20


async def test_a_difference_that_is_seen_once_is_no_finding(
    charger: Charger, stream: Counted, audit: PostgresAudit
) -> None:
    """A number that is right a moment later was caught in a change, not wrong."""
    await charger.charge()
    user_id = charger.users[4]
    once = reconcile(stream, Wrong(stream, user_id, 1), audit, page_size_max=PAGE)
    assert once.findings == []
    twice = reconcile(stream, Wrong(stream, user_id, 2), audit, page_size_max=PAGE)
    (finding,) = twice.findings
    assert (finding.kind, finding.user_id, finding.sequence) == (DriftKind.LIVE, user_id, 2)
    assert (finding.expected, finding.found) == (2, 77)


async def test_records_for_which_there_is_no_room_are_read_anew(
    charger: Charger, stream: Counted, audit: PostgresAudit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More may come during a long reconciliation than memory holds; it stays exact."""
    monkeypatch.setattr(pending, "COUNT_MAX", -100)
    await charger.charge()
    await charger.charge()
    result = reconcile(stream, stream, audit, page_size_max=PAGE)
    assert (result.findings, result.users_count) == ([], 10)
    assert stream.records_read > 20


async def test_each_kind_is_found_of_its_user_alone(
    charger: Charger,
    tables: Database,
    store: Sink,
    stream: Counted,
    audit: PostgresAudit,
    client: Redis,
) -> None:
    """Altered live balances, lost ones, an altered profile, a pending record that is gone."""
    await charger.charge()
    drained(stream, store)
    altered, dropped, lost, profile = (charger.users[place] for place in (1, 4, 5, 8))
    alter(client, altered, 9)
    client.delete(keys.account(lost, 1))
    await spend(charger.ledger, dropped)
    client.xdel(KEYS.stream, entries(client)[-1][0])
    tables.run("update public.profiles set credits = 99 where id = %s", profile)
    result = reconcile(stream, stream, audit, page_size_max=PAGE)
    assert found(result) == [
        (DriftKind.LIVE, altered),
        (DriftKind.LIVE, dropped),
        (DriftKind.BEHIND, lost),
        (DriftKind.PROJECTION, profile),
    ]
    assert [finding.sequence for finding in result.findings] == [2, 3, 2, 2]
    numbers = [(finding.expected, finding.found) for finding in result.findings]
    assert numbers == [(2, 9), (2, 1), (2, None), (2, 99)]
    assert result.drift_users_count == 4


async def test_only_users_with_newer_rows_are_compared_since_the_last_time(
    charger: Charger, tables: Database, store: Sink, stream: Counted, audit: PostgresAudit
) -> None:
    """What was pending then is compared once it is a row; who has drift stays in."""
    await charger.charge()
    drained(stream, store)
    idle = charger.users[:7]
    tables.run("set session_replication_role = replica")
    tables.run(
        "update public.credit_transactions set timestamp = timestamp - interval '1 hour'"
        " where user_id = any(%s::uuid[])",
        idle,
    )
    tables.run("set session_replication_role = origin")
    first = reconcile(stream, stream, audit)
    assert (first.users_count, first.since) == (10, None)
    assert first.next_since is not None
    assert first.began_at - timedelta(minutes=6) < first.next_since < first.began_at
    second = reconcile(stream, stream, audit, since=first.next_since, page_size_max=PAGE - 1)
    assert (second.users_count, second.since, second.findings) == (3, first.next_since, [])
    tables.run("update public.profiles set credits = 99 where id = %s", charger.users[9])
    third = reconcile(stream, stream, audit, since=second.next_since)
    assert found(third) == [(DriftKind.PROJECTION, charger.users[9])]
    assert third.next_since == second.next_since


async def test_the_next_one_begins_with_what_is_pending_now(
    charger: Charger, stream: Counted, audit: PostgresAudit
) -> None:
    """A backlog may be stored long after its transactions were made."""
    await charger.charge()
    oldest = min(
        one.transaction.timestamp for one in records_after(stream) if one.transaction is not None
    )
    result = reconcile(stream, stream, audit)
    assert result.next_since == oldest - CLOCKS_APART_MAX


async def test_the_command_saves_its_result_and_continues_from_there(
    charger: Charger,
    tables: Database,
    audit: PostgresAudit,
    client: Redis,
    ledger_redis: str,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One row a run, with counts and findings."""
    await charger.charge()
    monkeypatch.setenv("FAREGATE_REDIS_URL", ledger_redis)
    monkeypatch.setenv("FAREGATE_POSTGRES_URL", database_url)
    monkeypatch.setenv("FAREGATE_SHARD_COUNT", "1")

    def run(*words: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["faregate", "reconcile", "--json", *words])
        with pytest.raises(SystemExit) as caught:
            main()
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert caught.value.code == (1 if told["findings"] else 0)
        return told

    whole = run("--since-last")
    assert (whole["users"], whole["pending"], "since" in whole) == (10, 10, False)
    assert "since" in run("--since-last")
    alter(client, charger.users[2], 9)
    (finding,) = run()["findings"]
    assert (finding["kind"], finding["user_id"]) == ("live", str(charger.users[2]))
    assert (finding["sequence"], finding["expected"], finding["found"]) == (2, 2, 9)
    first, second, third = tables.run("select * from faregate.reconciliations order by id")
    assert (first["since"], first["user_count"], first["finding_counts"]) == (None, 10, {})
    assert second["since"] == first["next_since"] is not None
    assert (third["finding_counts"], third["findings"]) == ({"live": 1}, [finding])
    assert (third["drift_user_count"], third["pending_count"]) == (1, 10)
    assert third["next_since"] is None
    assert third["began_at"] <= third["ended_at"] <= datetime.now(UTC)


async def test_stored_findings_of_a_deleted_user_are_deleted(
    charger: Charger,
    tables: Database,
    stream: Counted,
    audit: PostgresAudit,
    client: Redis,
    database_url: str,
) -> None:
    """Nothing of it is left; the counts stay, and so do the findings of others."""
    gone, other = charger.users[2], charger.users[6]
    for user_id in (gone, other):
        alter(client, user_id, 9)
    with closing(PostgresReconciliations(database_url)) as reconciliations:
        reconciliations.save(reconcile(stream, stream, audit))
    tables.run("delete from auth.users where id = %s", gone)
    (run,) = tables.run("select finding_counts, findings from faregate.reconciliations")
    assert run["finding_counts"] == {"live": 2}
    assert [finding["user_id"] for finding in run["findings"]] == [str(other)]
