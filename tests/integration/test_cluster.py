"""A node of a Redis Cluster: refused in words, where the ledger asks it for another node's keys."""

import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import MovedError, RedisError

from faregate import Settings, build_gate
from faregate.bootstrap import open_stream, open_sweeper
from faregate.cli.servers import Binaries
from faregate.domain.errors import ConfigurationError
from faregate.ports import Cursor
from waiting import until

STOP_S_MAX = 20
CURSOR = Cursor(number=1, epoch=1, position="1-1", digest=bytes(32), ordinal=1)
#: Two nodes, of which this is one; the other, which is not there, has all slots.
NODES = """\
{us} 127.0.0.1:{port}@{bus} myself,master - 0 0 1 connected
{them} 127.0.0.1:1@10001 master - 0 0 2 connected 0-16383
vars currentEpoch 2 lastVoteEpoch 0
"""


def is_ready(url: str) -> bool:
    """Whether the node serves, and believes that its cluster does."""
    try:
        with Redis.from_url(url) as client:
            return bool(client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
    except RedisError:
        return False


@pytest.fixture
async def node(binaries: Binaries, open_directory: Path) -> AsyncIterator[str]:
    """The URL of a node that answers every key with MOVED."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        port, bus = one.getsockname()[1], two.getsockname()[1]
    nodes = NODES.format(us="a" * 40, them="b" * 40, port=port, bus=bus)
    (open_directory / "nodes.conf").write_text(nodes, encoding="utf-8")
    options = {
        "bind": "127.0.0.1",
        "port": port,
        "cluster-port": bus,
        "cluster-enabled": "yes",
        "cluster-require-full-coverage": "no",
        "cluster-node-timeout": 600_000,
        "dir": open_directory,
        "save": "",
    }
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    command = [str(binaries.redis), *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: ASYNC220
        url = f"redis://127.0.0.1:{port}"
        try:
            await until(lambda: process.poll() is not None or is_ready(url))
            assert process.poll() is None
            yield url
        finally:
            process.kill()
            process.wait(STOP_S_MAX)


async def test_a_node_of_a_cluster_is_refused_in_words(node: str, database_url: str) -> None:
    """By what an API, a worker and an operator do first; not by the bare text of a reply."""
    settings = Settings(redis_url=node, postgres_url=database_url, decision_timeout_ms=10_000)
    with Redis.from_url(node) as client, pytest.raises(MovedError):
        client.get("any")
    said = "Redis Cluster is not supported yet.*FAREGATE_REDIS_URL"
    gate = build_gate(settings)
    with pytest.raises(ConfigurationError, match=said):
        await gate.start()
    await gate.aclose()
    with open_stream(settings) as stream, open_sweeper(settings) as sweeper:
        asked: list[Callable[[], object]] = [
            stream.shards_pending,
            stream.epochs,
            stream.identity_fields,
            lambda: stream.read(0, None, 1),
            lambda: stream.note_stored(0, CURSOR),
            sweeper.shards_due,
            sweeper.open_holds,
        ]
        for ask in asked:
            with pytest.raises(ConfigurationError, match=said):
                ask()
