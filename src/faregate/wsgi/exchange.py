"""The exchange of one request between the thread of the server and the event loop of the gate.

    thread of the server                        event loop of the gate
    Exchange.begin ────────────────────────────> middleware ─> admission
       reads the body where it is asked for <───    │
       runs the WSGI app <─────────────────────── bridge
       each message of its response ──────────────> bridge ─> responder
       what goes to the client <────────────────────────────── send

Calls of the server and the app happen in the thread of the server.
"""

import asyncio
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeAlias

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from faregate.domain.errors import LedgerUnavailableError
from faregate.sync import SyncGate
from faregate.wsgi.request import InputReader, scope_of

_EXTENSION = "faregate.wsgi"
_READ, _SERVE, _DONE = "read", "serve", "done"
_Event: TypeAlias = Message | str


class Exchange:
    """Passes messages between two threads, one at a time."""

    def __init__(self, gate: SyncGate, environ: dict[str, Any]) -> None:
        #: The ASGI scope of the request.
        self.scope: Scope = scope_of(environ)
        self.scope["extensions"][_EXTENSION] = self
        self._gate = gate
        self._reader = InputReader(environ)
        self._events: SimpleQueue[_Event] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        #: Messages of the app, an exception that ends it, or None at its end.
        self._messages: asyncio.Queue[Message | BaseException | None] = asyncio.Queue()
        self._future: Future[None] = Future()
        self._is_serving = False
        self._is_done = False

    def begin(self, middleware: ASGIApp) -> Message | None:
        """Let the middleware decide; return the start of its response, or None to run the app."""

        async def serve(_: object) -> None:
            self._loop = asyncio.get_running_loop()
            await middleware(self.scope, self._receive, self._send)

        self._future.add_done_callback(lambda _: self._events.put(_DONE))
        try:
            self._gate.submit(serve, self._future)
            event = self._next()
        except BaseException:
            # Interrupted: a running charge is voided.
            self._future.cancel()
            raise
        self._is_serving = event == _SERVE
        self._reader.put_back()
        if event == _DONE:
            self._raise_error()
            # The client disconnected before its request had arrived.
            return {"type": "http.response.start", "status": 400, "headers": []}
        return event if isinstance(event, dict) else None

    def pass_on(self, message: Message) -> Message:
        """Pass on a message of the app; return it in the form for the client."""
        self._post(message)
        return self.next_message()

    def next_message(self) -> Message:
        """Return the next message for the client, or an empty last one."""
        event = self._next() if not self._is_done else _DONE
        if isinstance(event, dict):
            return event
        self._raise_error()
        return {"type": "http.response.body", "body": b""}

    def fail(self, error: BaseException) -> None:
        """End the app by an exception; its charge is given back if nothing was sent."""
        # A KeyboardInterrupt would end the event loop, too.
        self._post(error if isinstance(error, Exception) else asyncio.CancelledError())
        self._wait()

    def end(self) -> None:
        """End the app, and wait until its request is settled."""
        if not self._is_done:
            if self._is_serving:
                self._post(None)
            self._wait()
            self._raise_error()

    def _wait(self) -> None:
        while not self._is_done:
            self._next()

    def _next(self) -> _Event:
        while (event := self._events.get()) == _READ:
            try:
                part = self._reader.next()
            except Exception:  # Each server has its own exception for a disconnected client.
                part = {"type": "http.disconnect"}
            self._post(part)
        self._is_done = event == _DONE
        return event

    def _post(self, message: Message | BaseException | None) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._messages.put_nowait, message)

    def _raise_error(self) -> None:
        if self._future.cancelled():
            raise LedgerUnavailableError("the gate was closed")
        if (error := self._future.exception()) is not None:
            raise error

    async def _receive(self) -> Message:
        self._events.put(_READ)
        part = await self._messages.get()
        if not isinstance(part, dict):
            return {"type": "http.disconnect"}
        return part

    async def _send(self, message: Message) -> None:
        self._events.put(message)

    async def run_app(self, send: Send) -> None:
        """Represent the app on the event loop."""
        self._events.put(_SERVE)
        while (message := await self._messages.get()) is not None:
            if isinstance(message, BaseException):
                raise message
            await send(message)


async def bridge(scope: Scope, _receive: Receive, send: Send) -> None:
    """The ASGI app inside the middleware, which runs the WSGI app of a request."""
    exchange: Exchange = scope["extensions"][_EXTENSION]
    await exchange.run_app(send)
