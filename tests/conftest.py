"""The servers of the tests: one Redis and one Postgres per worker of pytest, and private ones.

By default they come from the wheels of `faregate[embedded]`. FAREGATE_TEST_SERVERS=debian takes
Debian's redis-server and its newest PostgreSQL instead, through the same code.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from commands import CommandLine
from faregate.adapters.redis import routes
from faregate.cli.servers import Binaries, EmbeddedServers, EmbeddedValkey
from servers import EMPTY, administer, chosen_binaries, database_like, lone_redis
from soak import SOAK
from waiting import WAIT_S_MAX


@pytest.fixture(scope="session", autouse=True)
def _patience() -> Iterator[None]:
    """Let decisions take ten seconds, here and in the processes that tests start.

    The machine may be busy. A test that is about a timeout says which one it means.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAREGATE_DECISION_TIMEOUT_MS", "10000")
        patch.setitem(routes._OPTIONS, "socket_timeout", WAIT_S_MAX)
        yield


@pytest.fixture
def command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    """The command line, run in this process."""
    return CommandLine(monkeypatch, capsys)


@pytest.fixture(scope="session")
def binaries() -> Binaries:
    """The programs of the servers."""
    return chosen_binaries()


@pytest.fixture(scope="session")
def servers(binaries: Binaries) -> Iterator[EmbeddedServers]:
    """The worker's servers. Shared: a test that kills or pauses one takes one of its own."""
    with EmbeddedServers(durable=False, binaries=binaries) as running:
        yield running


@pytest.fixture
def own_redis(binaries: Binaries) -> Iterator[EmbeddedValkey]:
    """A private empty Redis with full durability, to be killed and paused at will."""
    with lone_redis(binaries) as running:
        yield running


@pytest.fixture
def own_servers(binaries: Binaries) -> Iterator[EmbeddedServers]:
    """A private pair of empty servers with full durability, where Postgres is killed as well."""
    with EmbeddedServers(binaries=binaries) as running:
        yield running


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A short directory that other users may pass, which pytest's own temporary ones are not."""
    with tempfile.TemporaryDirectory(prefix="faregate-test-", dir="/tmp") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture(scope="session")
def redis_url(servers: EmbeddedServers) -> str:
    """The URL of the worker's Redis, with whatever other tests left in it."""
    return f"{servers.redis_url}?socket_timeout={WAIT_S_MAX}"


@pytest.fixture(scope="session")
def postgres_admin_url(servers: EmbeddedServers) -> str:
    """The URL of database `postgres` of the worker's Postgres, as superuser."""
    return servers.postgres_url


@pytest.fixture
def ledger_redis(redis_url: str) -> str:
    """The URL of the worker's Redis, which is empty when the test starts."""
    with Redis.from_url(redis_url) as asking:
        asking.flushall()
    return redis_url


@pytest.fixture(scope="session")
def template_database(servers: EmbeddedServers) -> str:
    """The name of a migrated database that nobody connects to, to be cloned."""
    # Imported here so that tests which need no database do not depend on the migrations.
    from faregate.adapters.postgres.migrations import Migrator  # noqa: PLC0415

    name = "faregate_template"
    administer(servers, "CREATE DATABASE {}", name)
    Migrator(servers.postgres.database_url(name)).apply()
    return name


@pytest.fixture
def database_url(servers: EmbeddedServers, template_database: str) -> Iterator[str]:
    """The URL, as superuser, of a fresh migrated database that is dropped afterwards."""
    with database_like(servers, template_database) as url:
        yield url


@pytest.fixture
def empty_database_url(servers: EmbeddedServers) -> Iterator[str]:
    """The URL, as superuser, of a fresh database without any migration, dropped afterwards."""
    with database_like(servers, EMPTY) as url:
        yield url


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what was measured, and what long searches have to say of themselves."""
    shown = {"measured", "soak"} if SOAK else {"measured"}
    for report in [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]:
        for name, told in report.user_properties:
            if name in shown:
                terminalreporter.write_line(str(told))
