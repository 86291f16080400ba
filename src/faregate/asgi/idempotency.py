"""The Idempotency-Key field, and the response that is saved for retries.

The field follows draft-ietf-httpapi-idempotency-key-header-07: a String of RFC 9651, in quotation
marks. A bare key, as many clients send it, is accepted, too.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from starlette.types import Scope, Send

from faregate.asgi.headers import Headers
from faregate.domain.decision import Decision
from faregate.domain.idempotency import KEY_BYTES_MAX

KEY_FIELD = b"idempotency-key"
#: A String of RFC 9651, section 3.3.3: printable ASCII, in which only `"` and `\` are escaped.
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_BARE = re.compile(r"[!#-~]+")
_ESCAPED = re.compile(r'\\(["\\])')
#: Fields that each response has anew, or that must not go to another browser.
_HEADERS_NOT_SAVED = frozenset(
    b"connection date keep-alive ratelimit ratelimit-policy server set-cookie trailer"
    b" transfer-encoding upgrade x-ratelimit-limit x-ratelimit-remaining x-ratelimit-reset".split()
)
#: The longest field of a key with KEY_BYTES_MAX bytes: quoted, with each byte escaped.
_FIELD_BYTES_MAX = 2 * KEY_BYTES_MAX + 2
_WEIGHT_0 = re.compile(r"0(?:\.0{0,3})?")
#: Marks a response as a saved one.
_REPLAYED = (b"idempotent-replayed", b"true")


class MalformedIdempotencyKeyError(ValueError):
    """The field is no valid key. Never leaves the middleware."""


def read_idempotency_key(scope: Scope) -> str | None:
    """Return the idempotency key of a request, or None if it has none.

    Raises:
        MalformedIdempotencyKeyError: The field occurs twice, is empty, too long, or no String.
    """
    values = [value for name, value in scope["headers"] if name == KEY_FIELD]
    if not values:
        return None
    if len(values) > 1 or len(values[0].strip()) > _FIELD_BYTES_MAX:
        raise MalformedIdempotencyKeyError
    text = str(values[0], "latin-1").strip()
    quoted = _QUOTED.fullmatch(text)
    if quoted is not None:
        text = _ESCAPED.sub(r"\1", str(quoted[1]))
    elif not _BARE.fullmatch(text):
        raise MalformedIdempotencyKeyError
    if not 0 < len(text) <= KEY_BYTES_MAX:
        raise MalformedIdempotencyKeyError
    return text


class ResponseRecorder:
    """Collects a response while it is sent, up to the size that is saved."""

    def __init__(self, status: int, headers: Iterable[tuple[bytes, bytes]], bytes_max: int) -> None:
        saved = [
            [part.decode("latin-1") for part in pair] for pair in headers if _is_saved(pair[0])
        ]
        self._head = json.dumps([status, saved]).encode()
        self._room = bytes_max - len(self._head) - 1
        self._chunks: list[bytes] = []

    def add(self, chunk: bytes) -> None:
        """Add the next part of the body."""
        self._room -= len(chunk)
        if self._room >= 0:
            self._chunks.append(chunk)
        else:
            self._chunks.clear()

    def encoded(self) -> bytes:
        """Return the response in one piece; empty if it is too large."""
        return b"\n".join((self._head, b"".join(self._chunks))) if self._room >= 0 else b""


def _is_saved(name: bytes) -> bool:
    return name.lower() not in _HEADERS_NOT_SAVED


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedResponse:
    """The saved response to an earlier request."""

    status: int
    headers: Headers
    body: bytes
    #: The decision on the earlier request.
    decision: Decision

    @classmethod
    def decode(cls, encoded: bytes, decision: Decision) -> Self:
        """Read a response from the bytes of `ResponseRecorder.encoded`."""
        head, _, body = encoded.partition(b"\n")
        status, pairs = json.loads(head)
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
        return cls(status=status, headers=headers, body=body, decision=decision)

    def is_acceptable(self, scope: Scope) -> bool:
        """Return whether a request accepts the content codings of the response.

        Without Accept-Encoding, any coding would be acceptable (RFC 9110, section 12.5.3). But no
        app encodes for such a client, so none is accepted here.
        """
        accepted = _codings(scope["headers"], b"accept-encoding")
        refused = {name for name, weight in accepted.items() if _WEIGHT_0.fullmatch(weight)}
        asked = {
            name if name in accepted else "*"
            for name in _codings(self.headers, b"content-encoding")
        }
        return asked <= accepted.keys() - refused

    async def send(self, send: Send, fields: Headers) -> None:
        """Send the response, with current rate limit fields."""
        headers = [*self.headers, _REPLAYED, *fields]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def _codings(headers: Headers, field_name: bytes) -> dict[str, str]:
    """Return the codings of a field with their weights, without `identity`."""
    listed = b",".join(value for name, value in headers if name.lower() == field_name)
    items = ("".join(item.lower().split()) for item in listed.decode("latin-1").split(","))
    codings = (item.partition(";q=") for item in items)
    return {
        name.removeprefix("x-"): weight
        for name, _, weight in codings
        if name not in {"", "identity"}
    }
