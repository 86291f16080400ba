"""The embedded servers survive faults, and leave nothing behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import redis

from faregate.cli.servers import Binaries, EmbeddedPostgres, EmbeddedServers, Server, server
from faregate.domain.errors import ConfigurationError, EmbeddedServerError
from owner_process import NOTE, read_note, write_note
from processes import process_state, runs
from waiting import wait_for

OWNER = Path(__file__).parents[1] / "owner_process.py"


@pytest.fixture(scope="module")
def pair(binaries: Binaries) -> Iterator[EmbeddedServers]:
    """Servers with full durability."""
    with EmbeddedServers(binaries=binaries) as running:
        yield running


@pytest.fixture
def own_servers(pair: EmbeddedServers) -> EmbeddedServers:
    """The servers of this module, which both run, whatever the test before has done to them."""
    pair.start()
    return pair


def account_of(postgres: EmbeddedPostgres) -> int | None:
    """The user to run a process as that Postgres could take for another Postgres."""
    return postgres.data.stat().st_uid if os.geteuid() == 0 else None


@contextmanager
def owner(
    binaries: Binaries, *, directory: Path | None = None, task: str = "hold"
) -> Iterator[dict[str, object]]:
    """Run a process that owns servers; leaving the block kills it with SIGKILL."""
    wish = {
        "redis": str(binaries.redis),
        "postgres": str(binaries.postgres),
        "directory": str(directory) if directory else None,
        "task": task,
    }
    process = subprocess.Popen(
        [sys.executable, OWNER, json.dumps(wish)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL


def refuses(servers: EmbeddedServers, which: str) -> bool:
    """Whether a server takes no connection."""
    try:
        if which == "redis":
            with redis.Redis.from_url(servers.redis_url, retry=None) as client:
                client.ping()
        else:
            psycopg.connect(servers.postgres_url).close()
    except (redis.ConnectionError, psycopg.OperationalError):
        return True
    return False


def server_of(servers: EmbeddedServers, which: str) -> Server:
    """One of the pair, by name."""
    return servers.redis if which == "redis" else servers.postgres


def test_the_servers_listen_on_no_port_and_lose_nothing_by_default(
    own_servers: EmbeddedServers,
) -> None:
    """Unix sockets only; append-only file, no eviction; syncing, UTF-8, C locale."""
    with redis.Redis.from_url(own_servers.redis_url, decode_responses=True) as client:
        found = client.config_get("port", "appendonly", "appendfsync", "maxmemory-policy", "save")
    assert found == {
        "port": "0",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "save": "",
    }
    with psycopg.connect(own_servers.postgres_url) as connection:
        shown = [
            connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
            for name in ("listen_addresses", "fsync", "synchronous_commit", "server_encoding")
        ]
        collation = connection.execute(
            "SELECT datcollate FROM pg_database WHERE datname = 'postgres'"
        ).fetchone()
    assert shown == [("",), ("on",), ("on",), ("UTF8",)]
    assert collation == ("C",)
    assert own_servers.postgres.data.parent.parent.joinpath("run").stat().st_mode & 0o777 == 0o700


def test_a_killed_owners_servers_end_and_its_temporary_data_is_deleted(binaries: Binaries) -> None:
    """SIGKILL of the owner leaves neither a server nor a file."""
    with owner(binaries) as held:
        pids = [int(str(held[name])) for name in ("redis", "postgres")]
        directory = Path(str(held["directory"]))
        assert all(map(runs, pids))
        assert directory.is_dir()
    wait_for(lambda: not any(map(runs, pids)), "the servers end")
    wait_for(lambda: not directory.exists(), "their data is deleted")


def test_a_forked_child_of_a_killed_owner_does_not_keep_the_servers(binaries: Binaries) -> None:
    """A child that holds the owner's open files is not taken for the owner."""
    with owner(binaries, task="hold_forked") as held:
        pids = [int(str(held[name])) for name in ("redis", "postgres")]
        child = int(str(held["child"]))
    try:
        wait_for(lambda: not any(map(runs, pids)), "the servers end")
        assert runs(child)
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_killed_owners_data_serves_the_next_owner_at_once(
    binaries: Binaries, open_directory: Path
) -> None:
    """The next owner waits for the servers of the killed one, and finds what they wrote."""
    with owner(binaries, directory=open_directory) as held:
        pid = int(str(held["postgres"]))
    with EmbeddedServers(open_directory, binaries=binaries) as servers:
        assert not runs(pid)
        assert read_note(servers) == (NOTE, NOTE)


@pytest.mark.parametrize("which", ["redis", "postgres"])
def test_a_killed_server_is_noticed_and_restarts_on_its_data(
    own_servers: EmbeddedServers, which: str
) -> None:
    """SIGKILL of a server: nobody answers, `watch` starts it again, what was written is there."""
    write_note(own_servers)
    killed = server_of(own_servers, which)
    pid = killed.pid
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: killed.died, "the server died")
    assert not runs(pid)
    assert refuses(own_servers, which)
    assert own_servers.watch() == (which,)
    assert killed.alive
    assert killed.pid != pid
    assert read_note(own_servers) == (NOTE, NOTE)
    assert own_servers.watch() == ()


