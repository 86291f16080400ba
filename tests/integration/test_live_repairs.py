"""Live balances that are wrong are measured and corrected, user by user, while charges go on."""

import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import pytest
from redis import Redis

from durable import Database, database
from faregate.adapters.postgres.audit import PostgresAudit
from faregate.adapters.postgres.moments import PostgresMoments
from faregate.adapters.redis import keys
from faregate.adapters.redis.alignments import RedisAccounts
from faregate.adapters.redis.stream import RedisStream
from faregate.adapters.redis.values import Account
from faregate.cli.servers import Binaries
from faregate.domain.alignment import (
    Aligned,
    Alignment,
    AlignmentOutcome,
    AlignmentRecord,
    LiveAccount,
    LiveDrift,
)
from faregate.domain.finding import DriftKind, Finding
from faregate.domain.transaction import TransactionType
from faregate.ops.drift import measure
from faregate.ops.reconcile import reconcile
from live_load import GRANTED, Callers, draining
from own_redis import OwnRedis, own_redis
from redis_ledger import value
from soak import scaled
from waiting import WAIT_S_MAX, wait_for

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

SHARDS = 4
USERS = 8
STARTING = 3
MEASUREMENTS = scaled(100, 10)
RECORD = AlignmentRecord(
    type=TransactionType.ADMIN_ADJUSTMENT, description="found", metadata={"actor": "ann"}
)


class Busy(RedisAccounts):
    """Lets something happen right after accounts were looked at."""

    then: Callable[[], None] | None = None

    def look(self, user_ids: Sequence[UUID]) -> Mapping[UUID, LiveAccount]:
        found = super().look(user_ids)
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
        found = measure(asked, self.accounts, self.stream, PostgresMoments(self.audit))
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


@pytest.fixture
def rig(ledger_redis: str, database_url: str) -> Iterator[Rig]:
    with under_load(ledger_redis, database_url) as opened:
        yield opened


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


def test_a_balance_that_is_right_lacks_nothing_at_any_moment(rig: Rig) -> None:
    """However many charges and rows are made while it is measured."""
    for _ in range(MEASUREMENTS):
        assert all(drift.is_zero for drift in rig.measure().values())
    check_the_end(rig)


def test_what_becomes_a_row_right_after_an_account_was_read_is_no_part_of_it(rig: Rig) -> None:
    """By its place in the stream, since its number may be that of a record that was lost."""
    user_id, name = rig.users[0], keys.account(rig.users[0], SHARDS)
    with rig.callers.paused():
        kept, before = value(rig.client, name), rig.callers.allowed[user_id]
    rig.callers.wait_for_more(5)
    with rig.callers.paused():
        rig.wait_until_drained()
        rig.client.set(name, kept)
        lost = rig.callers.allowed[user_id] - before
    rig.accounts.then = rig.charge_and_drain
    found = rig.measure()
    rig.accounts.then = None
    assert {one for one, drift in found.items() if not drift.is_zero} == {user_id}
    assert (found[user_id].amount, len(found[user_id].lost)) == (-lost, lost)
    assert rig.accounts.align(Alignment.of(found[user_id])).is_done
    check_the_end(rig)


def test_balances_that_were_altered_are_corrected_under_load(rig: Rig) -> None:
    """Up and down; by the balance, or by a row that tells who let it be."""
    up, down, kept, cut = rig.users[:4]
    altered = {up: 100, down: -100, kept: 7, cut: -9}
    for user_id, amount in altered.items():
        rig.alter(user_id, amount)
    rig.callers.wait_for_more()
    assert rig.amounts() == {user_id: -amount for user_id, amount in altered.items()}
    for user_id in (up, down):
        done = rig.align(user_id)
        assert done.credits - done.credits_before == -altered[user_id]
        assert done.sequence == done.sequence_before
    for user_id in (kept, cut):
        done = rig.align(user_id, RECORD)
        assert done.credits == done.credits_before
        assert done.sequence == done.sequence_before + 1
    assert rig.amounts() == {}
    check_the_end(rig, {kept: 7, cut: -9})
    query = (
        "select user_id, amount, metadata from public.credit_transactions where description = %s"
    )
    found = {row["user_id"]: row["amount"] for row in rig.tables.run(query, RECORD.description)}
    assert found == {kept: 7, cut: -9}


def test_an_account_that_was_deleted_is_corrected_after_gates_have_brought_it_in(rig: Rig) -> None:
    """From rows, without what was pending: so numbers were given twice."""
    lost, other = rig.users[:2]
    with rig.callers.paused():
        rig.wait_until_drained()
        kept = value(rig.client, keys.account(lost, SHARDS))
    rig.callers.wait_for_more(5)
    with rig.callers.paused():
        rig.wait_until_drained()
        # As a gate that reads the rows while five charges wait for the drain.
        rig.client.set(keys.account(lost, SHARDS), kept)
        rig.client.delete(keys.account(other, SHARDS))
        reached = rig.measure(lost, other)
    count = len(reached[lost].lost)
    assert count >= 5
    assert (reached[lost].amount, reached[lost].is_forked) == (-count, True)
    assert (reached[other].credits, reached[other].amount) == (
        None,
        STARTING + GRANTED - rig.callers.allowed[other],
    )
    rig.callers.wait_for_more()
    assert rig.amounts() == {lost: -count}
    rig.align(lost)
    assert rig.amounts() == {}
    check_the_end(rig)


