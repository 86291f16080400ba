"""Bodies of requests over sockets: compared, broken off, expected, and never read."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import h2.config
import h2.connection
import pytest

from records_of import amounts
from waiting import WAIT_S_MAX, wait_for
from wire_client import Api

KEY = "idempotency-key: one\r\n"


@contextmanager
def connected(api: Api) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", api.port), WAIT_S_MAX) as connection:
        yield connection


def head(path: str, user: UUID, *lines: str) -> bytes:
    fields = "".join(f"{line}\r\n" for line in lines)
    return f"POST {path} HTTP/1.1\r\nhost: a\r\nx-user: {user}\r\n{fields}\r\n".encode()


def reset(connection: socket.socket) -> None:
    """Close without a farewell."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_another_body_under_the_same_key_is_refused(api: Api, user: UUID) -> None:
    """Of the same length; the same body is answered again, whether its length is told or not."""
    first, other, again = (
        api.ask("/uploads", user, "POST", body=body, idempotency_key="one")
        for body in (b"amount=10", b"amount=20", [b"amoun", b"t=10"])
    )
    assert first.json() == {"length": 9, "start": "amount=10"}
    assert (other.status, other.json()["code"]) == (422, "key_reused")
    assert (again.body, again.headers["idempotent-replayed"]) == (first.body, "true")
    assert amounts(api, user) == [-1]


@pytest.mark.parametrize("size", [0, 70_000, 3_000_000])
def test_a_body_of_any_size_reaches_the_app_whole(api: Api, user: UUID, size: int) -> None:
    """With its length and without; more than what is compared streams through."""
    for key, body in (("told", b"x" * size), ("parts", [b"x" * (size // 5)] * 5)):
        answer = api.ask("/uploads", user, "POST", body=body, idempotency_key=key)
        assert (answer.status, answer.json()["length"]) == (200, size)


@pytest.mark.parametrize(("length", "is_asked_for"), [(9, True), (3_000_000, False)])
def test_a_client_that_waits_for_a_100_is_asked_for_the_compared_part(
    api: Api, user: UUID, length: int, is_asked_for: object
) -> None:
    """A long body is not asked for before the charge: a client without credits keeps it."""
    for _ in range(3):
        api.ask("/anything", user)
    fields = ("expect: 100-continue", f"content-length: {length}", KEY.strip())
    with connected(api) as connection:
        connection.sendall(head("/uploads", user, *fields))
        answered = connection.recv(65_536)
        if answered.startswith(b"HTTP/1.1 100"):
            # Hypercorn asks each client, before it runs the app.
            assert is_asked_for or api.server == "hypercorn"
            if is_asked_for:
                connection.sendall(b"x" * length)
            answered = answered.partition(b"\r\n\r\n")[2] or connection.recv(65_536)
        assert answered.startswith(b"HTTP/1.1 402"), answered
    assert amounts(api, user) == [-1, -1, -1]


def break_off(api: Api, path: str, user: UUID) -> None:
    """Begin an upload whose length nobody knows, by HTTP/2 where the server talks it."""
    with connected(api) as connection:
        if api.server == "uvicorn":
            connection.sendall(head(path, user, "transfer-encoding: chunked", KEY.strip()))
            connection.sendall(b"3\r\nabc\r\n")
        else:
            http2 = h2.connection.H2Connection(h2.config.H2Configuration())
            http2.initiate_connection()
            fields = [(":method", "POST"), (":scheme", "http"), (":authority", "a")]
            own = [(":path", path), ("x-user", str(user)), ("idempotency-key", "one")]
            http2.send_headers(1, fields + own)
            http2.send_data(1, b"abc")
            connection.sendall(http2.data_to_send())
        if path == "/upload":
            wait_for(lambda: amounts(api, user) == [-1], "the request is charged")
        reset(connection)


def test_an_upload_that_breaks_off_is_given_back(api: Api, user: UUID) -> None:
    """Although no length was announced: its client cannot have been served."""
    break_off(api, "/upload", user)
    wait_for(lambda: amounts(api, user) == [-1, 1], "it is given back")


def test_an_upload_with_a_key_that_breaks_off_is_not_charged(api: Api, user: UUID) -> None:
    """And the key is free for the retry."""
    break_off(api, "/uploads", user)
    answer = api.ask("/uploads", user, "POST", body=b"abcdef", idempotency_key="one")
    assert answer.json() == {"length": 6, "start": "abcdef"}
    assert amounts(api, user) == [-1]


@pytest.mark.parametrize("how", ["look", "wait"])
def test_a_body_that_arrived_and_was_never_read_is_paid_for(api: Api, user: UUID, how: str) -> None:
    """The client has left, and the app raises when it learns of that; its work was done."""
    with connected(api) as connection:
        connection.sendall(head(f"/unread?{how}", user, "content-length: 9") + b"amount=10")
        wait_for(lambda: amounts(api, user) == [-1], "the request is charged")
        reset(connection)
    wait_for(lambda: api.ask("/healthz").status == 200, "the server has seen the close")
    api.ask(f"/release/{user}")
    wait_for(lambda: api.ask(f"/runs/{user}").json() == 1, "the app has seen it")
    api.ask("/anything", user)
    assert amounts(api, user) == [-1, -1]
