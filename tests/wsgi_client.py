"""Calls WSGI apps behind a gate in memory, with a check of the protocol on both sides."""

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

from faregate import SyncGate
from faregate.testing import MemoryGate
from faregate.wsgi import FaregateWSGI
from faregate.wsgi.response import StartResponse, WSGIApp


@dataclass
class Answer:
    """What a client got."""

    status: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    error: BaseException | None = None


@dataclass
class Site:
    """A gate in memory and its user, in front of whichever app."""

    memory: MemoryGate
    gate: SyncGate
    user: UUID

    def around(self, app: WSGIApp, **options: Any) -> WSGIApp:
        """Mount the middleware, with a check of the protocol on both sides."""
        inner = cast("WSGIApp", validator(cast("Any", app)))
        return FaregateWSGI(inner, self.gate, lambda _: self.user, **options)

    @property
    def taken(self) -> int:
        """What was charged and not given back."""
        return self.memory.charged() - self.memory.refunded()


def ask(app: WSGIApp, method: str = "GET", body: bytes = b"", **fields: str) -> Answer:
    """Send one request, as a server does; what the app raises is kept."""
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "QUERY_STRING": ""}
    setup_testing_defaults(environ)
    environ |= {"CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body)}
    environ |= {f"HTTP_{name.upper()}": value for name, value in fields.items()}
    answer = Answer()

    def start_response(
        status: str, headers: list[tuple[str, str]], exc_info: object = None
    ) -> Callable[[bytes], object]:
        answer.status, answer.headers = status, {k.lower(): v for k, v in headers}
        return lambda _: None

    try:
        parts = cast("WSGIApp", validator(cast("Any", app)))(environ, start_response)
        try:
            for part in parts:
                answer.body += part
        finally:
            cast("Any", parts).close()
    except BaseException as error:
        answer.error = error
    return answer


def answers(status: str, *parts: bytes, length: bool = False) -> WSGIApp:
    """An app that answers every request alike."""

    def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        headers = [("Content-Type", "text/plain")]
        if length:
            headers.append(("Content-Length", str(sum(map(len, parts)))))
        start_response(status, headers)
        return list(parts)

    return app
