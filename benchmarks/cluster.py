"""A Redis Cluster on this machine: primaries without replicas, and what they have used together."""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from redis import Redis

from benchmarks.errors import BenchError
from benchmarks.servers import START_S_MAX, free_port, running_redis

SLOTS = 16_384
_POLL_S = 0.05
#: Longer than a busy machine stops a process, so that no node is taken for dead.
_NODE_TIMEOUT_MS = 60_000


@dataclass(frozen=True, slots=True)
class Used:
    """What some servers have used since they started."""

    cpu_s: float
    received_bytes: int
    sent_bytes: int
    log_bytes: int

    @classmethod
    def of(cls, urls: Sequence[str]) -> Self:
        """Ask each server, and add all up."""
        told = [_info(url) for url in urls]
        return cls(
            sum(one["used_cpu_user"] + one["used_cpu_sys"] for one in told),
            sum(one["total_net_input_bytes"] for one in told),
            sum(one["total_net_output_bytes"] for one in told),
            sum(one["aof_current_size"] for one in told),
        )

    def since(self, before: Self) -> "Used":
        """Return what was used since then."""
        return Used(
            self.cpu_s - before.cpu_s,
            self.received_bytes - before.received_bytes,
            self.sent_bytes - before.sent_bytes,
            self.log_bytes - before.log_bytes,
        )


@contextmanager
def running_cluster(program: Path, primaries: int) -> Iterator[Sequence[str]]:
    """Start a cluster with the slots shared out evenly, and yield the URL of each primary.

    Raises:
        BenchError: A node does not start, or the nodes do not find together.
    """
    buses = [free_port() for _ in range(primaries)]
    with ExitStack() as running:
        urls = [running.enter_context(_node(program, bus)) for bus in buses]
        _join(urls, buses[0])
        yield urls


def _node(program: Path, bus: int) -> AbstractContextManager[str]:
    return running_redis(
        program,
        cluster_enabled="yes",
        cluster_port=bus,
        cluster_node_timeout=_NODE_TIMEOUT_MS,
    )


def cluster_url(urls: Sequence[str]) -> str:
    """Return the URL of a cluster by those of its nodes."""
    return "redis+cluster://" + ",".join(urlsplit(url).netloc for url in urls)


def _join(urls: Sequence[str], first_bus: int) -> None:
    first = urlsplit(urls[0])
    for number, url in enumerate(urls):
        begin, end = (round(n * SLOTS / len(urls)) for n in (number, number + 1))
        with Redis.from_url(url) as node:
            node.execute_command("CLUSTER", "ADDSLOTSRANGE", begin, end - 1)
            if number:
                node.execute_command("CLUSTER", "MEET", first.hostname, first.port, first_bus)
    ends_at_s = time.monotonic() + START_S_MAX
    while not all(_is_ready(url, len(urls)) for url in urls):
        if time.monotonic() > ends_at_s:
            raise BenchError("the nodes of the cluster do not find together")
        time.sleep(_POLL_S)


def _is_ready(url: str, count: int) -> bool:
    with Redis.from_url(url) as node:
        told: dict[str, str] = node.execute_command("CLUSTER INFO")
    return told["cluster_state"] == "ok" and told["cluster_size"] == str(count)


def _info(url: str) -> dict[str, Any]:
    with Redis.from_url(url) as node:
        told: dict[str, Any] = node.info("all")
    return told
