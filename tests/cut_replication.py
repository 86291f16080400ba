"""Replication that is cut, so that a replica provably lacks the newest of its primary."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from redis.exceptions import RedisError

from tcp_redis import TcpRedis
from waiting import wait_for

_WRONG = "nobody-has-it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A primary whose replicas get nothing from it any more, and know nothing of it."""

    primary: TcpRedis
    replicas: Sequence[TcpRedis]

    def lacks(self, stream: bytes) -> int:
        """Return how many entries of a stream no replica has."""
        counts = [_length(one, stream) for one in self.replicas]
        return _length(self.primary, stream) - max(counts)


@contextmanager
def replication_cut(primary: TcpRedis, replicas: Sequence[TcpRedis]) -> Iterator[Cut]:
    """Cut replicas off during the block, which begins when no link is left.

    Replicas have a wrong password meanwhile, so that their primary refuses each new link, and they
    may be elected all the same.
    """
    for one in replicas:
        one.ask("CONFIG", "SET", "masterauth", _WRONG)
    primary.ask("CLIENT", "KILL", "TYPE", "replica")
    wait_for(lambda: _is_cut(primary, replicas), "replication is cut")
    try:
        yield Cut(primary=primary, replicas=replicas)
    finally:
        for one in replicas:
            if one.is_alive:
                one.ask("CONFIG", "SET", "masterauth", "")


def _is_cut(primary: TcpRedis, replicas: Sequence[TcpRedis]) -> bool:
    try:
        left = int(primary.ask("INFO", "replication")["connected_slaves"])
        links = {one.ask("INFO", "replication")["master_link_status"] for one in replicas}
    except RedisError:
        return False
    return left == 0 and links == {"down"}


def _length(node: TcpRedis, stream: bytes) -> int:
    # A replica in a cluster answers those who know that it is one.
    with node.client.client() as connection:
        if "cluster-enabled" in node.options:
            connection.execute_command("READONLY")
        return int(connection.execute_command("XLEN", stream))
