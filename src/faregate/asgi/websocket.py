"""One WebSocket connection behind the gate: charged when it connects, and for each message.

It is refused before it is accepted: with a problem if the server can send one (the extension
`websocket.http.response`), else by a close, which clients see as a 403. A connection that the app
refuses is refunded; an accepted one is not. A message beyond the credits closes the connection with
1008 (policy violation, RFC 6455), and the code of the problem as reason.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from faregate.asgi.admission import Admission, Outcome, Refusal
from faregate.asgi.charge_context import ChargeContext
from faregate.asgi.headers import rate_limit_fields, with_fields
from faregate.asgi.open_hold import RequestHold
from faregate.asgi.refunds import give_back
from faregate.asgi.responder import STATE_NAME
from faregate.asgi.rules import Rule
from faregate.domain.decision import Verdict
from faregate.domain.errors import FaregateError

_POLICY_VIOLATION = 1008
_TRY_AGAIN_LATER = 1013


async def serve_websocket(
    app: ASGIApp, admission: Admission, rule: Rule, *, channel: tuple[Scope, Receive, Send]
) -> None:
    """Charge a connection and run the app for it, or refuse it."""
    scope, receive, send = channel
    connect = await receive()
    outcome = await admission.admit(scope, rule)
    if not isinstance(outcome, ChargeContext):
        await _refuse(outcome, admission, scope, send)
        return
    scope.setdefault("state", {})[STATE_NAME] = outcome
    await _Connection(admission, rule, outcome, connect, (receive, send)).run(app, scope)


async def _refuse(outcome: Outcome, admission: Admission, scope: Scope, send: Send) -> None:
    if "websocket.http.response" not in scope.get("extensions", {}):
        reason = outcome.problem.code if isinstance(outcome, Refusal) else ""
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": reason})
        return
    await admission.answer_instead(outcome, scope, send)


class _Connection:
    """An admitted connection."""

    def __init__(
        self,
        admission: Admission,
        rule: Rule,
        context: ChargeContext,
        connect: Message,
        channel: tuple[Receive, Send],
    ) -> None:
        self._admission = admission
        self._rule = rule
        self._context = context
        self._connect: Message | None = connect
        self._receive, self._send = channel
        self._is_accepted = False
        #: A message that the app has not got, since it stopped waiting during the charge.
        self._uncharged: Message | None = None
        #: The disconnect that the app got after a message beyond the credits; it gets nothing more.
        self._ended: Message | None = None

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        gate = self._context.gate
        gate.under_way += 1
        try:
            await self._run(app, scope)
        finally:
            gate.under_way -= 1

    async def _run(self, app: ASGIApp, scope: Scope) -> None:
        hold, open_hold = self._context.hold, None
        if hold is not None:
            ttl_ms, log = self._rule.hold_ttl_ms, self._admission.log
            open_hold = RequestHold(self._context, hold, ttl_ms=ttl_ms, log=log)
        try:
            await app(scope, self.receive, self.send)
        finally:
            if not self._is_accepted:
                why, log = "the connection was not accepted", self._admission.log
                await give_back(self._context, why, None, log)
            if open_hold is not None:
                await open_hold.finish()

    async def receive(self) -> Message:
        if self._connect is not None:
            connect, self._connect = self._connect, None
            return connect
        if self._ended is not None:
            return self._ended
        message, self._uncharged = self._uncharged or await self._receive(), None
        if message["type"] != "websocket.receive" or not self._rule.message_cost:
            return message
        try:
            refused_with = await self._charge_message()
        except asyncio.CancelledError:
            # The charge is voided; the next call charges again.
            self._uncharged = message
            raise
        if refused_with is None:
            return message
        code, reason = refused_with
        await self._send({"type": "websocket.close", "code": code, "reason": reason})
        self._ended = {"type": "websocket.disconnect", "code": code, "reason": reason}
        return self._ended

    async def _charge_message(self) -> tuple[int, str] | None:
        """Charge a message; return code and reason of the close if it is refused."""
        try:
            decision = await self._context.add(self._rule.message_cost, description="message")
        except FaregateError as error:
            log = self._admission.log
            log.warning("connection closed, message not charged: %s", error)
            return _TRY_AGAIN_LATER, "unavailable"
        if decision.allowed:
            return None
        is_overload = decision.verdict is Verdict.OVERLOADED
        return (_TRY_AGAIN_LATER if is_overload else _POLICY_VIOLATION), str(decision.verdict)

    async def send(self, message: Message) -> None:
        if self._ended is not None:
            return
        if message["type"] == "websocket.accept":
            self._is_accepted = True
            decision, legacy = self._context.decision, self._admission.legacy_fields
            fields = rate_limit_fields(decision, self._context.credits, legacy=legacy)
            headers = with_fields(message.get("headers", ()), fields, legacy=legacy)
            message = {**message, "headers": headers}
        await self._send(message)
