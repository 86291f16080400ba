"""The response of a WSGI app, which passes through the gate to the server."""

from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, TypeAlias

from starlette.types import Message

from faregate.wsgi.exchange import Exchange

_ExcInfo: TypeAlias = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)
#: The callable of a server (PEP 3333).
StartResponse: TypeAlias = Callable[..., Callable[[bytes], object]]
WSGIApp: TypeAlias = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]

_PHRASES = {status.value: status.phrase for status in HTTPStatus}


def start(message: Message, start_response: StartResponse, status: str = "") -> None:
    """Start a response at the server, with the reason phrase of the app's `status`."""
    code = message["status"]
    line = status if status.startswith(str(code)) else f"{code} {_PHRASES.get(code, 'Unknown')}"
    headers = [
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]
    ]
    start_response(line, headers)


class Response:
    """Runs the app up to the first part of its body, then is the iterable for the server."""

    def __init__(self, exchange: Exchange, start_response: StartResponse) -> None:
        self._exchange = exchange
        self._start_response = start_response
        self._head: tuple[str, list[tuple[str, str]]] | None = None
        self._has_started = False
        #: The data that the app wrote by the callable of `start_response`.
        self._written: list[bytes] = []
        self._iterable: Iterable[bytes] = ()
        self._parts: Iterator[bytes] = iter(())
        #: The rest of the body, in bytes; None if unknown.
        self._left: int | None = None
        self._has_failed = False

    def run(self, app: WSGIApp, environ: dict[str, Any]) -> Self:
        """Run the app until the start of its response is known, and start it at the server.

        A failure before that is refunded.
        """
        try:
            self._iterable = app(environ, self._begin)
            chunks = self._chunks()
            first = next(chunks, None)
            self._send_head()
        except BaseException as error:
            self._fail(error)
            self.close()
            raise
        self._parts = self._sent(first, chunks)
        return self

    def _begin(
        self, status: str, headers: list[tuple[str, str]], exc_info: _ExcInfo | None = None
    ) -> Callable[[bytes], object]:
        """The `start_response` for the app."""
        if exc_info and exc_info[1] is not None and self._has_started:
            raise exc_info[1].with_traceback(exc_info[2])
        if self._head is not None and not exc_info:
            raise AssertionError("the app has called start_response twice")
        self._head = status, headers
        return self._written.append

    def _chunks(self) -> Iterator[bytes]:
        for chunk in self._iterable:
            yield from self._take_written()
            if chunk:
                yield chunk
        yield from self._take_written()

    def _take_written(self) -> list[bytes]:
        written, self._written[:] = [*self._written], []
        return written

    def _send_head(self) -> None:
        if self._head is None:
            raise AssertionError("the app has not called start_response")
        status, headers = self._head
        pairs = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers
        ]
        lengths = [value for name, value in pairs if name == b"content-length"]
        self._left = (
            int(lengths[0]) if lengths and self._exchange.scope["method"] != "HEAD" else None
        )
        begun = self._exchange.pass_on(
            {"type": "http.response.start", "status": int(status[:3]), "headers": pairs}
        )
        start(begun, self._start_response, status)
        self._has_started = True

    def _sent(self, first: bytes | None, rest: Iterator[bytes]) -> Iterator[bytes]:
        """Pass the body on in parts; the gate gets the last part before the server sends it."""
        is_over = False
        chunk = first
        while chunk is not None:
            if self._left is not None:
                self._left -= len(chunk)
            more = self._left is None or self._left > 0
            if not is_over:
                self._pass_on(chunk, more=more)
            is_over = not more
            yield chunk
            chunk = next(rest, None)
        if not is_over:
            self._pass_on(b"", more=False)

    def _pass_on(self, chunk: bytes, *, more: bool) -> None:
        self._exchange.pass_on({"type": "http.response.body", "body": chunk, "more_body": more})

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._parts)
        except StopIteration:
            raise
        except BaseException as error:
            self._fail(error)
            raise

    def _fail(self, error: BaseException) -> None:
        if not self._has_failed:
            self._has_failed = True
            self._exchange.fail(error)

    def close(self) -> None:
        """Close the response of the app, then settle its request. The server always calls it."""
        try:
            if close := getattr(self._iterable, "close", None):
                close()
        finally:
            if not self._has_failed:
                self._exchange.end()
