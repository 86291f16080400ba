"""A standby in recovery may be behind, so nothing is compared with it."""

from collections.abc import Iterator

import pytest

from faregate.adapters.postgres.migrations import Migrator
from faregate.cli.servers import EmbeddedServers
from own_postgres import standby_of
from waiting import WAIT_S_MAX
from worker_process import USERS, System

pytestmark = [pytest.mark.redis, pytest.mark.postgres, pytest.mark.long]


@pytest.fixture(scope="module")
def standby(servers: EmbeddedServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A ledger in use, seen through a standby of its Postgres."""
    folder = tmp_path_factory.mktemp("standby")
    with EmbeddedServers(durable=False, binaries=servers._binaries) as own:
        Migrator(own.postgres_url).apply()
        primary = System(
            redis_url=own.redis_url, database_url=own.postgres_url, log=folder / "primary.log"
        )
        primary.charge(USERS[:1])
        primary.drain()
        for command in ("reconcile", "verify"):
            assert primary.start("faregate.cli", command).wait(WAIT_S_MAX) == 0
        with standby_of(own) as copy:
            yield System(redis_url=own.redis_url, database_url=copy.url, log=folder / "standby.log")


@pytest.mark.parametrize("command", ["reconcile", "verify", "worker --check"])
def test_comparing_commands_refuse_a_standby(standby: System, command: str) -> None:
    """With exit status 3, the reason, and what to do."""
    standby.log.unlink(missing_ok=True)
    assert standby.start("faregate.cli", *command.split()).wait(WAIT_S_MAX) == 3
    (line,) = standby.log.read_text("utf-8").splitlines()[-1:]
    assert "a standby in recovery" in line
    assert "use the URL of the primary" in line


def test_a_standby_is_not_migrated(standby: System) -> None:
    """Wrong use: it takes no changes, and the primary would."""
    standby.log.unlink(missing_ok=True)
    assert standby.start("faregate.cli", "migrate").wait(WAIT_S_MAX) == 2
    (line,) = standby.log.read_text("utf-8").splitlines()[-1:]
    assert "Postgres is a standby" in line
    assert "use the URL of the primary" in line
