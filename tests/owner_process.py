"""A process that owns embedded servers, for tests that kill it or run it as another user.

`python owner_process.py '{"redis": ..., "postgres": ..., "directory": ..., "task": ...}'`

Task `hold` starts the servers, prints what they are as one line of JSON and then waits to be
killed; `hold_forked` forks first, so that a child keeps every open file of its parent. Task
`exercise` writes to both, kills both, starts them again, prints what it found, and stops them.
"""

import json
import os
import sys
import threading
from pathlib import Path

import psycopg
from redis import Redis

from faregate.cli.servers import Binaries, EmbeddedServers

NOTE = "kept"


def write_note(servers: EmbeddedServers) -> None:
    """Write to both servers what `read_note` finds."""
    with Redis.from_url(servers.redis_url) as client:
        client.set("note", NOTE)
    with psycopg.connect(servers.postgres_url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS note (text text NOT NULL)")
        connection.execute("TRUNCATE note")
        connection.execute("INSERT INTO note VALUES (%s)", (NOTE,))


def read_note(servers: EmbeddedServers) -> tuple[object, object]:
    """Read from Redis and from Postgres."""
    with Redis.from_url(servers.redis_url, decode_responses=True) as client:
        in_redis = client.get("note")
    with psycopg.connect(servers.postgres_url) as connection:
        row = connection.execute("SELECT text FROM note").fetchone()
    return in_redis, row[0] if row else None


def describe(servers: EmbeddedServers) -> dict[str, object]:
    """Say what runs where."""
    return {
        "redis": servers.redis.pid,
        "postgres": servers.postgres.pid,
        "uid": os.geteuid(),
        "postgres_uid": (servers.postgres.data / "postmaster.pid").stat().st_uid,
        "directory": str(servers.directory),
        "redis_url": servers.redis_url,
        "postgres_url": servers.postgres_url,
    }


def exercise(servers: EmbeddedServers) -> dict[str, object]:
    """Write, kill both, start both again, and say what was found."""
    write_note(servers)
    before = describe(servers)
    servers.redis.kill()
    servers.postgres.kill()
    restarted = servers.watch()
    return {**before, "restarted": restarted, "note": read_note(servers)}


def main() -> None:
    """Do the task."""
    wish = json.loads(sys.argv[1])
    directory = wish.get("directory")
    owned = EmbeddedServers(
        Path(directory) if directory else None,
        binaries=Binaries(redis=Path(wish["redis"]), postgres=Path(wish["postgres"])),
    )
    with owned as servers:
        if wish["task"] == "exercise":
            found = exercise(servers)
            sys.stdout.write(json.dumps(found) + "\n")
            return
        write_note(servers)
        found = describe(servers)
        if wish["task"] == "hold_forked":
            found["child"] = os.fork()
        if found.get("child") != 0:
            sys.stdout.write(json.dumps(found) + "\n")
            sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main()
