"""Reads a body ahead of the app, for the fingerprint of a request with an idempotency key.

The draft has a key stand for one request with its payload, so the body must be known before the
charge (draft-ietf-httpapi-idempotency-key-header-07, sections 2.4 and 2.6).
"""

import json
from hashlib import sha256

from starlette.types import Message, Receive, Scope

#: How much of a body is compared, in bytes. As much of a request with a key may wait in memory.
BODY_BYTES_MAX = 1_048_576

#: A longer number is no length that any server has accepted.
_LENGTH_DIGITS_MAX = 19
_TYPE = frozenset((b"content-type",))
_DESCRIPTION = _TYPE | {b"content-length", b"content-digest"}


class ClientDisconnectedError(Exception):
    """The client left before its request had arrived. Never leaves the middleware."""


class RequestBody:
    """Passes messages from the server to the app, each once, and keeps a digest of the body."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        """Begin to pass on; nothing is read ahead before a fingerprint is asked for."""
        self._scope = scope
        self._receive = receive
        #: The message that was read ahead of the app, if any.
        self._ahead: Message | None = None
        self._sha256 = sha256()
        self._length = 0
        self._has_arrived = False

    @property
    def rest(self) -> Receive:
        """The function by which the app receives the rest of its request."""
        return self._receive if self._ahead is None else self.receive

    async def receive(self) -> Message:
        """Return the next message for the app."""
        ahead, self._ahead = self._ahead, None
        return ahead or await self._next()

    async def fingerprint(self) -> str:
        """Return a text that differs between two requests with one key unless they are the same.

        Method, path, query, Content-Type and body count. Of a body that is too long, the first
        `BODY_BYTES_MAX` bytes, Content-Length and Content-Digest count. A body that is announced as
        too long is not read, since reading it would send `100 (Continue)` to its client.

        Raises:
            ClientDisconnectedError: There will be no whole body.
        """
        scope, digest = self._scope, ""
        if _announced_length(scope) <= BODY_BYTES_MAX:
            await self._read_ahead()
            digest = self._sha256.hexdigest()
        is_whole = bool(digest) and self._length <= BODY_BYTES_MAX
        names = _TYPE if is_whole else _DESCRIPTION
        fields = sorted(
            [name.decode("latin-1"), value.decode("latin-1")]
            for name, value in scope["headers"]
            if name in names
        )
        query = scope.get("query_string", b"").decode("latin-1")
        return json.dumps([scope["method"], scope["path"], query, fields, digest, is_whole])

    async def _read_ahead(self) -> None:
        chunks: list[bytes] = []
        is_read = False
        while not self._has_arrived and self._length <= BODY_BYTES_MAX:
            message, is_read = await self._next(), True
            if message["type"] != "http.request":
                raise ClientDisconnectedError
            # Empty ones would be a list without an end.
            if chunk := message.get("body", b""):
                chunks.append(chunk)
        if is_read:
            more = not self._has_arrived
            body = b"".join(chunks)
            self._ahead = {"type": "http.request", "body": body, "more_body": more}

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and not self._has_arrived:
            chunk: bytes = message.get("body", b"")
            self._sha256.update(chunk[: max(0, BODY_BYTES_MAX - self._length)])
            self._length += len(chunk)
            self._has_arrived = not message.get("more_body", False)
        return message


def _announced_length(scope: Scope) -> int:
    """Return the length that Content-Length tells; 0 without one."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and len(value) <= _LENGTH_DIGITS_MAX:
            return int(value)
    return 0
