"""A ledger under load, and what an operator has at hand who corrects it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from redis import Redis

from durable import Database, database
from faregate.adapters.postgres.audit import PostgresAudit
from faregate.adapters.postgres.snapshots import PostgresSnapshots
from faregate.adapters.redis import keys
from faregate.adapters.redis.alignments import RedisAccounts
from faregate.adapters.redis.stream import RedisStream
from faregate.adapters.redis.values import Account
from faregate.domain.alignment import (
    Aligned,
    Alignment,
    AlignmentOutcome,
    AlignmentRecord,
    LiveAccount,
    LiveDrift,
)
from faregate.domain.finding import Finding
from faregate.domain.transaction import TransactionType
from faregate.ops.drift import measure
from faregate.ops.reconcile import reconcile
from live_load import GRANTED, Callers, draining
from redis_ledger import value
from waiting import WAIT_S_MAX, wait_for

SHARDS = 4
USERS = 8
STARTING = 3
RECORD = AlignmentRecord(
    type=TransactionType.ADMIN_ADJUSTMENT, description="found", metadata={"actor": "ann"}
)


class Busy(RedisAccounts):
    """Lets something happen right after accounts were read."""

    then: Callable[[], None] | None = None

    def read(self, user_ids: Sequence[UUID]) -> Mapping[UUID, LiveAccount]:
        found = super().read(user_ids)
        if self.then:
            self.then()
        return found


@dataclass(slots=True)
class Rig:
    """A ledger under load, and what an operator has at hand."""

    client: Any
    tables: Database
    stream: RedisStream
    accounts: Busy
    audit: PostgresAudit
    callers: Callers
    drain: ExitStack = field(default_factory=ExitStack)

    @property
    def users(self) -> Sequence[UUID]:
        return self.callers.users

    def measure(self, *users: UUID) -> Mapping[UUID, LiveDrift]:
        """Return the drift of some users, or of all, as it is seen under load."""
        asked = users or self.users
        found = measure(asked, self.accounts, self.stream, PostgresSnapshots(self.audit))
        assert set(found) == set(asked)
        return found

    def amounts(self) -> dict[UUID, int]:
        """Return what each user lacks where balance and ledger do not agree."""
        return {user: drift.amount for user, drift in self.measure().items() if not drift.is_zero}

    def align(self, user_id: UUID, record: AlignmentRecord | None = None) -> Aligned:
        """Measure and correct one user."""
        done = self.accounts.align(Alignment.of(self.measure(user_id)[user_id], record))
        assert done.outcome is AlignmentOutcome.ALIGNED
        return done

    def alter(self, user_id: UUID, amount: int) -> None:
        """Write to Redis past the scripts, while nobody else does."""
        name = keys.account(user_id, SHARDS)
        with self.callers.paused():
            account = Account.unpack(value(self.client, name))
            self.client.set(name, replace(account, credits=account.credits + amount).pack())

    def wait_until_drained(self) -> None:
        wait_for(lambda: not self.stream.pending_count(), "all records are rows")

    def charge_and_drain(self) -> None:
        """Let each user be charged, and all become rows."""
        self.callers.wait_for_more()
        with self.callers.paused():
            self.wait_until_drained()

    def deducts(self, user_id: UUID) -> int:
        """Return what the rows of a user have taken, less what was given back of it."""
        query = (
            "select coalesce(-sum(amount), 0) as taken from public.credit_transactions"
            " where user_id = %s and type in ('deduct', 'refund')"
        )
        return int(self.tables.run(query, user_id)[0]["taken"])

    def live(self) -> dict[UUID, int]:
        return {user: one.credits for user, one in self.stream.read_many(self.users).items()}

    def findings(self) -> list[Finding]:
        return list(reconcile(self.stream, self.stream, self.audit, page_size_max=3).findings)


@contextmanager
def under_load(redis_url: str, database_url: str) -> Iterator[Rig]:
    """Charge users and make rows of it during the block."""
    with (
        database(database_url) as tables,
        Redis.from_url(redis_url, socket_timeout=WAIT_S_MAX) as client,
        closing(RedisStream.from_url(redis_url, SHARDS)) as stream,
        closing(Busy.from_url(redis_url, SHARDS)) as accounts,
        closing(PostgresAudit(database_url)) as audit,
    ):
        tables.run("update faregate.ledger set shard_count = %s", SHARDS)
        users = [user.user_id for user in tables.users(USERS)]
        callers = Callers(redis_url, database_url, users, SHARDS)
        rig = Rig(client, tables, stream, accounts, audit, callers)
        with draining(redis_url, database_url, SHARDS), callers.running():
            yield rig


def check_the_end(rig: Rig, given: Mapping[UUID, int] | None = None) -> None:
    """Each charge that was allowed was paid once, and each number agrees."""
    with rig.callers.paused():
        rig.wait_until_drained()
        for user_id in rig.users:
            assert rig.deducts(user_id) == rig.callers.allowed[user_id]
            paid = STARTING + GRANTED - rig.callers.allowed[user_id]
            assert rig.live()[user_id] == paid + (given or {}).get(user_id, 0)
    rig.callers.wait_for_more()
    assert rig.findings() == []
    assert rig.amounts() == {}
