"""Workers and operators on a cluster: a ledger is created, drained, compared, rebuilt and moved."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import UUID

import pytest
from redis import Redis
from redis.exceptions import MovedError

from billing import Billing, add, let_it_be_due, waiting
from cluster_rig import Cluster
from commands import CommandLine
from durable import Database
from faregate import Settings, open_gate
from faregate.adapters.redis import keys
from faregate.adapters.redis.values import Account
from faregate.bootstrap import (
    open_admin,
    open_installer,
    open_requests,
    open_stream,
    open_sweeper,
)
from faregate.domain.errors import ConfigurationError
from faregate.ports import Cursor
from moved import assert_exact, changed, working
from on_cluster import create, credit_all, install, ledger_with_users, opened, stored_of
from operated import WHO, Ledger, drain, erasing
from sabotage import APPLY
from waiting import wait_for

CURSOR = Cursor(number=1, epoch=1, position="1-1", digest=bytes(32), ordinal=1)

pytestmark = [pytest.mark.redis, pytest.mark.postgres, pytest.mark.cluster]


@pytest.fixture
def settings(cluster: Cluster, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A ledger on the cluster, which the environment names."""
    monkeypatch.setenv("FAREGATE_REDIS_URL", cluster.url)
    monkeypatch.setenv("FAREGATE_POSTGRES_URL", database_url)
    return Settings(redis_url=cluster.url, postgres_url=database_url)


@pytest.fixture
def users(settings: Settings, tables: Database) -> Sequence[UUID]:
    """Users of a new ledger, who lie in all of its shards."""
    return ledger_with_users(settings, tables)


def test_a_ledger_lies_on_all_primaries_and_its_records_become_rows(
    cluster: Cluster, settings: Settings, users: Sequence[UUID]
) -> None:
    """By one job; live balances, rows and pending records agree before and after it."""
    assert all(node.client.dbsize() for node in cluster.primaries())
    credit_all(settings, users)
    with open_stream(settings) as stream:
        assert stream.pending_count() == len(users)
        assert stream.shards_pending() == list(range(settings.shard_count))
        assert [user.credits for user in stream.read_many(users).values()] == [8] * len(users)
        assert stream.epochs() == [1] * settings.shard_count
    assert_exact(settings)
    drain(settings)
    assert_exact(settings)


def test_a_rebuild_makes_a_ledger_of_an_emptied_cluster(
    cluster: Cluster, settings: Settings, users: Sequence[UUID], command_line: CommandLine
) -> None:
    """With every user; what was drained is there."""
    credit_all(settings, users)
    drain(settings)
    for node in cluster.primaries():
        node.ask("FLUSHALL")
    told = command_line.tell("rebuild", "--all-users")
    assert told == {"epoch": 2, "users": len(users), "installed": len(users)}
    credit_all(settings, users)
    drain(settings)
    assert_exact(settings)


def test_a_rebuild_that_was_killed_between_two_shards_is_done_again(
    settings: Settings, users: Sequence[UUID], cluster: Cluster, command_line: CommandLine
) -> None:
    """No gate serves in between, since the identity is written last."""
    for node in cluster.primaries():
        node.ask("FLUSHALL")
    with open_admin(settings) as admin, open_installer(settings) as installer:
        made = admin.begin_epoch(1, settings.shard_count)
        assert installer._create(installer._shards[5:], made)
    with open_stream(settings) as stream:
        assert stream.epochs() == [None] * 5 + [2] * (settings.shard_count - 5)
    assert command_line.tell("rebuild") == {"epoch": 3}
    with open_stream(settings) as stream:
        assert stream.epochs() == [3] * settings.shard_count
    assert_exact(settings)


@pytest.mark.parametrize("shard_count", [16, 7])
@pytest.mark.parametrize("is_to_cluster", [True, False])
def test_a_ledger_moves_between_a_server_and_a_cluster(
    settings: Settings,
    users: Sequence[UUID],
    ledger_redis: str,
    command_line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    shard_count: int,
    *,
    is_to_cluster: bool,
) -> None:
    """Both ways, with as many shards or with others, while its worker runs."""
    former, target = settings, changed(settings, redis_url=ledger_redis)
    if is_to_cluster:
        target, former = former, target
        with opened(settings) as client:
            client.ask_each("FLUSHALL")
        create(former)
        install(former, users)
    credit_all(former, users)
    target = changed(target, shard_count=shard_count)
    monkeypatch.setenv("FAREGATE_REDIS_URL", target.redis_url)
    monkeypatch.setenv("FAREGATE_SHARD_COUNT", str(settings.shard_count))
    words = "--from", former.redis_url, "--shard-count", str(shard_count)
    with working(former):
        told = command_line.tell("rebuild", "--all-users", *words)
    assert told == {"epoch": 2, "users": len(users), "installed": len(users)}
    credit_all(target, users)
    drain(target)
    assert_exact(target)


