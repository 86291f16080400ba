"""Workers and operators on a service that sentinels watch, and whose primary dies."""

from collections.abc import Iterator

import pytest

from commands import CommandLine
from durable import Database
from faregate import Settings
from faregate.adapters.redis.stream import RedisStream
from faregate.bootstrap import open_stream, open_sweeper
from faregate.cli.servers import Binaries
from faregate.domain.errors import LedgerUnavailableError
from moved import assert_exact
from on_cluster import credit_all, ledger_with_users
from operated import drain
from sentinel_rig import Sentinels, running_sentinels
from waiting import wait_for

pytestmark = [pytest.mark.redis, pytest.mark.postgres, pytest.mark.cluster]


@pytest.fixture
def sentinels(binaries: Binaries) -> Iterator[Sentinels]:
    with running_sentinels(binaries.redis) as running:
        yield running


@pytest.fixture
def settings(sentinels: Sentinels, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A ledger on the service, which the environment names."""
    monkeypatch.setenv("FAREGATE_REDIS_URL", sentinels.url)
    monkeypatch.setenv("FAREGATE_POSTGRES_URL", database_url)
    return Settings(redis_url=sentinels.url, postgres_url=database_url)


def test_a_worker_goes_on_with_the_primary_that_sentinels_name(
    sentinels: Sentinels, settings: Settings, tables: Database, command_line: CommandLine
) -> None:
    """By the connections that it had; what replicas had got becomes rows."""
    users = ledger_with_users(settings, tables)
    primary = sentinels.primary()
    with open_stream(settings) as stream, open_sweeper(settings) as sweeper:
        credit_all(settings, users)
        assert stream.pending_count() == len(users)
        assert sweeper.open_holds() == frozenset()
        assert primary.client.wait(2, 5_000) == 2
        failover = sentinels.kill_primary(primary)
        # The connection is lost at its first use, and the next one asks the sentinels.
        wait_for(lambda: is_answering(settings), "the new primary answers")
        assert stream.pending_count() == len(users)
        assert sweeper.open_holds() == frozenset()
    credit_all(settings, users)
    drain(settings)
    assert_exact(settings)
    assert command_line.tell("reconcile")["findings"] == []
    sentinels.revive(failover)


def test_a_primary_that_became_a_replica_is_left(
    sentinels: Sentinels, settings: Settings, tables: Database
) -> None:
    """After the one write that it refuses as READONLY; the next one goes to the new primary."""
    users = ledger_with_users(settings, tables)
    former = sentinels.primary()
    with open_stream(settings) as stream:
        assert stream.pending_count() == 0
        sentinels.sentinels[0].ask("SENTINEL", "FAILOVER", "faregate")
        wait_for(lambda: former.ask("ROLE")[0] == b"slave", "the primary became a replica")
        wait_for(lambda: sentinels.primary() is not former, "the sentinels name another")
        credit_all(settings, users)
        # Redis closes connections of clients when its role changes.
        wait_for(lambda: pending_of(stream) == len(users), "the new primary is read")
    drain(settings)
    assert_exact(settings)


def is_answering(settings: Settings) -> bool:
    with open_stream(settings) as stream:
        try:
            return stream.pending_count() >= 0
        except LedgerUnavailableError:
            return False


def pending_of(stream: RedisStream) -> int:
    try:
        return stream.pending_count()
    except LedgerUnavailableError:
        return -1
