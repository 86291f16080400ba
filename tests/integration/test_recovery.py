"""Every transcript of docs/recovery.md is what happens on real servers."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

import psycopg
import pytest
from redis import Redis

from faregate import Settings
from faregate.adapters.redis import keys
from faregate.bootstrap import open_installer
from faregate.cli.servers import Binaries, EmbeddedServers
from forked import worker
from moved import assert_exact, changed, charge_all, working
from operated import drain
from own_redis import OwnRedis, own_redis
from servers import administer
from transcripts import Transcript
from waiting import wait_for
from wire_client import free_port

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

FIRST = UUID("7b1a3a3e-2f61-4f5b-9b0e-6d1c0a1f2e30")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "recovery.md"
#: Each in a shard of its own.
USERS = [UUID(int=FIRST.int + number) for number in range(12)]
WELL = ("--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory", "200mb")
OLD, NEW = "redis://old:6379/0", "redis://new:6379/0"

Play: TypeAlias = Callable[[str], Transcript]


@pytest.fixture
def redis(binaries: Binaries) -> Iterator[OwnRedis]:
    """A Redis as it should be, so that nothing warns of it."""
    with own_redis(binaries.redis, *WELL) as server:
        yield server


@pytest.fixture
def settings(redis: OwnRedis, database_url: str) -> Settings:
    """A ledger of which some users were charged, and all records are rows."""
    made = Settings(
        redis_url=redis.url,
        postgres_url=database_url,
        provision_users=True,
        decision_timeout_ms=10_000,
    )
    charge_all(made, USERS, 2)
    drain(made)
    return made


@pytest.fixture
def play(
    settings: Settings, binaries: Binaries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Play:
    """Begins the transcript of a section."""
    monkeypatch.setenv("PATH", f"{binaries.postgres}{os.pathsep}{os.environ['PATH']}")
    names = {NEW: f"{settings.redis_url}?db=1", OLD: settings.redis_url}

    def begin(section: str) -> Transcript:
        transcript = Transcript(PAGE, section, tmp_path, names)
        transcript.let(
            FAREGATE_REDIS_URL=settings.redis_url, FAREGATE_POSTGRES_URL=settings.postgres_url
        )
        return transcript

    return begin


@pytest.fixture
def lose_postgres(
    settings: Settings, servers: EmbeddedServers, binaries: Binaries, tmp_path: Path
) -> Callable[[Callable[[], None]], None]:
    """Backs Postgres up, lets something happen, and then leaves nothing but an empty database."""

    def lose(meanwhile: Callable[[], None]) -> None:
        url = settings.postgres_url
        schemas = ("-n", "auth", "-n", "faregate", "-n", "public")
        backup = [str(binaries.postgres / "pg_dump"), *schemas, "-f", str(tmp_path / "all.sql")]
        subprocess.run([*backup, url], check=True)
        meanwhile()
        name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
        administer(servers, "DROP DATABASE {} WITH (FORCE)", str(name))
        administer(servers, "CREATE DATABASE {}", str(name))

    return lose


def charge_and_drain(settings: Settings, expected: int) -> None:
    charge_all(settings, USERS, expected)
    drain(settings)


def test_redis_was_wiped(settings: Settings, play: Play) -> None:
    """What was a row is there, and what was none was not paid."""
    charge_all(settings, USERS[:3], 1)
    with Redis.from_url(settings.redis_url) as client:
        client.flushall()
    transcript = play("Redis was wiped")
    transcript.play()
    transcript.end()
    charge_all(settings, USERS, 1)
    drain(settings)
    assert_exact(settings)


def test_redis_was_restored_from_an_older_copy(
    settings: Settings, play: Play, redis: OwnRedis, tmp_path: Path
) -> None:
    """Balances follow the rows again; nobody who was not charged since is touched."""
    data, copy = redis.folder / "appendonlydir", tmp_path / "copy"
    redis.kill()
    shutil.copytree(data, copy)
    redis.start()
    charge_all(settings, USERS[:3], 1)
    drain(settings)
    redis.kill()
    shutil.rmtree(data)
    shutil.copytree(copy, data)
    redis.start()

    follow(settings)
    transcript = play("Redis was restored from an older copy")
    transcript.play()
    transcript.end()
    charge_all(settings, USERS[3:], 1)
    drain(settings)
    assert_exact(settings)


def test_redis_failed_over_to_a_replica_that_lagged(
    settings: Settings, play: Play, redis: OwnRedis, binaries: Binaries
) -> None:
    """One user was charged again by the new primary, the other two were not."""
    port = free_port()
    with Redis.from_url(redis.url) as client:
        client.config_set("port", port)
    with own_redis(binaries.redis, *WELL, "--replicaof", f"127.0.0.1 {port}") as replica:
        with Redis.from_url(replica.url) as client:
            wait_for(lambda: has_all_of(redis, client), "the replica has caught up")
            client.replicaof("NO", "ONE")
        charge_all(settings, USERS[:3], 1)
        drain(settings)
        redis.kill()
        moved = changed(settings, redis_url=replica.url)
        charge_all(moved, USERS[:1], 1)
        follow(moved)
        drain(moved)

        transcript = play("Redis failed over to a replica that lagged")
        transcript.let(FAREGATE_REDIS_URL=moved.redis_url)
        transcript.play()
        transcript.end()
        charge_all(moved, USERS[3:], 1)
        drain(moved)
        assert_exact(moved)


def follow(settings: Settings) -> None:
    """Let a worker notice forks, and align balances."""
    with worker(settings.redis_url, settings.postgres_url, settings.shard_count) as sink:
        sink.watch()


def has_all_of(primary: OwnRedis, replica: Redis) -> bool:
    with Redis.from_url(primary.url) as client:
        place = client.info("replication")["master_repl_offset"]
    told = replica.info("replication")
    return bool(told["master_link_status"] == "up" and told["slave_repl_offset"] >= place)


def test_postgres_was_restored_from_an_older_backup(
    settings: Settings, play: Play, lose_postgres: Callable[[Callable[[], None]], None]
) -> None:
    """The worker stores again what Redis still holds."""
    transcript = play("Postgres was restored from an older backup")
    lose_postgres(lambda: charge_and_drain(settings, 1))
    transcript.play()
    drain(settings)
    transcript.play()
    transcript.end()
    assert_exact(settings)


def test_postgres_was_restored_from_a_backup_that_is_too_old(
    settings: Settings, play: Play, lose_postgres: Callable[[Callable[[], None]], None]
) -> None:
    """Redis has deleted the records of one user since; that is named, and put right."""
    user = USERS[0]
    shard = keys.shards(settings.shard_count)[keys.shard_of(user, settings.shard_count)]

    def go_on() -> None:
        charge_and_drain(settings, 1)
        with Redis.from_url(settings.redis_url) as client:
            client.delete(shard.stream)
        charge_all(settings, [user], 0)

    transcript = play("Postgres was restored from a backup that is too old")
    lose_postgres(go_on)
    transcript.play()
    drain(settings)
    transcript.play()
    transcript.end()
    assert_exact(settings)


def test_both_were_lost(
    settings: Settings, play: Play, lose_postgres: Callable[[Callable[[], None]], None]
) -> None:
    """Balances are those of the backup."""
    lose_postgres(lambda: charge_and_drain(settings, 1))
    with Redis.from_url(settings.redis_url) as client:
        client.flushall()
    transcript = play("Both were lost")
    transcript.play()
    transcript.end()
    charge_and_drain(settings, 1)
    assert_exact(settings)


def test_another_redis(settings: Settings, play: Play) -> None:
    """The command does each step, and checks it."""
    charge_all(settings, USERS, 1)
    moved = changed(settings, redis_url=f"{settings.redis_url}?db=1")
    transcript = play("Move to another Redis")
    with working(settings):
        transcript.play()
    charge_all(moved, USERS, 0)
    drain(moved)
    transcript.play()
    transcript.end()


def test_a_move_that_waits_in_vain(settings: Settings, play: Play) -> None:
    """Nothing is lost by it."""
    with open_installer(settings) as installer:
        installer.close_shards()
    transcript = play("Finish or cancel a move")
    transcript.play()
    transcript.end()
    charge_all(settings, USERS, 1)
    drain(settings)
    assert_exact(settings)


def test_another_number_of_shards(settings: Settings, play: Play) -> None:
    """It is exact at once, and after more charges."""
    charge_all(settings, USERS, 1)
    moved = changed(settings, redis_url=f"{settings.redis_url}?db=1", shard_count=32)
    transcript = play("Change the number of shards")
    with working(settings):
        transcript.play()
    charge_all(moved, USERS, 0)
    drain(moved)
    transcript.play()
    transcript.end()
