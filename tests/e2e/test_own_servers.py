"""The README's own servers: its commands in their order, from an empty database to exact rows."""

import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from e2e.dev_rig import Shell
from faregate.cli.servers import EmbeddedServers
from waiting import WAIT_S_MAX, wait_for
from wire_client import free_port

README = Path(__file__).resolve().parents[2] / "README.md"
SECTIONS = re.split(r"^## ", README.read_text("utf-8"), flags=re.M)
(SECTION,) = (text for text in SECTIONS if text.startswith("Use your own servers\n"))


@contextmanager
def running(shell: Shell, command: str) -> Iterator[None]:
    """A command that lasts, ended in order and by its id."""
    with subprocess.Popen(
        ["bash", "-c", f"exec {command}"], cwd=shell.folder, env=shell.environment
    ) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(WAIT_S_MAX)


@pytest.fixture
def shell(open_directory: Path, own_servers: EmbeddedServers) -> Shell:
    """A shell in a folder with the README's app, and an empty database `app` at hand."""
    with psycopg.connect(own_servers.postgres_url, autocommit=True) as connection:
        connection.execute("create database app")
    (code,) = re.findall(r"^```python\n(.*?)^```", README.read_text("utf-8"), re.M | re.S)
    (open_directory / "app.py").write_text(code, encoding="utf-8")
    return Shell(open_directory)


@pytest.mark.long
def test_the_readmes_commands_charge_a_user_who_has_signed_up(
    shell: Shell, own_servers: EmbeddedServers
) -> None:
    """A 200, its row, and a ledger that agrees."""
    commands = re.findall(r"^\$ (.*?)(?: +#.*)?$", SECTION, re.M)
    export, migrate, serve, work, doctor, reconcile = commands
    (create,) = re.findall(r"`(faregate keys create .*?)`", SECTION)
    url = own_servers.postgres.database_url("app")
    given = dict(word.split("=", 1) for word in export.removeprefix("export ").split())
    assert list(given) == ["FAREGATE_REDIS_URL", "FAREGATE_POSTGRES_URL"]
    shell.environment |= zip(given, [own_servers.redis_url, url], strict=True)
    shell.run(migrate)
    (insert,) = re.findall(r'`psql -c "(.*?)" "\$FAREGATE_POSTGRES_URL"`', SECTION)
    with psycopg.connect(url) as connection:
        ((user,),) = connection.execute(insert).fetchall()
    key = re.search(r"fg_\w+", shell.run(create.replace("ID", str(user))))
    assert key is not None
    port = free_port()
    with running(shell, f"{serve} --port {port}"), running(shell, work):
        wait_for(lambda: listens(port), "the app listens")
        request = f'curl -s -H "Authorization: Bearer {key[0]}" http://127.0.0.1:{port}/'
        assert shell.run(request) == "2 credits left\n"
        wait_for(lambda: amounts(url) == [-1, 3], "the row")
        assert shell.run(doctor)
        assert shell.run(reconcile).endswith("exact\n")


def amounts(url: str) -> list[int]:
    """The amounts of all rows."""
    query = "select amount from public.credit_transactions order by amount"
    with psycopg.connect(url) as connection:
        return [amount for (amount,) in connection.execute(query)]


def listens(port: int) -> bool:
    """Whether a program takes connections on a port."""
    with suppress(OSError), closing(socket.create_connection(("127.0.0.1", port), WAIT_S_MAX)):
        return True
    return False
