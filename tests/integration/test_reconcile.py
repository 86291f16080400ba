"""Streams are read once, and only what is seen twice is a finding."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from redis import Redis

from charging import Charger, drained
from durable import Database, Sink
from faregate.adapters.postgres.audit import PostgresAudit
from faregate.adapters.redis import keys
from faregate.adapters.redis.stream import RedisStream
from faregate.domain.finding import DriftKind, Reconciliation
from faregate.domain.request import Credit
from faregate.domain.transaction import CreditTransactionId, TransactionType
from faregate.domain.user import User
from faregate.ops import pending
from faregate.ops.reconcile import CLOCKS_APART_MAX, reconcile
from faregate.ports import Batch, Cursor
from redis_ledger import KEYS, entries, records_after, set_credits, spend
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


class Wrong:
    def __init__(self, stream: RedisStream, user_id: UUID, times: int) -> None:
        """Read the balance of a user wrongly, so many times."""
        self.stream, self.user_id, self.times = stream, user_id, times

    def read_many(self, user_ids: Sequence[UUID]) -> Mapping[UUID, User]:
        live = dict(self.stream.read_many(user_ids))
        wrong = {one: replace(live[one], credits=77) for one in live if one == self.user_id}
        self.times -= len(wrong)
        return live | wrong if self.times >= 0 else live

    def epochs(self) -> Sequence[int | None]:
        return self.stream.epochs()

    def made_count(self) -> int:
        return self.stream.made_count()

    def closed_count(self) -> int:
        return self.stream.closed_count()

    def left_count(self) -> int:
        return self.stream.left_count()

    def identity_fields(self) -> Mapping[str, str]:
        return self.stream.identity_fields()


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
    set_credits(client, altered, 9)
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
