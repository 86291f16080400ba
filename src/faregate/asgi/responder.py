"""One HTTP request behind the gate: watches its response, and refunds failures of the app.

Its promises, beyond the mapping in `problems`:

- A refund is recorded before the response starts: for a status that is refunded, for an exception,
  for a request that is cancelled (as by a timeout around the gate), and for an app that returns
  without a response. If Redis does not answer, the refund continues in the background and the
  response is sent.
- A redirect to the same path with or without its last slash is refunded, since its target is
  charged.
- Once the response has started, nothing is refunded, and no header changes.
- A disconnect is not refunded. The app learns of it by `receive`, and often raises then, so nothing
  is refunded after that. But if the body broke off while the app waited for it, the request is
  refunded, since the client cannot have been served.
- An idempotency key is completed before the response ends; see `completion`. A response that asks
  the client to send the request again is refunded, so that the retry is served. If a request fails
  and its charge stands, a retry is served for that charge after the lease.
- A hold is extended as long as its app runs; see `open_hold`.
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

#: The name of the `ChargeContext` in `scope["state"]`.
STATE_NAME = "faregate"

_START = "http.response.start"
#: From this status on, a response may be refunded although its status is not in the list.
_REDIRECTS_MIN = 300
#: Statuses that ask a client to send the same request again: Request Timeout, Conflict, Too Early,
#: Too Many Requests. If such a response were saved for a key, every retry would get it.
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
        #: Whether the app waits for the rest of the request, so that a client that disconnects now
        #: cannot have been served. A body that the app does not read may have arrived.
        self._is_broken = False
        self._is_disconnected = False
        self._has_failed = False
        #: Whether the response has begun.
        self.has_started = False

    def begin(self, context: ChargeContext, rule: Rule) -> None:
        """Begin with the charge of the request."""
        self._context = context
        context.gate.under_way += 1
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
        """Run the app. An exception of the app is raised after its charge is given back."""
        try:
            await app(self._scope, self.receive, self.send)
        except Exception as error:
            name = type(error).__name__
            await self._end("the app failed before it answered", {"exception": name})
            raise
        except asyncio.CancelledError:
            await self._end_cancelled()
            raise
        else:
            if not self.has_started or self._open_hold is not None:
                await self._end("the app did not answer", None)
        finally:
            if self._open_hold is not None:
                self._open_hold.stop()
            if self._context is not None:
                self._context.gate.under_way -= 1

    async def receive(self) -> Message:
        """Pass on a message of the client."""
        if not self._has_received:
            # A disconnect comes before the first message only if the app waits for that one.
            asyncio.get_running_loop().call_soon(self._note_waiting)
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            # The app only polled for a message.
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
        """Pass on a message of the app, with rate limit fields at the start of the response."""
        if self.has_started or message["type"] != _START:
            return self._send(message)
        # Set first, so that the request is settled only once if something fails from here on.
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
        """Refund a request without a response; settle a hold that the handler has left open."""
        if not self.has_started:
            await self._give_back(why, metadata)
        if self._open_hold is not None:
            await self._open_hold.finish()

    async def _end_cancelled(self) -> None:
        if not self.has_started:
            await self._give_back("the request was cancelled before it was answered", None)
        if self._open_hold is not None:
            await self._open_hold.finish_cancelled()

    async def _give_back(self, why: str, metadata: Mapping[str, object] | None) -> None:
        """Give everything back, unless the client has disconnected."""
        context = self._context
        if context is None or (self._is_disconnected and not self._is_broken):
            return
        await give_back(context, why, metadata, self._admission.log)
