"""A proxy before Postgres that sees what a pooler would: how a session begins, and what it leaves.

A pooler in transaction mode lends a server for one transaction. It refuses a session that begins
with `options`, and whatever a session leaves on the server is left to somebody else.
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from threading import Thread

#: What lives longer than a transaction, asked of a session where its client goes.
_LEFT = """
select 'setting ' || name from pg_settings where source = 'session'
union all select 'statement ' || name from pg_prepared_statements
union all select 'cursor ' || name from pg_cursors
union all select 'channel ' || name from pg_listening_channels() as name
union all select 'table ' || relname from pg_class where relnamespace = pg_my_temp_schema()
union all
select 'lock' from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()
"""
_TERMINATE = b"X"


@dataclass(slots=True)
class Seen:
    """What went through."""

    #: The parameters with which each session began.
    began_with: list[dict[str, str]] = field(default_factory=list)
    #: What each session has left.
    left: list[list[str]] = field(default_factory=list)


@contextmanager
def proxy(path: Path, server: str) -> Iterator[Seen]:
    """Listen on a socket file, and pass sessions on to another one."""
    seen, threads = Seen(), list[Thread]()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                threads.append(Thread(target=_session, args=(client, server, seen)))
                threads[-1].start()

    accepting = Thread(target=accept)
    accepting.start()
    try:
        yield seen
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        accepting.join()
        for thread in threads:
            thread.join()


def _session(client: socket.socket, address: str, seen: Seen) -> None:
    with client, socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        head = _exactly(client, 4)
        start = _exactly(client, struct.unpack("!i", head)[0] - 4)
        words = start[4:].rstrip(b"\0").decode().split("\0")
        seen.began_with.append(dict(zip(words[::2], words[1::2], strict=True)))
        server.sendall(head + start)
        if _pass_on(client, server):
            server.sendall(_message(b"Q", _LEFT.encode() + b"\0"))
            seen.left.append(list(_rows(server)))


def _pass_on(client: socket.socket, server: socket.socket) -> bool:
    """Pass all on until one of them goes; return whether that was the client."""
    waiting = b""
    with DefaultSelector() as selector:
        for each in (client, server):
            selector.register(each, EVENT_READ)
        while True:
            for key, _ in selector.select():
                data = socket.socket.recv(key.fileobj, 65_536)  # type: ignore[arg-type]
                if key.fileobj is server:
                    if not data:
                        return False
                    client.sendall(data)
                    continue
                waiting += data
                messages, waiting = _whole(waiting)
                if not data or messages[-5:-4] == _TERMINATE:
                    server.sendall(messages.removesuffix(_message(_TERMINATE, b"")))
                    return True
                server.sendall(messages)


def _whole(data: bytes) -> tuple[bytes, bytes]:
    """Part bytes behind the last message that is there as a whole."""
    end = 0
    while len(data) >= end + 5:
        following = end + 1 + struct.unpack_from("!i", data, end + 1)[0]
        if following > len(data):
            break
        end = following
    return data[:end], data[end:]


def _rows(server: socket.socket) -> Iterator[str]:
    """The answer to a question that has one column."""
    while (kind := _exactly(server, 1)) != b"Z":
        body = _exactly(server, struct.unpack("!i", _exactly(server, 4))[0] - 4)
        if kind == b"D":
            yield body[6:].decode()
        assert kind != b"E", body
    _exactly(server, 5)


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", 4 + len(body)) + body


def _exactly(source: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = source.recv(count - len(data))
        if not more:
            raise ConnectionError
        data += more
    return data
