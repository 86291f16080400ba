"""A process that asks an app over HTTP: connections that are kept, one request after the other.

It reads one load a line, as JSON, and answers each by one line. Only answers of 200 count.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

from benchmarks.statistics import percentile_ms
from benchmarks.users import user_ids

_OK = b"HTTP/1.1 200"
_END = b"\r\n\r\n"
_LENGTH = b"content-length: "


class Connection(asyncio.Protocol):
    """Sends a request, waits for the whole answer, and sends it again until the end."""

    def __init__(self, user_id: UUID, ends_at_s: float) -> None:
        self._request = f"GET / HTTP/1.1\r\nhost: bench\r\nx-user: {user_id}\r\n\r\n".encode()
        self._ends_at_s = ends_at_s
        self._transport: Any = None
        self._received = b""
        self._sent_at_s = 0.0
        self.taken_s: list[float] = []
        self.errors: Counter[str] = Counter()
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        """Send the next request as soon as the answer is whole."""
        self._received += data
        head, separator, body = self._received.partition(_END)
        if not separator or len(body) < _length(head):
            return
        if head.startswith(_OK):
            self.taken_s.append(time.perf_counter() - self._sent_at_s)
        else:
            self.errors[head[9:12].decode()] += 1
        self._received = b""
        self._send()

    def connection_lost(self, _: Exception | None) -> None:
        """End; too early, if there was time left."""
        if time.perf_counter() < self._ends_at_s:
            self.errors["closed"] += 1
        self.ended.set_result(None)

    def _send(self) -> None:
        self._sent_at_s = time.perf_counter()
        if self._sent_at_s < self._ends_at_s:
            self._transport.write(self._request)
        else:
            self._transport.close()


def _length(head: bytes) -> int:
    where = head.lower().find(_LENGTH)
    return int(head[where + len(_LENGTH) :].split(b"\r", 1)[0]) if where >= 0 else 0


def _same(connection: Connection) -> Connection:
    return connection


async def load(port: int, seconds: float, users: Sequence[UUID]) -> dict[str, Any]:
    """Ask for a while on a connection for each user."""
    loop, began_at_s = asyncio.get_running_loop(), time.perf_counter()
    ends_at_s = began_at_s + seconds
    connections = []
    for user_id in users:
        connection = Connection(user_id, ends_at_s)
        await loop.create_connection(partial(_same, connection), "127.0.0.1", port)
        connections.append(connection)
    await asyncio.gather(*(connection.ended for connection in connections))
    taken_s = sorted(taken for connection in connections for taken in connection.taken_s)
    errors = sum((connection.errors for connection in connections), Counter[str]())
    return {
        "requests": len(taken_s),
        "errors": dict(errors),
        "rate": round(len(taken_s) / (time.perf_counter() - began_at_s), 1),
        "p50_ms": percentile_ms(taken_s, 50),
        "p99_ms": percentile_ms(taken_s, 99),
    }


def main() -> None:
    """Serve loads until there are no more."""
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        users = user_ids("user", asked["users_count"])[: asked["connections"]]
        told = asyncio.run(load(asked["port"], asked["seconds"], users))
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