def test_an_account_that_is_gone_is_made_anew(rig: Rig) -> None:
    """With what rows and pending records say, however many of these there are."""
    user_id = rig.users[0]
    with rig.callers.paused():
        before = rig.live()[user_id]
        for text in (None, b"?"):
            name = keys.account(user_id, SHARDS)
            rig.client.set(name, text) if text else rig.client.delete(name)
            drift = rig.measure(user_id)[user_id]
            assert (drift.credits, drift.amount) == (None, before)
            assert rig.align(user_id).credits == before
            assert rig.measure(user_id)[user_id].is_zero
    check_the_end(rig)


def test_a_user_who_was_not_seen_in_this_epoch_lacks_nothing(rig: Rig) -> None:
    """It has no account, and its next request brings it in."""
    new = rig.tables.user().user_id
    drift = rig.measure(new)[new]
    assert (drift.credits, drift.is_zero) == (None, True)


def test_a_correction_that_comes_late_or_twice_changes_nothing(
    binaries: Binaries, database_url: str
) -> None:
    """A call that waits in a Redis that hangs is refused when it is executed at last."""
    with own_redis(binaries.redis) as server, under_load(server.url, database_url) as rig:
        user_id = rig.users[0]
        rig.alter(user_id, 50)
        drift = rig.measure(user_id)[user_id]
        late, answers = Alignment.of(drift, for_ms=1), list[Aligned]()
        call = threading.Thread(target=lambda: answers.append(rig.accounts.align(late)))
        with rig.callers.paused():
            server.send(signal.SIGSTOP)
            call.start()
            threading.Event().wait(0.1)
            server.send(signal.SIGCONT)
            call.join(WAIT_S_MAX)
            before = rig.live()[user_id]
        assert [answer.outcome for answer in answers] == [AlignmentOutcome.LATE]
        assert answers[0].credits == before
        alignment = Alignment.of(drift)
        first = rig.accounts.align(alignment)
        rig.callers.wait_for_more()
        assert rig.accounts.align(alignment) == replace(first, outcome=AlignmentOutcome.REPEATED)
        other = rig.accounts.align(Alignment.of(drift))
        assert other.outcome is AlignmentOutcome.CHANGED
        check_the_end(rig)


def from_an_older_copy(rig: Rig, server: OwnRedis, follow: Callable[[], None]) -> None:
    """Restart it with the file that it had written before."""
    kept = server.folder / "kept.rdb"
    with rig.callers.paused():
        rig.client.save()
        shutil.copy(server.folder / "dump.rdb", kept)
    follow()
    server.kill()
    shutil.copy(kept, server.folder / "dump.rdb")
    server.start()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def to_a_lagging_replica(rig: Rig, server: OwnRedis, follow: Callable[[], None]) -> None:
    """Promote a replica that the newest records did not reach, and let everybody go there."""
    port = rig.client.config_get("port")["port"]
    replica = OwnRedis(server.program, server.folder / "replica", server.options[2:])
    replica.folder.mkdir()
    replica.start()
    try:
        with Redis.from_url(replica.url) as other:
            other.replicaof("127.0.0.1", port)
            with rig.callers.paused():
                wait_for(
                    lambda: (
                        other.info("replication").get("master_link_status") == "up"
                        and other.info("replication")["slave_repl_offset"]
                        == rig.client.info("replication")["master_repl_offset"]
                    ),
                    "the replica has all",
                )
                # Nobody answers there.
                other.replicaof("127.0.0.1", free_port())
            follow()
            server.kill()
            other.replicaof("NO", "ONE")
        (server.folder / "s").unlink(missing_ok=True)
        (server.folder / "s").symlink_to(replica.folder / "s")
        server.process, replica.process = replica.process, None
    finally:
        if replica.process:
            replica.kill()


@pytest.mark.parametrize("fall_back", [from_an_older_copy, to_a_lagging_replica])
def test_a_redis_that_went_on_from_an_older_state_is_corrected_user_by_user(
    binaries: Binaries,
    database_url: str,
    fall_back: Callable[[Rig, OwnRedis, Callable[[], None]], None],
) -> None:
    """Without stopping anybody or emptying it: half by balances, half in favour of users."""
    options = "--port", str(free_port()), "--repl-diskless-sync-delay", "0"
    with own_redis(binaries.redis, *options) as server, under_load(server.url, database_url) as rig:
        known: dict[UUID, int] = {}

        def follow() -> None:
            known.update(rig.callers.allowed)
            rig.callers.wait_for_more(5)
            pause.enter_context(rig.callers.paused())
            rig.wait_until_drained()

        with ExitStack() as pause:
            fall_back(rig, server, follow)
            lost = {user: rig.callers.allowed[user] - known[user] for user in rig.users}
            check_the_measure(rig, lost)
        rig.callers.wait_for_more(3)
        check_the_measure(rig, lost)
        for number, user_id in enumerate(rig.users):
            done = rig.align(user_id, RECORD if number % 2 else None)
            assert done.sequence >= done.sequence_before
        assert rig.amounts() == {}
        check_the_end(rig, {user: lost[user] for user in rig.users[1::2]})
        found = rig.audit.verify()
        assert {f.user_id for f in found if f.kind is DriftKind.FORK} == set(rig.users)
        assert {f.kind for f in found} <= {DriftKind.FORK, DriftKind.CHAIN}


def check_the_measure(rig: Rig, lost: Mapping[UUID, int]) -> None:
    """What Redis lost is what it gave back, and is named by number and id."""
    for user_id, drift in rig.measure().items():
        assert drift.amount == -lost[user_id]
        assert len(drift.lost) == lost[user_id] == -sum(one.amount for one in drift.lost)
        numbers = [one.sequence for one in drift.lost]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert drift.sequence_min >= numbers[-1]
        rows = {row["id"]: row["sequence"] for row in rig.tables.rows(user_id)}
        assert all(rows[one.id] == one.sequence for one in drift.lost)
