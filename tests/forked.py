"""A Redis that continues from an older copy, and what a worker does then."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from charging import Charger
from durable import Database, as_role
from faregate.adapters.postgres.archive import PostgresArchive
from faregate.adapters.postgres.audit import PostgresAudit
from faregate.adapters.postgres.forks import PostgresForks
from faregate.adapters.postgres.snapshots import PostgresSnapshots
from faregate.adapters.redis.alignments import RedisAccounts
from faregate.adapters.redis.forks import RedisLostAnswers
from faregate.adapters.redis.stream import RedisStream
from faregate.domain.errors import ArchiveUnavailableError, LedgerError
from faregate.ops.forks import Aligning
from faregate.ops.reconcile import reconcile
from faregate_worker.drain import DrainLimits, drain
from faregate_worker.forks import ForkWatch
from live_load import PAUSE_S
from waiting import WAIT_S_MAX

LIMITS = DrainLimits(batch_size_max=50, seconds_max=WAIT_S_MAX)


def copy_of(client: Any) -> dict[bytes, bytes]:
    """All keys of Redis, as a replica has them at one moment."""
    return {name: client.dump(name) for name in client.scan_iter()}


def fail_over(client: Any, copy: dict[bytes, bytes]) -> None:
    """Go on from an older copy, at one moment."""
    clock = client.get("test:now_us")
    pipeline = client.pipeline()
    pipeline.flushdb()
    for name, value in copy.items():
        pipeline.restore(name, 0, value)
    if clock:
        pipeline.set("test:now_us", clock)
    pipeline.execute()


@dataclass(slots=True)
class Worker:
    """The parts of a worker that store records, notice forks and align balances."""

    stream: RedisStream
    archive: PostgresArchive
    forks: PostgresForks
    reports: RedisLostAnswers
    accounts: RedisAccounts
    audit: PostgresAudit

    @property
    def aligning(self) -> Aligning:
        return Aligning(self.forks, self.accounts, self.stream, PostgresSnapshots(self.audit))

    def watch(self) -> None:
        """Notice forks, and align until nobody is due."""
        watch = ForkWatch(self.stream, self.archive, self.forks, self.reports, self.aligning)
        while watch.step():
            pass

    def drain(self) -> None:
        """Store all records of all shards."""
        for shard in range(self.stream.shard_count):
            drain(self.stream, self.archive, shard, limits=LIMITS)

    def findings(self) -> list[str]:
        """Return what reconcile and verify find and nobody has accepted."""
        accepted = self.audit.acknowledgements()
        found = [
            *reconcile(self.stream, self.stream, self.audit).findings,
            *self.audit.verify(),
        ]
        return [finding.detail for finding in found if finding.id not in accepted]

    def live(self, user_id: UUID) -> int:
        return self.stream.read_many([user_id])[user_id].credits


async def lose_stored_charges(charger: Charger, sink: Worker, client: Any) -> dict[bytes, bytes]:
    """Charge all users and store it; then go on from a copy of before, which is returned."""
    copy = copy_of(client)
    await charger.charge()
    sink.drain()
    fail_over(client, copy)
    return copy


@contextmanager
def worker(redis_url: str, database_url: str, shard_count: int = 1) -> Iterator[Worker]:
    """Open the parts of a worker, in its role."""
    url = as_role(database_url, "faregate_worker")
    with ExitStack() as stack:
        enter = stack.enter_context
        yield Worker(
            enter(closing(RedisStream.from_url(redis_url, shard_count))),
            enter(closing(PostgresArchive(url))),
            enter(closing(PostgresForks(url))),
            enter(closing(RedisLostAnswers.from_url(redis_url, shard_count))),
            enter(closing(RedisAccounts.from_url(redis_url, shard_count))),
            enter(closing(PostgresAudit(url))),
        )


@contextmanager
def watching(redis_url: str, database_url: str, shard_count: int) -> Iterator[None]:
    """Notice forks and align balances during the block, as the ticker of a worker does."""
    is_over = threading.Event()

    def run() -> None:
        with worker(redis_url, database_url, shard_count) as sink:
            while not is_over.wait(PAUSE_S):
                with suppress(LedgerError, ArchiveUnavailableError):
                    sink.watch()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(WAIT_S_MAX)
    assert not thread.is_alive()


def let_a_minute_pass(tables: Database) -> None:
    """Let all alignments be old enough to be checked once more."""
    tables.run("update faregate.lost_records set aligned_at = aligned_at - interval '2 minutes'")


def forks_of(tables: Database) -> list[dict[str, Any]]:
    return tables.run("select * from faregate.forks order by id")


def lost_records(tables: Database) -> list[dict[str, Any]]:
    return tables.run("select * from faregate.lost_records order by fork_id, transaction_id")


def check_exact(sink: Worker, users: Sequence[UUID], tables: Database, expected: int) -> None:
    """Check that each live balance is the sum of the rows, and that nothing is found."""
    assert {sink.live(user) for user in users} == {expected}
    assert sink.findings() == []
    assert all(one["aligned_at"] for one in lost_records(tables) if one["is_named"])
    assert tables.run("select 1 from faregate.repairs where ended_at is null") == []