def test_a_plain_url_of_a_node_is_refused_in_words(
    cluster: Cluster, settings: Settings, users: Sequence[UUID]
) -> None:
    """By what a worker and an operator do first; not by the bare text of a reply."""
    node = cluster.primaries()[0]
    names = [shard.state for shard in keys.shards(16) if cluster.owner(shard.slot) is not node]
    with Redis.from_url(node.url) as client, pytest.raises(MovedError):
        client.get(names[0])
    plain = changed(settings, redis_url=node.url)
    with open_stream(plain) as stream, open_sweeper(plain) as sweeper:
        asked: list[Callable[[], object]] = [
            stream.shards_pending,
            stream.epochs,
            sweeper.shards_due,
            sweeper.open_holds,
            lambda: [stream.note_stored(shard, CURSOR) for shard in range(16)],
            lambda: [stream.read(shard, None, 1) for shard in range(16)],
        ]
        for ask in asked:
            with pytest.raises(ConfigurationError, match=r"FAREGATE_REDIS_URL .*redis\+cluster://"):
                ask()


def test_the_keys_of_a_deleted_user_are_erased_on_all_primaries(
    cluster: Cluster, settings: Settings, users: Sequence[UUID], tables: Database
) -> None:
    """While others stay."""
    credit_all(settings, users)
    drain(settings)
    gone = users[::2]
    tables.run("delete from auth.users where id = any(%s)", list(gone))
    with erasing(Ledger(settings, tables)):
        wait_for(lambda: not tables.run("select faregate.users_to_erase(1)"), "all are erased")
    with open_stream(settings) as stream, open_requests(settings) as requests:
        assert set(stream.read_many(users)) == set(users[1::2])
        assert [requests.idempotency_key_count(user) for user in users] == [0, 1] * 8
    assert_exact(settings)


def test_holds_are_listed_released_and_ended_on_all_primaries(
    settings: Settings, users: Sequence[UUID], tables: Database, command_line: CommandLine
) -> None:
    """By an operator, and by a worker once they have expired."""

    async def hold_all() -> None:
        async with open_gate(settings) as gate:
            for number, user in enumerate(users):
                await gate.hold(user, 1, ttl_ms=600_000 if number else 100)

    asyncio.run(hold_all())
    listed = command_line.tell("holds", "list")
    assert {one["user_id"] for one in listed} == {str(user) for user in users}
    kept = listed[-1]
    words = "holds", "release", kept["user_id"], kept["id"], *WHO
    assert command_line.tell(*words)["refunded"] == 1
    drain(settings)
    wait_for(lambda: stored_of(settings, users[:1], tables) == [2], "the hold has ended, as a row")
    left = {one["user_id"] for one in command_line.tell("holds", "list")}
    assert left == {str(user) for user in users[1:]} - {kept["user_id"]}
    assert_exact(settings)


def test_an_altered_balance_is_repaired_on_its_node(
    cluster: Cluster, settings: Settings, users: Sequence[UUID], command_line: CommandLine
) -> None:
    """To what rows and records add up to."""
    credit_all(settings, users)
    drain(settings)
    shard = keys.shard_for(users[3], keys.shards(settings.shard_count))
    name = shard.account(users[3].bytes)
    with opened(settings) as client:
        account = Account.unpack(client.ask(shard, "GET", name))
        client.ask(shard, "SET", name, replace(account, credits=99).pack())
    assert [one["kind"] for one in command_line.tell("reconcile", code=1)["findings"]] == ["live"]
    assert [step["action"] for step in command_line.tell("repair", *APPLY)["steps"]] == ["correct"]
    assert_exact(settings)


def test_orders_of_sql_become_credits_on_all_primaries(
    settings: Settings, users: Sequence[UUID], tables: Database
) -> None:
    """Of users whom Redis has never seen, too."""
    new = [one.user_id for one in tables.users(8)]
    billing = Billing(settings, tables)
    for user in (*users, *new):
        add(tables, user, 5, f"payment-{user}")
    billing.step()
    with open_stream(settings) as stream:
        live = stream.read_many([*users, *new])
    assert [user.credits for user in live.values()] == [8] * (len(users) + 8)
    drain(settings)
    let_it_be_due(tables)
    billing.step()
    assert waiting(tables) == []
    assert_exact(settings)
