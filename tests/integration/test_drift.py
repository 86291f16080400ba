"""What a live balance lacks is the same number whatever has become of its records meanwhile."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from charging import CREDITS, Charger, drained
from durable import Database, Sink
from faregate.adapters.postgres.audit import PostgresAudit
from faregate.adapters.postgres.snapshots import PostgresSnapshots
from faregate.adapters.redis import keys
from faregate.adapters.redis.alignments import RedisAccounts
from faregate.adapters.redis.stream import RedisStream
from faregate.adapters.redis.values import Account
from faregate.domain.alignment import Alignment, LiveAccount, LiveDrift
from faregate.domain.errors import LedgerUninitialisedError
from faregate.ops.drift import MEASUREMENTS_MAX, measure
from redis_ledger import KEYS, SHARD, records_after, spend, state, value

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


class Accounts(RedisAccounts):
    """Live accounts that somebody alters each time that they have been read."""

    altered: tuple[Any, UUID] | None = None
    reads = 0

    def read(self, user_ids: Sequence[UUID]) -> Mapping[UUID, LiveAccount]:
        found = super().read(user_ids)
        self.reads += 1
        if self.altered:
            alter(*self.altered, 1)
        return found


@pytest.fixture
def accounts(client: Any) -> Iterator[Accounts]:
    with closing(Accounts(client, 1)) as opened:
        yield opened


@pytest.fixture
def snapshots(audit: PostgresAudit) -> Iterator[PostgresSnapshots]:
    """Postgres of a ledger of one shard, in a role that sees all rows."""
    with closing(PostgresSnapshots(audit)) as opened:
        yield opened


def alter(client: Any, user_id: UUID, amount: int) -> None:
    name = keys.account(user_id, 1)
    account = Account.unpack(value(client, name))
    client.set(name, replace(account, credits=account.credits + amount).pack())


@pytest.mark.parametrize("drains", range(4))
async def test_a_lost_transaction_is_the_same_before_and_after_it_is_a_row(
    drains: int,
    charger: Charger,
    store: Sink,
    stream: RedisStream,
    accounts: Accounts,
    snapshots: PostgresSnapshots,
    client: Any,
) -> None:
    """Pending or stored, and after its numbers were given again."""
    user_id = charger.users[0]
    name = keys.account(user_id, 1)
    kept = value(client, name)
    for _ in range(2):
        await spend(charger.ledger, user_id)
    ids = [made.id.value for one in records_after(stream) if (made := one.transaction)]
    if drains == 1:
        drained(stream, store)
    client.set(name, kept)
    check(measure([user_id], accounts, stream, snapshots)[user_id], ids)
    await spend(charger.ledger, user_id)
    if drains == 2:
        drained(stream, store)
    # Its first number was given again, its second one was not.
    check(measure([user_id], accounts, stream, snapshots)[user_id], ids)
    for _ in range(2):
        await spend(charger.ledger, user_id)
    if drains == 3:
        drained(stream, store)
    drift = measure([user_id], accounts, stream, snapshots)[user_id]
    check(drift, ids)
    assert drift.credits == CREDITS - 3
    assert accounts.align(Alignment.of(drift)).credits == CREDITS - 5
    assert measure([user_id], accounts, stream, snapshots)[user_id].is_zero


def check(drift: LiveDrift, lost: Sequence[UUID]) -> None:
    assert (drift.amount, [one.id for one in drift.lost]) == (-2, lost)
    assert [one.sequence for one in drift.lost] == [2, 3]
    assert drift.sequence_min >= 3


async def test_a_dead_letter_counts_until_it_is_discarded(
    charger: Charger,
    tables: Database,
    store: Sink,
    stream: RedisStream,
    accounts: Accounts,
    snapshots: PostgresSnapshots,
) -> None:
    """And its record in the stream counts not at all."""
    user_id = charger.users[0]
    tables.run("alter table public.credit_transactions add constraint odd check (amount <> -2)")
    await spend(charger.ledger, user_id, 2)
    assert measure([user_id], accounts, stream, snapshots)[user_id].is_zero
    assert drained(stream, store).dead_letters == 1
    assert measure([user_id], accounts, stream, snapshots)[user_id].is_zero
    tables.run("update faregate.dead_letters set discarded_at = now(), discarded_by = 'ann'")
    assert measure([user_id], accounts, stream, snapshots)[user_id].amount == 2
    # Read from the beginning, where it still lies.
    await charger.charge()
    drained(stream, store)
    stream._client.ask(None, "XDEL", KEYS.stream, store.archive.cursors()[SHARD].position)
    assert measure([user_id], accounts, stream, snapshots)[user_id].amount == 2


async def test_users_are_measured_together_however_many_records_there_are(
    charger: Charger,
    stream: RedisStream,
    accounts: Accounts,
    snapshots: PostgresSnapshots,
    client: Any,
) -> None:
    """And a user that Postgres does not know is left out."""
    await charger.charge()
    unknown = UUID(int=5)
    for number, user_id in enumerate(charger.users):
        alter(client, user_id, number)
    client.delete(keys.account(charger.users[0], 1))
    found = measure([*charger.users, unknown], accounts, stream, snapshots)
    assert {user_id: drift.amount for user_id, drift in found.items()} == {
        charger.users[0]: CREDITS - 1,
        **{user_id: -number for number, user_id in enumerate(charger.users) if number},
    }


async def test_measurements_that_never_agree_are_no_drift(
    charger: Charger,
    stream: RedisStream,
    accounts: Accounts,
    snapshots: PostgresSnapshots,
    client: Any,
) -> None:
    """The other user has one nevertheless."""
    changing, wrong = charger.users[:2]
    alter(client, wrong, 4)
    accounts.altered = client, changing
    found = await asyncio.to_thread(measure, [changing, wrong], accounts, stream, snapshots)
    assert {user_id: drift.amount for user_id, drift in found.items()} == {wrong: -4}
    assert accounts.reads == MEASUREMENTS_MAX


async def test_nothing_is_measured_in_another_epoch(
    charger: Charger,
    stream: RedisStream,
    accounts: Accounts,
    snapshots: PostgresSnapshots,
    client: Any,
) -> None:
    """Redis was wiped, or is of a history that is over: rebuild it."""
    client.set(KEYS.state, replace(state(client), epoch=2).pack())
    with pytest.raises(LedgerUninitialisedError, match="epoch 2 where Postgres expects 1"):
        measure(charger.users, accounts, stream, snapshots)
    client.delete(KEYS.state)
    with pytest.raises(LedgerUninitialisedError, match="wiped"):
        measure(charger.users, accounts, stream, snapshots)
