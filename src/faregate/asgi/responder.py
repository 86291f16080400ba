"""One HTTP request behind the gate: watches its response, and gives back what the app fails.

What it promises, beyond the mapping in `problems`:

- A refund is recorded before the response starts: for a status that is refunded, for an exception
  before the start, for a request that is cancelled before it, as by a timeout around the gate, and
  for an app that returns without a response, since the client then got nothing. A refund that Redis
  does not answer is made in the background; the response goes out.
- A redirect to the same path with or without its last slash is given back: what it leads to costs.
- A response that has started is paid for: nothing is given back after it, and no header changes.
- A disconnect is no refund. An app learns of it by `receive`, and often raises then; so once it has
  been told, nothing is given back. But a request whose body broke off while the app waited for it
  is refunded: its client cannot have been served.
- A request with an idempotency key is completed before its response ends; see `completion`. One
  that the client is asked to send again is given back, so that the retry is served. Where a request
  fails and its charge stands, a retry is served for that charge after the lease.
- A hold is kept open as long as its app runs; see `open_hold`.
- Bodies pass through chunk by chunk.
"""

import asyncio
from collections.abc import Awaitable, Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from faregate.asgi.admission import Admission
from faregate.asgi.charge_context import ChargeContext
from faregate.asgi.completion import RequestCompletion
from faregate.asgi.headers import rate_limit_fields, with_fields
from faregate.asgi.open_hold import RequestHold
from faregate.asgi.refunds import give_back
from faregate.asgi.rules import Rule, is_slash_redirect

#: The app finds its `ChargeContext` under this name in `scope["state"]`.
STATE_NAME = "faregate"

_START = "http.response.start"
#: The least status of a response that may have to be given back though its status is not refunded.
_REDIRECTS_MIN = 300
#: Asks a client to send the same request again: Request Timeout, Conflict, Too Early, and Too Many
#: Requests. A response that is kept for a key would be the answer to the retry, too.
_ASKS_AGAIN = frozenset((408, 409, 425, 429))


class Responder:
    """Runs the app for one request."""

    __slots__ = (
        "_admission",
        "_context",
        "_has_failed",
        "_has_received",
        "_is_broken",
        "_is_disconnected",
        "_open_hold",
        "_receive",
        "_scope",
        "_send",
        "has_started",
    )

    def __init__(self, admission: Admission, scope: Scope, receive: Receive, send: Send) -> None:
        self._admission = admission
        self._scope = scope
        self._receive = receive
        self._send = send
        self._context: ChargeContext | None = None
        self._open_hold: RequestHold | None = None
        self._has_received = False
        #: Whether the client cannot have been served if it leaves now, since the app waits for the
        #: rest of its request. A body that nobody reads may have arrived.
        self._is_broken = False
        self._is_disconnected = False
        self._has_failed = False
        #: Whether the response has begun.
        self.has_started = False

    def begin(self, context: ChargeContext, rule: Rule) -> None:
        """Take over a request that is charged."""
        self._context = context
        self._scope.setdefault("state", {})[STATE_NAME] = context
        if context.hold is not None:
            ttl_ms, log = rule.hold_ttl_ms, self._admission.log
            self._open_hold = RequestHold(context, context.hold, ttl_ms=ttl_ms, log=log)
        if context.decision.keyed_attempt is not None:
            self._send = RequestCompletion(
                context,
                lambda: self._has_failed,
                send=self._send,
                bytes_max=rule.replay_bytes_max,
                log=self._admission.log,
            ).send

    async def run(self, app: ASGIApp) -> None:
        """Run the app; an exception of the app is raised once its charge is given back."""
        try:
            await app(self._scope, self.receive, self.send)
        except Exception as error:
            name = type(error).__name__
            await self._end("the app failed before it answered", {"exception": name})
            raise
        except asyncio.CancelledError:
            if not self.has_started:
                await self._give_back("the request was cancelled before it was answered", None)
            if self._open_hold is not None:
                await self._open_hold.finish_cancelled()
            raise
        finally:
            if self._open_hold is not None:
                self._open_hold.stop()
        if not self.has_started or self._open_hold is not None:
            await self._end("the app did not answer", None)

    async def receive(self) -> Message:
        """Pass on what the client sends."""
        if not self._has_received:
            # Comes before the first message only if that one is waited for.
            asyncio.get_running_loop().call_soon(self._note_waiting)
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            # It was only a look whether something is there.
            self._is_broken = False
            raise
        finally:
            self._has_received = True
        if message["type"] == "http.disconnect":
            self._is_disconnected = True
        else:
            self._is_broken = message.get("more_body", False)
        return message

    def _note_waiting(self) -> None:
        self._is_broken = self._is_broken or not self._has_received

    def send(self, message: Message) -> Awaitable[None]:
        """Pass on what the app sends; the start of the response tells what is left."""
        if self.has_started or message["type"] != _START:
            return self._send(message)
        # Set first: if anything fails from here on, this request is settled once.
        self.has_started = True
        if self._context is None:
            return self._send(message)
        return self._begin_response(message, self._context)

    async def _begin_response(self, message: Message, context: ChargeContext) -> None:
        status, admission = message["status"], self._admission
        if status in admission.refund_statuses or status >= _REDIRECTS_MIN or self._is_disconnected:
            await self._fail_with(message)
        legacy = admission.legacy_fields
        fields = rate_limit_fields(context.decision, context.credits, legacy=legacy)
        headers = with_fields(message.get("headers", ()), fields, legacy=legacy)
        await self._send({**message, "headers": headers})

    async def _fail_with(self, message: Message) -> None:
        status, context = message["status"], self._context
        has_idempotency_key = context is not None and context.decision.keyed_attempt is not None
        if (
            status in self._admission.refund_statuses
            or (has_idempotency_key and status in _ASKS_AGAIN)
            or (self._is_disconnected and self._is_broken)
            or is_slash_redirect(self._scope, message)
        ):
            self._has_failed = True
            await self._give_back(f"the app answered {status}", {"status": status})

    async def _end(self, why: str, metadata: Mapping[str, object] | None) -> None:
        """Give back what was not answered; end a hold that the handler has left open."""
        if not self.has_started:
            await self._give_back(why, metadata)
        if self._open_hold is not None:
            await self._open_hold.finish()

    async def _give_back(self, why: str, metadata: Mapping[str, object] | None) -> None:
        """Give everything back, unless the client has left."""
        context = self._context
        if context is None or (self._is_disconnected and not self._is_broken):
            return
        await give_back(context, why, metadata, self._admission.log)
