"""Reads a body ahead of the app, for the fingerprint of a request with an idempotency key.

By the draft, a key identifies one request with its payload, so the body must be known before the
charge (draft-ietf-httpapi-idempotency-key-header-07, sections 2.4 and 2.6).
"""

import json
from hashlib import sha256

from starlette.types import Message, Receive, Scope

#: The part of a body that is compared, in bytes. This much of a request with a key may wait in
#: memory.
BODY_BYTES_MAX = 1_048_576

#: No server accepts a length with more digits.
_LENGTH_DIGITS_MAX = 19
_TYPE = frozenset((b"content-type",))
_DESCRIPTION = _TYPE | {b"content-length", b"content-digest"}


class ClientDisconnectedError(Exception):
    """The client disconnected before its request had arrived. Never leaves the middleware."""


class RequestBody:
    """Passes messages from the server to the app, each once, and computes a digest of the body."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        """Read nothing yet: only a fingerprint reads ahead of the app."""
        self._scope = scope
        self._receive = receive
        #: The message that was read ahead of the app, if any.
        self._ahead: Message | None = None
        self._sha256 = sha256()
        self._length = 0
        self._has_arrived = False

    @property
    def rest(self) -> Receive:
        """The receive function for the rest of the request."""
        return self._receive if self._ahead is None else self.receive

    async def receive(self) -> Message:
        """Return the next message for the app."""
        ahead, self._ahead = self._ahead, None
        return ahead or await self._next()

    async def fingerprint(self) -> str:
        """Return a text that is equal for two requests with one key only if they are the same.

        It covers method, path, query, Content-Type and body. For a body that is too long, it covers
        the first `BODY_BYTES_MAX` bytes, Content-Length and Content-Digest. A body that
        Content-Length announces as too long is not read, since reading it would send `100
        (Continue)` to the client.

        Raises:
            ClientDisconnectedError: The body will not be complete.
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
            # Without this, empty messages would make the list endless.
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
    """Return Content-Length; 0 without one."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and len(value) <= _LENGTH_DIGITS_MAX:
            return int(value)
    return 0
