"""Completes an idempotency key: notes that its request was served, and saves the response."""

from collections.abc import Callable

from starlette.types import Message, Send

from faregate.asgi.charge_context import ChargeContext
from faregate.asgi.idempotency import ResponseRecorder
from faregate.asgi.logs import RequestLog
from faregate.domain.errors import FaregateError

_BODY = {"http.response.body", "http.response.pathsend"}


class RequestCompletion:
    """Wraps `send` for a request with a key.

    The key is completed right before the last part of the response is sent. So a client with the
    whole response never gets the answer that its request is in flight. The key of a failed request
    is not completed.
    """

    def __init__(
        self,
        context: ChargeContext,
        has_failed: Callable[[], bool],
        *,
        send: Send,
        bytes_max: int,
        log: RequestLog,
    ) -> None:
        self._context = context
        self._has_failed = has_failed
        self._send = send
        self._bytes_max = bytes_max
        self._log = log
        self._recorder: ResponseRecorder | None = None

    async def send(self, message: Message) -> None:
        """Pass a message on to the server."""
        kind = message["type"]
        if kind in _BODY and not self._has_failed():
            await self._note_part(message)
        elif kind == "http.response.start" and self._recorder is None and self._bytes_max:
            status, headers = message["status"], message["headers"]
            self._recorder = ResponseRecorder(status, headers, self._bytes_max)
        await self._send(message)

    async def _note_part(self, message: Message) -> None:
        recorder = self._recorder
        if recorder is not None:
            recorder.add(message.get("body", b""))
        if message.get("more_body", False):
            return
        # The content of a file that the server sends itself is unknown here.
        is_whole = recorder is not None and message["type"] == "http.response.body"
        response = recorder.encoded() if recorder is not None and is_whole else b""
        try:
            await self._context.gate.complete(self._context.decision, response)
        except FaregateError as error:
            self._log.warning("idempotency key not completed: %s", error)