def test_a_stale_postmaster_file_that_names_a_zombie_does_not_block_the_restart(
    own_servers: EmbeddedServers,
) -> None:
    """What a killed Postgres left behind is cleared away even if its process id is taken."""
    postgres: EmbeddedPostgres = own_servers.postgres
    write_note(own_servers)
    postgres.kill()
    stale = postgres.data / "postmaster.pid"
    lines = stale.read_text(encoding="utf-8").splitlines()
    assert lines[0] == str(postgres.pid)
    with subprocess.Popen(["/bin/sh", "-c", "exit 0"], user=account_of(postgres)) as zombie:
        wait_for(lambda: not runs(zombie.pid), "nothing but a zombie is left")
        os.kill(zombie.pid, 0)
        stale.write_text("\n".join([str(zombie.pid), *lines[1:]]) + "\n", encoding="utf-8")
        postgres.start()
    assert read_note(own_servers) == (NOTE, NOTE)


def test_a_postgres_started_by_hand_on_the_same_data_is_left_alone(
    own_servers: EmbeddedServers,
) -> None:
    """A live process in the data directory that the lock file names blocks the start."""
    postgres = own_servers.postgres
    postgres.kill()
    stale = postgres.data / "postmaster.pid"
    lines = stale.read_text(encoding="utf-8").splitlines()
    command = ["/bin/sh", "-c", "read line"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, cwd=postgres.data, user=account_of(postgres)
    ) as stranger:
        claimed = "\n".join([str(stranger.pid), *lines[1:]]) + "\n"
        stale.write_text(claimed, encoding="utf-8")
        with pytest.raises(EmbeddedServerError, match=r"postmaster\.pid.* already exists"):
            postgres.start()
        assert stale.read_text(encoding="utf-8") == claimed
        assert stranger.poll() is None


@pytest.mark.long
@pytest.mark.parametrize("name", ["data", "my \"own\" 'data'%20@home", "comma,separated"])
def test_data_outlives_an_orderly_stop_in_a_directory_of_the_users_choice(
    binaries: Binaries, open_directory: Path, name: str
) -> None:
    """Stopped and started again, whatever the directory's name."""
    chosen = open_directory / name
    with EmbeddedServers(chosen, binaries=binaries) as servers:
        write_note(servers)
        pids = [servers.redis.pid, servers.postgres.pid]
    assert not any(map(runs, pids))
    assert not list(chosen.glob("run/*"))
    with EmbeddedServers(chosen, binaries=binaries) as servers:
        assert read_note(servers) == (NOTE, NOTE)


def test_a_second_owner_of_a_directory_is_refused_and_disturbs_nothing(
    binaries: Binaries, open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two owners never run servers on the same data."""
    monkeypatch.setattr(server, "LOCK_MS_MAX", 50)
    with EmbeddedServers(open_directory, binaries=binaries) as first:
        write_note(first)
        with pytest.raises(EmbeddedServerError, match="in use by another process"):
            EmbeddedServers(open_directory, binaries=binaries).start()
        assert read_note(first) == (NOTE, NOTE)


@pytest.mark.parametrize("which", ["redis", "postgres"])
def test_a_paused_server_is_stopped_in_order(own_servers: EmbeddedServers, which: str) -> None:
    """A server under SIGSTOP hears the request to stop, and keeps what was written."""
    write_note(own_servers)
    paused = server_of(own_servers, which)
    pid = paused.pid
    paused.pause()
    wait_for(lambda: process_state(pid) == "T", "the server is stopped")
    paused.stop()
    assert not runs(pid)
    # The last words of a server that was asked; one that is killed has none.
    assert ("bye bye" if which == "redis" else "is shut down") in paused.log.read_text("utf-8")
    paused.start()
    assert read_note(own_servers) == (NOTE, NOTE)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
@pytest.mark.parametrize("which", ["redis", "postgres"])
def test_a_server_whose_supervisor_is_killed_ends_and_restarts(
    own_servers: EmbeddedServers, which: str
) -> None:
    """SIGKILL of the process in between leaves no server without anybody to stop it."""
    write_note(own_servers)
    orphan = server_of(own_servers, which)
    pid = orphan.pid
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    supervisor = int(stat.rpartition(")")[2].split()[1])
    assert supervisor != os.getpid()
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: not runs(pid), "the server ends")
    assert own_servers.watch() == (which,)
    assert read_note(own_servers) == (NOTE, NOTE)


@pytest.mark.parametrize("given_by", ["argument", "variable"])
def test_the_embedded_servers_are_refused_in_production(
    binaries: Binaries, monkeypatch: pytest.MonkeyPatch, given_by: str
) -> None:
    """Servers without passwords do not start where the settings say production."""
    if given_by == "variable":
        monkeypatch.setenv("FAREGATE_ENVIRONMENT", "Production")
    environment = "production" if given_by == "argument" else "development"
    with pytest.raises(ConfigurationError, match="not for production"):
        EmbeddedServers(binaries=binaries, environment=environment)
