"""Verification looks at the servers, too, and says nothing of what it may not see."""

from collections.abc import Iterator
from contextlib import closing
from signal import SIGCONT, SIGSTOP

import pytest
from redis import Redis

from commands import CommandLine
from durable import Database, as_role
from faregate.adapters.redis.server import RedisServer
from faregate.cli.servers import Binaries
from own_redis import OwnRedis, own_redis
from waiting import wait_for
from wire_client import free_port

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


@pytest.fixture
def redis(binaries: Binaries) -> Iterator[OwnRedis]:
    """A Redis that keeps nothing on a disk, and takes replicas."""
    options = "--port", str(free_port()), "--repl-diskless-sync-delay", "0"
    with own_redis(binaries.redis, *options) as server:
        yield server


def test_dangers_for_redis_are_warnings(
    redis: OwnRedis,
    database_url: str,
    command_line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With its remedy; the numbers are exact all the same."""
    monkeypatch.setenv("FAREGATE_REDIS_URL", redis.url)
    monkeypatch.setenv("FAREGATE_POSTGRES_URL", database_url)
    with Redis.from_url(redis.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    warnings = command_line.tell("verify")["warnings"]
    assert [one["detail"].partition(":")[0] for one in warnings] == [
        "Redis evicts keys (allkeys-lru)",
        "Redis writes no append-only file",
        "Redis has no memory limit",
    ]
    said = command_line.run("verify").out
    assert "warning: Redis evicts keys" in said
    assert "CONFIG SET maxmemory-policy noeviction" in said


def test_a_replica_that_lags_is_seen(redis: OwnRedis, binaries: Binaries) -> None:
    """By what it has not confirmed; one that follows is not behind."""
    with (
        own_redis(binaries.redis) as replica,
        Redis.from_url(redis.url) as client,
        Redis.from_url(replica.url) as other,
        closing(RedisServer.from_url(redis.url)) as server,
    ):
        assert (server.inspect().worst.replicas, server.inspect().worst.replica_lag_bytes) == (0, 0)
        other.replicaof("127.0.0.1", client.config_get("port")["port"])
        wait_for(lambda: server.inspect().worst.replicas == 1, "the replica is known")
        wait_for(lambda: server.inspect().worst.replica_lag_bytes == 0, "the replica has all")
        replica.send(SIGSTOP)
        client.set("key", b"x" * 2_000_000)
        assert server.inspect().worst.replica_lag_bytes >= 2_000_000
        wait_for(lambda: server.inspect().worst.replica_lag_s > 0, "the replica is silent")
        replica.send(SIGCONT)


HIDING = {
    "no policy": "grant pg_read_all_data to onlooker",
    "a restrictive policy": "grant faregate_worker to onlooker; create policy part on"
    " public.credit_transactions as restrictive for select using (amount > 0)",
}


@pytest.mark.parametrize("command", ["reconcile", "verify"])
@pytest.mark.parametrize("hiding", HIDING.values(), ids=HIDING.keys())
def test_a_role_that_does_not_see_every_row_says_so_and_compares_nothing(
    ledger_redis: str,
    database_url: str,
    tables: Database,
    command_line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    hiding: str,
    command: str,
) -> None:
    """Exit 3 with the reason, and never a word of exactness."""
    tables.run("create role onlooker nologin")
    try:
        tables.run(hiding)
        monkeypatch.setenv("FAREGATE_REDIS_URL", ledger_redis)
        monkeypatch.setenv("FAREGATE_POSTGRES_URL", as_role(database_url, "onlooker"))
        ended = command_line.run(command)
    finally:
        tables.run("drop owned by onlooker; drop role onlooker")
    assert ended.code == 3
    assert "lacks: select on rows public.credit_transactions" in ended.err
    assert "exact" not in ended.out
