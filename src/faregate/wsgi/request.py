"""The request of a WSGI server as a scope of ASGI, and its body."""

import io
from typing import Any, Protocol

from starlette.types import Message, Scope

#: How much of a body is read at a time, in bytes.
CHUNK_BYTES = 65_536


class _Input(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


def scope_of(environ: dict[str, Any]) -> Scope:
    """Return the scope of a request. Its extension `wsgi.environ` is the environ itself.

    WSGI has joined fields of one name, and has made `_` of `-` in names (PEP 3333).
    """
    root_path = _text(environ.get("SCRIPT_NAME", ""))
    path = root_path + _text(environ.get("PATH_INFO", ""))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": environ.get("SERVER_PROTOCOL", "HTTP/1.1").partition("/")[2],
        "method": environ["REQUEST_METHOD"],
        "scheme": environ.get("wsgi.url_scheme", "http"),
        "path": path or "/",
        "raw_path": path.encode(),
        "query_string": environ.get("QUERY_STRING", "").encode("latin-1"),
        "root_path": root_path,
        "headers": _fields(environ),
        "client": _place(environ.get("REMOTE_ADDR", ""), environ.get("REMOTE_PORT", "")),
        "server": _place(environ.get("SERVER_NAME", ""), environ.get("SERVER_PORT", "")),
        "state": {},
        "extensions": {"wsgi.environ": environ},
    }


def _place(host: str, port: object) -> tuple[str, int] | None:
    """Return an address; a server on a socket of the file system has none."""
    return (host, int(str(port)) if str(port).isdigit() else 0) if host else None


def _text(wsgi_text: str) -> str:
    """Return a path as text, from the bytes that WSGI has as characters."""
    return wsgi_text.encode("latin-1").decode("utf-8", "replace")


def _fields(environ: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    given = {
        name.removeprefix("HTTP_"): value
        for name, value in environ.items()
        if name.startswith("HTTP_") or (name in {"CONTENT_TYPE", "CONTENT_LENGTH"} and value)
    }
    return [
        (name.replace("_", "-").lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in given.items()
    ]


class InputReader:
    """Reads a body for the gate, as far as it asks, and puts it back for the app."""

    def __init__(self, environ: dict[str, Any]) -> None:
        """Read nothing yet."""
        self._environ = environ
        self._input: _Input = environ["wsgi.input"]
        length = str(environ.get("CONTENT_LENGTH") or "")
        #: The rest of the body, in bytes; None if only the end of the input shows it.
        self._left: int | None = int(length) if length.isdigit() else 0
        if not length and environ.get("wsgi.input_terminated"):
            self._left = None
        self._ahead: list[bytes] = []

    def next(self) -> Message:
        """Return the next part of the body as an ASGI message."""
        size = CHUNK_BYTES if self._left is None else min(CHUNK_BYTES, self._left)
        chunk = self._input.read(size) if size else b""
        if size and not chunk and self._left is not None:
            return {"type": "http.disconnect"}
        self._ahead.append(chunk)
        if self._left is not None:
            self._left -= len(chunk)
        more = bool(chunk) and self._left != 0
        return {"type": "http.request", "body": chunk, "more_body": more}

    def put_back(self) -> None:
        """Let the app read from the beginning."""
        if self._ahead:
            rest = _Joined(b"".join(self._ahead), self._input, self._left)
            self._environ["wsgi.input"] = io.BufferedReader(rest)


class _Joined(io.RawIOBase):
    """A stream of the part that was read, then the rest of the input."""

    def __init__(self, ahead: bytes, rest: _Input, rest_bytes: int | None) -> None:
        self._ahead = memoryview(ahead)
        self._rest = rest
        #: The bytes that may be read of the rest, since some servers wait for more than there is.
        self._left = rest_bytes

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer; return how much."""
        chunk = bytes(self._ahead[: len(buffer)])
        self._ahead = self._ahead[len(chunk) :]
        size = len(buffer) if self._left is None else min(len(buffer), self._left)
        if not chunk and size:
            chunk = self._rest.read(size)
            self._left = None if self._left is None else self._left - len(chunk)
        buffer[: len(chunk)] = chunk
        return len(chunk)
