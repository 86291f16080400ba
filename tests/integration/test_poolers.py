"""Between Faregate and Postgres may stand a pooler in transaction mode, with default settings."""

import asyncio
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from faregate.adapters.postgres.migrations import Migrator
from faregate.bootstrap import (
    build_api_keys,
    open_api_key_admin,
    open_audit,
    open_gate,
    open_stream,
)
from faregate.cli.servers import EmbeddedServers
from faregate.cli.servers.postgres import PORT
from faregate.ops.reconcile import reconcile
from own_postgres import answers
from pg_proxy import proxy
from waiting import WAIT_S_MAX, wait_for
from wire_client import free_port
from worker_process import ROWS, USERS, System

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
SERVERS_MAX = 2


def use(system: System) -> None:
    """Do all that is done with Postgres, from the first migration on."""
    for _ in range(2):
        Migrator(system.database_url).apply()
    system.charge()
    system.drain()
    with open_stream(system.settings) as stream, open_audit(system.settings) as audit:
        assert audit.verify() == []
        assert reconcile(stream, stream, audit, lambda _done, _of: None).findings == []
    asyncio.run(ask(system))


async def ask(system: System) -> None:
    """Read histories, each as its user, several at once, and look keys up."""
    async with open_gate(system.settings) as gate:
        histories = await asyncio.gather(*(gate.history(user) for user in USERS))
    assert [len(page.rows) for page in histories] == [ROWS // len(USERS)] * len(USERS)
    keys = build_api_keys(system.settings)
    assert await keys.find(uuid4()) is None
    await keys.aclose()
    with open_api_key_admin(system.settings) as admin:
        assert admin.keys(None, None, 10) == []


def test_a_session_begins_without_options_and_leaves_nothing(
    ledger_redis: str, empty_database_url: str, servers: EmbeddedServers, open_directory: Path
) -> None:
    """Neither settings nor statements, locks, channels or tables outlive a transaction."""
    socket_file = f".s.PGSQL.{PORT}"
    url = make_conninfo(empty_database_url, host=str(open_directory))
    server = f"{servers.postgres._places.run}/{socket_file}"
    with proxy(open_directory / socket_file, server) as seen:
        use(System(redis_url=ledger_redis, database_url=url, log=open_directory / "log"))
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("set lock_timeout = 1000")
            connection.execute("select 1", prepare=True)
    # The last session shows that something would be seen.
    kinds = [[what.partition(" ")[0] for what in left] for left in seen.left if left]
    assert kinds == [["setting", "statement"]], seen.left
    assert len(seen.left) > 8
    given = {name for each in seen.began_with for name in each}
    assert given == {"user", "database", "application_name", "client_encoding"}


@contextmanager
def pgbouncer(server: str, folder: Path) -> Iterator[str]:
    """Run PgBouncer in transaction mode; yield where it listens."""
    assert PGBOUNCER is not None
    port = free_port()
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": "transaction",
        "default_pool_size": SERVERS_MAX,
        "logfile": folder / "pgbouncer.log",
    }
    lines = [f"{name} = {value}" for name, value in settings.items()]
    target = f"* = host={server} port={PORT} user=postgres"
    file = folder / "pgbouncer.ini"
    file.write_text("\n".join(["[databases]", target, "[pgbouncer]", *lines, ""]), "utf-8")
    account = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
    if account is not None:
        folder.chmod(0o777)
    process = subprocess.Popen([PGBOUNCER, "-q", file], user=account.pw_uid if account else None)
    try:
        url = f"postgresql://postgres@127.0.0.1:{port}/"
        wait_for(lambda: answers(f"{url}postgres"), "PgBouncer listens")
        yield url
    finally:
        process.terminate()
        process.wait(WAIT_S_MAX)


@pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed")
def test_everything_goes_through_pgbouncer(
    ledger_redis: str, empty_database_url: str, servers: EmbeddedServers, open_directory: Path
) -> None:
    """In transaction mode, on fewer servers than there are sessions; `options` are refused."""
    server = str(servers.postgres._places.run)
    with (
        pgbouncer(server, open_directory) as base,
        psycopg.connect(empty_database_url, autocommit=True) as admin,
    ):
        url = f"{base}{admin.info.dbname}"
        with pytest.raises(psycopg.OperationalError, match="options"):
            psycopg.connect(url, options="-c statement_timeout=1").close()
        use(System(redis_url=ledger_redis, database_url=url, log=open_directory / "log"))
        row = admin.execute(
            "select count(*) from pg_stat_activity where datname = current_database()"
            " and pid <> pg_backend_pid() and backend_type = 'client backend'"
        ).fetchone()
        assert row is not None
        assert 1 <= row[0] <= SERVERS_MAX
